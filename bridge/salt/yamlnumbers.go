package salt

import (
	"math"
	"regexp"
	"strconv"
	"strings"
)

// floats are the forms that PyYAML takes for floats, which 1e3 is not.
var floats = regexp.MustCompile(`^([-+]?[0-9][0-9_]*\.[0-9_]*([eE][-+][0-9]+)?|\.[0-9][0-9_]*([eE][-+][0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN))$`)

func float(s string) (float64, bool) {
	if !floats.MatchString(s) {
		return 0, false
	}
	s = strings.ReplaceAll(s, "_", "")
	if letters := strings.TrimLeft(s, "+-."); len(letters) == 3 && (letters[0]|0x20 == 'i' || letters[0]|0x20 == 'n') {
		s = strings.Replace(s, ".", "", 1)
	}
	f, err := strconv.ParseFloat(s, 64)
	return f, err == nil
}

// python is Python's text of a float: 1.5, 1000.0, 1e+16, inf.
func python(f float64) string {
	switch {
	case math.IsInf(f, 1):
		return "inf"
	case math.IsInf(f, -1):
		return "-inf"
	case math.IsNaN(f):
		return "nan"
	case f != 0 && (math.Abs(f) >= 1e16 || math.Abs(f) < 1e-4):
		return strconv.FormatFloat(f, 'e', -1, 64)
	}
	text := strconv.FormatFloat(f, 'f', -1, 64)
	if !strings.Contains(text, ".") {
		text += ".0"
	}
	return text
}

// integer reads 4506, +4506, 4_506, 0x119a, 1:15:06 and, as Salt does, 04506 as a
// decimal.
func integer(s string) (int, bool) {
	if s[0] == '_' {
		return 0, false
	}
	digits := strings.ReplaceAll(s, "_", "")
	sign := ""
	if digits[0] == '-' || digits[0] == '+' {
		sign, digits = digits[:1], digits[1:]
	}
	base := 10
	switch {
	case strings.HasPrefix(digits, "0x"):
		base, digits = 16, digits[2:]
	case strings.HasPrefix(digits, "0b"):
		base, digits = 2, digits[2:]
	}
	if digits == "" || strings.ContainsAny(digits, "+-") {
		return 0, false
	}
	if base == 10 && sexagesimal.MatchString(digits) {
		n := 0
		for part := range strings.SplitSeq(digits, ":") {
			i, err := strconv.Atoi(part)
			if err != nil || n > math.MaxInt32 {
				return 0, false
			}
			n = n*60 + i
		}
		if sign == "-" {
			n = -n
		}
		return n, true
	}
	i, err := strconv.ParseInt(sign+digits, base, 64)
	return int(i), err == nil
}

// sexagesimal is a number to the base of 60.
var sexagesimal = regexp.MustCompile(`^[1-9][0-9]*(:[0-5]?[0-9])+$`)
