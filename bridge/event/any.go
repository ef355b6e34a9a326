package event

import (
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Salt's own msgpack extensions (salt/payload.py, ext_type_encoder).
const (
	extDatetime = 78 // text such as 20240229T12:30:15.123456
	extConstant = 79 // msgpack of (name, value)
)

// Any decodes one whole msgpack value, for where all of it is to be shown. The
// result is made of map[string]any, []any, string, int64, float64, bool and
// nil, and of []byte where text is not UTF-8. What has no place in JSON becomes
// text: keys of every type, dates and constants of Salt, NaN, and integers over
// 63 bits, as Salt does with those over 64.
func Any(raw []byte) (any, error) {
	if err := check(raw); err != nil {
		return nil, fmt.Errorf("decode value: %w", err)
	}
	value, _ := decode(raw)
	return value, nil
}

// decode reads the value that raw begins with, and returns what follows it. The
// scan before it has bounded its depth.
func decode(raw []byte) (value any, rest []byte) {
	h, _ := parse(raw)
	rest = raw[h.width:]
	switch h.class {
	case array:
		list := make([]any, h.n)
		for i := range list {
			list[i], rest = decode(rest)
		}
		return list, rest
	case object:
		object := make(map[string]any, h.n/2)
		for range h.n / 2 {
			var key any
			key, rest = decode(rest)
			object[keyText(key)], rest = decode(rest)
		}
		return object, rest
	case text:
		return textOrBytes(rest[:h.n]), rest[h.n:]
	case extension:
		return extensionText(raw[h.width-1], rest[:h.n]), rest[h.n:]
	default:
		return plain(scalarOf(raw[:h.width])), rest
	}
}

func textOrBytes(b []byte) any {
	if utf8.Valid(b) {
		return string(b)
	}
	return append([]byte(nil), b...)
}

// plain returns numbers that JSON lacks as text.
func plain(scalar any) any {
	switch v := scalar.(type) {
	case uint64:
		return strconv.FormatUint(v, 10)
	case float64:
		if math.IsNaN(v) || math.IsInf(v, 0) {
			return strconv.FormatFloat(v, 'g', -1, 64)
		}
	}
	return scalar
}

func extensionText(kind byte, payload []byte) any {
	if kind == extConstant {
		constant := elementsOf(payload)
		if constant.next() {
			if name := textOf(constant.value); name != nil {
				return textOrBytes(name)
			}
		}
	}
	return textOrBytes(payload) // extDatetime is text already
}

// keyText makes a key of anything that Python takes for one: JSON's text of it.
func keyText(key any) string {
	switch k := key.(type) {
	case string:
		return k
	case []byte:
		return strings.ToValidUTF8(string(k), "\uFFFD")
	}
	text, err := json.Marshal(key)
	if err != nil {
		return fmt.Sprint(key)
	}
	return string(text)
}
