package dynamodb

import (
	"cmp"
	"errors"
	"math/big"
	"strconv"
	"strings"
)

const (
	maxDigits   = 38
	maxExponent = 125  // of the most significant digit: 9.9…E+125 is the largest magnitude
	minExponent = -130 // 1E-130 is the smallest magnitude above zero
)

// Number is a DynamoDB number: a decimal of at most 38 significant digits. Equal values are equal structs
// (1.0 == 1), so Numbers may be compared with == and used as map keys. The zero value is 0.
type Number struct {
	negative bool
	exponent int16  // value = 0.digits × 10^exponent
	digits   string // no leading and no trailing zeros; empty for zero
}

// parseNumber reads a number the way DynamoDB does. The error is the text that AWS gives.
func parseNumber(text string) (Number, error) {
	if text == "" {
		return Number{}, invalid("The parameter cannot be converted to a numeric value")
	}
	malformed := func() (Number, error) {
		return Number{}, invalid("The parameter cannot be converted to a numeric value: %s", text)
	}
	var n Number
	mantissa := text
	if mantissa[0] == '-' || mantissa[0] == '+' {
		n.negative = mantissa[0] == '-'
		mantissa = mantissa[1:]
	}
	exponent := 0
	if i := strings.IndexAny(mantissa, "eE"); i >= 0 {
		e, err := strconv.Atoi(mantissa[i+1:])
		if err != nil && !errors.Is(err, strconv.ErrRange) {
			return malformed()
		}
		exponent = max(-1_000_000, min(e, 1_000_000))
		mantissa = mantissa[:i]
	}
	whole, fraction, _ := strings.Cut(mantissa, ".")
	if whole == "" && fraction == "" || !allDigits(whole) || !allDigits(fraction) {
		return malformed()
	}
	return normalise(n.negative, whole+fraction, exponent+len(whole))
}

func allDigits(s string) bool {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return true
}

// normalise builds the number ±0.digits × 10^exponent and checks DynamoDB's limits.
func normalise(negative bool, digits string, exponent int) (Number, error) {
	stripped := strings.TrimLeft(digits, "0")
	exponent -= len(digits) - len(stripped)
	stripped = strings.TrimRight(stripped, "0")
	switch {
	case stripped == "":
		return Number{}, nil
	case exponent-1 > maxExponent:
		return Number{}, invalid("Number overflow. Attempting to store a number with magnitude larger than supported range")
	case exponent-1 < minExponent:
		return Number{}, invalid("Number underflow. Attempting to store a number with magnitude smaller than supported range")
	case len(stripped) > maxDigits:
		return Number{}, invalid("Attempting to store more than 38 significant digits in a Number")
	}
	return Number{negative: negative, exponent: int16(exponent), digits: stripped}, nil
}

// String gives the number as DynamoDB answers it: plain decimal notation, no exponent, no superfluous zeros.
func (n Number) String() string {
	if n.digits == "" {
		return "0"
	}
	var b strings.Builder
	if n.negative {
		b.WriteByte('-')
	}
	switch exponent := int(n.exponent); {
	case exponent <= 0:
		b.WriteString("0.")
		b.WriteString(strings.Repeat("0", -exponent))
		b.WriteString(n.digits)
	case exponent >= len(n.digits):
		b.WriteString(n.digits)
		b.WriteString(strings.Repeat("0", exponent-len(n.digits)))
	default:
		b.WriteString(n.digits[:exponent])
		b.WriteByte('.')
		b.WriteString(n.digits[exponent:])
	}
	return b.String()
}

// Compare gives -1, 0 or 1 by value.
func (n Number) Compare(m Number) int {
	if n.sign() != m.sign() {
		return cmp.Compare(n.sign(), m.sign())
	}
	magnitude := int(n.exponent) - int(m.exponent)
	if magnitude == 0 {
		magnitude = strings.Compare(n.digits, m.digits)
	}
	if n.negative {
		magnitude = -magnitude
	}
	return max(-1, min(magnitude, 1))
}

func (n Number) sign() int {
	switch {
	case n.digits == "":
		return 0
	case n.negative:
		return -1
	}
	return 1
}

// plus adds exactly. A sum that needs more than 38 digits is refused, with the message that AWS gives for it,
// which speaks of overflow.
func (n Number) plus(m Number) (Number, error) {
	scale := min(int(n.exponent)-len(n.digits), int(m.exponent)-len(m.digits))
	sum := new(big.Int).Add(n.scaled(scale), m.scaled(scale))
	digits := sum.Text(10)
	negative := strings.HasPrefix(digits, "-")
	digits = strings.TrimPrefix(digits, "-")
	if len(strings.TrimRight(digits, "0")) > maxDigits {
		return Number{}, invalid("Number overflow. Attempting to store a number with magnitude larger than supported range")
	}
	return normalise(negative, digits, len(digits)+scale)
}

// scaled gives n ÷ 10^scale, which is an integer for every scale up to that of n's last digit.
func (n Number) scaled(scale int) *big.Int {
	i := new(big.Int)
	if n.digits == "" {
		return i
	}
	i.SetString(n.digits+strings.Repeat("0", int(n.exponent)-len(n.digits)-scale), 10)
	if n.negative {
		i.Neg(i)
	}
	return i
}

func (n Number) negated() Number {
	if n.digits != "" {
		n.negative = !n.negative
	}
	return n
}

// size counts the bytes that DynamoDB charges: one, and one for each pair of decimal digits aligned at the
// decimal point, and one for a minus sign.
func (n Number) size() int {
	if n.digits == "" {
		return 1
	}
	bytes := 1 + (len(n.digits)+1)/2
	if len(n.digits)%2 == 0 && (n.exponent-1)%2 == 0 {
		bytes++
	}
	if n.negative {
		bytes++
	}
	return bytes
}

// appendSortable appends an encoding whose byte order is the order of the values.
func (n Number) appendSortable(b []byte) []byte {
	const bias = 130
	switch n.sign() {
	case 0:
		return append(b, 1)
	case 1:
		b = append(b, 2, byte(int(n.exponent)+bias-1))
		return append(b, n.digits...)
	}
	b = append(b, 0, 255-byte(int(n.exponent)+bias-1))
	for i := range len(n.digits) {
		b = append(b, '0'+'9'-n.digits[i])
	}
	return append(b, 0xFF) // after every digit: -5 sorts behind -5.1
}
