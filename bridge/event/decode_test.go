package event

import (
	"encoding/json"
	"math"
	"reflect"
	"testing"

	"github.com/vmihailenco/msgpack/v5"
)

func TestOutcome(t *testing.T) {
	type ints map[string]any
	absent := msgpack.RawMessage(nil)
	for name, test := range map[string]struct {
		retcode, success any
		code             int
	}{
		"success":                       {0, true, 0},
		"failure":                       {2, false, 2},
		"a lie of scheduled jobs":       {2, true, 2},
		"success denied":                {0, false, 1},
		"killed":                        {-15, false, -15},
		"no success":                    {0, absent, 0},
		"no retcode":                    {absent, true, 0},
		"no retcode, failure":           {absent, false, 1},
		"neither":                       {absent, absent, 1},
		"nil":                           {nil, nil, 1},
		"bool":                          {true, false, 1},
		"text":                          {"0", true, 1},
		"large":                         {uint64(math.MaxUint64), false, math.MaxInt},
		"several":                       {ints{"a": 0, "b": 0}, ints{"a": true, "b": true}, 0},
		"several, one fails":            {ints{"a": 0, "b": 3, "c": 2}, ints{"a": true, "b": false, "c": false}, 3},
		"several, one killed":           {ints{"a": 0, "b": -9}, ints{"a": true, "b": false}, -9},
		"several, one raised":           {ints{"a": 0}, ints{"a": true, "b": false}, 1},
		"in order":                      {[]any{0, 0}, []any{true, true}, 0},
		"in order, one fails":           {[]any{0, 5}, []any{true, false}, 5},
		"in order, one raised":          {[]any{0, nil}, []any{true, false}, 1},
		"several, none":                 {ints{}, ints{}, 1},
		"several retcodes, one success": {ints{"a": 0, "b": 0}, true, 0},
	} {
		raw := func(v any) []byte {
			if v, ok := v.(msgpack.RawMessage); ok {
				return v
			}
			return pack(t, v)
		}
		if code, ok := outcome(raw(test.retcode), raw(test.success)); code != test.code || ok != (code == 0) {
			t.Errorf("%s: %d, %t, want %d", name, code, ok, test.code)
		}
	}
}

func TestFun(t *testing.T) {
	for want, fun := range map[string]any{
		"test.ping":            "test.ping",
		"state.highstate":      []byte("state.highstate"),
		"test.ping,grains.get": []string{"test.ping", "grains.get"},
		"a,,b":                 []any{"a", 1, []byte("b")},
		"":                     nil,
	} {
		if got := joined(pack(t, fun)); got != want {
			t.Errorf("%v: %q", fun, got)
		}
	}
}

func TestBusy(t *testing.T) {
	const busy = `The function "state.highstate" is running as PID 4711 and was started at 2024, Feb 29 12:00:00.000000 with jid 20240229120000000000`
	for name, test := range map[string]struct {
		body any
		want bool
	}{
		"busy":           {[]string{busy}, true},
		"busy, bin":      {[][]byte{[]byte(busy)}, true},
		"busy twice":     {[]string{busy, busy}, true},
		"beside another": {[]any{"x", 1, busy}, true},
		"other errors":   {[]string{"Rendering SLS 'base:x' failed"}, false},
		"within a text":  {[]string{"I heard: " + busy}, false},
		"other function": {[]string{`The function "cmd.run" is running as PID 4711`}, false},
		"bare text":      {busy, false},
		"map":            {map[string]string{busy: busy}, false},
		"nothing":        {[]string{}, false},
		"nil":            {nil, false},
	} {
		if got := Busy(pack(t, test.body)); got != test.want {
			t.Errorf("%s: %t", name, got)
		}
	}
	if Busy(nil) || Busy(join(pack(t, []string{busy}), []byte{0})) {
		t.Error("malformed body is busy")
	}
}

func TestAny(t *testing.T) {
	// By hand, since the library encodes no such maps: {k: 1}.
	keyed := func(key ...byte) []byte { return join([]byte{0x81}, key, []byte{1}) }
	one := int64(1)
	for name, test := range map[string]struct {
		raw  []byte
		want any
	}{
		"int key":          {keyed(0xff), map[string]any{"-1": one}},
		"nil key":          {keyed(0xc0), map[string]any{"null": one}},
		"bool key":         {keyed(0xc3), map[string]any{"true": one}},
		"float key":        {keyed(0xca, 0x3f, 0, 0, 0), map[string]any{"0.5": one}},
		"bin key":          {keyed(0xc4, 1, 'k'), map[string]any{"k": one}},
		"binary key":       {keyed(0xa1, 0xff), map[string]any{"\uFFFD": one}},
		"tuple key":        {keyed(0x92, 0xa1, 'a', 1), map[string]any{`["a",1]`: one}},
		"map key":          {keyed(0x81, 1, 2), map[string]any{`{"1":2}`: one}},
		"datetime key":     {keyed(0xc7, 3, 78, 'n', 'o', 'w'), map[string]any{"now": one}},
		"duplicate keys":   {[]byte{0x82, 1, 2, 1, 1}, map[string]any{"1": one}},
		"constant":         {[]byte{0xc7, 4, 79, 0x92, 0xa1, 'X', 1}, "X"},
		"broken constant":  {[]byte{0xc7, 2, 79, 0x92, 0xa5}, []byte{0x92, 0xa5}},
		"unknown ext":      {[]byte{0xd4, 5, 'x'}, "x"},
		"ext without data": {[]byte{0xc7, 0, 78}, ""},
		"binary":           {[]byte{0xc4, 1, 0xff}, []byte{0xff}},
		"int8":             {[]byte{0xd0, 0x80}, int64(-128)},
		"int16":            {[]byte{0xd1, 0x80, 0}, int64(-32768)},
		"int32":            {[]byte{0xd2, 0xff, 0xff, 0xff, 0xfe}, int64(-2)},
		"int64":            {[]byte{0xd3, 0x80, 0, 0, 0, 0, 0, 0, 0}, int64(math.MinInt64)},
		"uint8":            {[]byte{0xcc, 0xff}, int64(255)},
		"uint64":           {[]byte{0xcf, 0x7f, 255, 255, 255, 255, 255, 255, 255}, int64(math.MaxInt64)},
		"uint64, large":    {[]byte{0xcf, 255, 255, 255, 255, 255, 255, 255, 255}, "18446744073709551615"},
		"NaN":              {[]byte{0xca, 0x7f, 0xc0, 0, 0}, "NaN"},
		"infinity":         {[]byte{0xcb, 0xff, 0xf0, 0, 0, 0, 0, 0, 0}, "-Inf"},
		"nil":              {[]byte{0xc0}, nil},
		"empty":            {[]byte{0x92, 0x80, 0x90}, []any{map[string]any{}, []any{}}},
	} {
		got, err := Any(test.raw)
		if err != nil || !reflect.DeepEqual(got, test.want) {
			t.Errorf("%s: %#v, %v, want %#v", name, got, err, test.want)
		}
		if _, err := json.Marshal(got); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// The structs of an event need their strings, and no more.
func TestDecodingAllocates(t *testing.T) {
	for name, most := range map[string]float64{"auth-pend": 2, "key-accept": 2, "start": 1, "ret-highstate": 3,
		"ret-highstate-busy": 3} {
		e := split(t, golden(t, "3008.3", name))
		if n := testing.AllocsPerRun(20, func() {
			if _, err := decodeAs(e); err != nil {
				t.Fatal(err)
			}
		}); n > most+1 { // the interface that decodeAs returns
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}
