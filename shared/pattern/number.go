package pattern

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/waybillhq/waybill/shared/pattern/jsontree"
)

// micros is a number in millionths, which is as exact as EventBridge compares.
type micros int64

// maxMicros is 5e9, the largest number that EventBridge compares; the least is its negative.
const maxMicros micros = 5_000_000_000_000_000

// parseMicros reads a JSON number. exact is false if it has other digits than 0 after the sixth decimal, which are
// ignored; ok is false beyond the limits. Its cost grows with the text, not with the exponent.
func parseMicros(text string) (value micros, exact, ok bool) {
	unsigned := strings.TrimPrefix(text, "-")
	mantissa, exponent := unsigned, 0
	if e := strings.IndexAny(unsigned, "eE"); e >= 0 {
		mantissa = unsigned[:e]
		var err error
		if exponent, err = strconv.Atoi(unsigned[e+1:]); err != nil || exponent > math.MaxInt32 || exponent < math.MinInt32 {
			exponent = math.MaxInt32 // beyond any mantissa's length
			if unsigned[e+1] == '-' {
				exponent = math.MinInt32
			}
		}
	}
	whole, fraction, _ := strings.Cut(mantissa, ".")
	digits := strings.TrimLeft(whole+fraction, "0")
	// The value is 0.digits × 10^point; millionths are its first point+6 digits.
	point := exponent + len(whole) - (len(whole) + len(fraction) - len(digits))
	digits = strings.TrimRight(digits, "0")
	kept := point + 6
	switch {
	case digits == "":
		return 0, true, true
	case kept <= 0:
		return 0, false, true
	case point > len("5000000000"):
		return 0, false, false
	}
	for i := range kept {
		value *= 10
		if i < len(digits) {
			value += micros(digits[i] - '0')
		}
	}
	if len(unsigned) < len(text) {
		value = -value
	}
	return value, len(digits) <= kept, -maxMicros <= value && value <= maxMicros
}

const numericFix = `write [">", 0] or [">", 0, "<=", 5]`

// compileNumeric compiles one comparison, or a lower bound and an upper bound in this order.
func compileNumeric(c *compiler, at place, argument *jsontree.Node, to *leaf) {
	switch n := len(argument.Items); {
	case at.attribute:
		c.fail(at.path, argument.Offset, "compares numbers, and attributes are strings",
			`compare a field of "data", or the attribute's text`)
	case argument.Kind != jsontree.Array:
		c.fail(at.path, argument.Offset, "needs an array, is "+argument.Kind.String(), numericFix)
	case n == 2:
		if sign, v, ok := c.comparison(at, argument, 0, "=", "<", "<=", ">", ">="); ok {
			to.numeric(anyNumber().narrow(sign, v))
		}
	case n == 4:
		above, low, okLow := c.comparison(at, argument, 0, ">", ">=")
		below, high, okHigh := c.comparison(at, argument, 2, "<", "<=")
		if !okLow || !okHigh {
			return
		}
		within := anyNumber().narrow(above, low).narrow(below, high)
		if low >= high || within.low > within.high {
			c.fail(at.path, argument.Offset, "the first bound must be less than the second", `a single number is ["=", …]`)
			return
		}
		to.numeric(within)
	default:
		c.fail(at.path, argument.Offset, fmt.Sprintf("needs one comparison or two, which are 2 or 4 values, holds %d", n), numericFix)
	}
}

// comparison reads the sign at item i and the number after it.
func (c *compiler) comparison(at place, list *jsontree.Node, i int, signs ...string) (string, micros, bool) {
	sign, number := list.Items[i], list.Items[i+1]
	switch {
	case sign.Kind != jsontree.String || !slices.Contains(signs, sign.Text):
		c.fail(at.index(i).path, sign.Offset, "is not a comparison that can stand here",
			"use one of "+strings.Join(signs, " ")+"; a range names its lower bound first")
	case number.Kind != jsontree.Number:
		c.fail(at.index(i+1).path, number.Offset, "needs a number, is "+number.Kind.String(), numericFix)
	default:
		v, exact, ok := parseMicros(number.Text)
		switch {
		case !ok:
			c.fail(at.index(i+1).path, number.Offset, "is too large to compare", "use -5e9 to 5e9")
		case !exact:
			c.fail(at.index(i+1).path, number.Offset, "has more than six decimals", "round it")
		}
		return sign.Text, v, ok && exact
	}
	return "", 0, false
}

// span is a range of numbers, both ends included.
type span struct{ low, high micros }

func anyNumber() span { return span{-maxMicros, maxMicros} }

func (s span) narrow(sign string, v micros) span {
	switch sign {
	case "=":
		return span{v, v}
	case "<":
		s.high = v - 1
	case "<=":
		s.high = v
	case ">":
		s.low = v + 1
	case ">=":
		s.low = v
	}
	return s
}

func (s span) contains(v micros) bool { return s.low <= v && v <= s.high }

func (l *leaf) numeric(within span) {
	l.test(func(s scalar) bool {
		if s.kind != jsontree.Number {
			return false
		}
		v, _, ok := parseMicros(s.text)
		return ok && within.contains(v)
	}, key{kind: inSpan, span: within})
}
