package dynamo

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/waybillhq/waybill/shared/delivery"
	"github.com/waybillhq/waybill/shared/ledger"
)

// Attribute names of a row.
const (
	attrDelivery   = "delivery"
	attrState      = "state"
	attrEpoch      = "epoch"
	attrAttempt    = "attempt"
	attrOwner      = "owner"
	attrLeaseUntil = "leaseUntil"
	attrCode       = "code"
	attrReason     = "reason"
	attrUpdatedAt  = "updatedAt"
	attrExpiresAt  = "expiresAt"
)

// MaxReasonBytes bounds the reason that is kept in a row. With it a row needs less than 750 of the 1,024 bytes that one
// write unit pays for, ids and owners of Waybill's length assumed.
const MaxReasonBytes = 512

type row = map[string]types.AttributeValue

func text(s string) types.AttributeValue { return &types.AttributeValueMemberS{Value: s} }

func number[T int | int64](n T) types.AttributeValue {
	return &types.AttributeValueMemberN{Value: strconv.FormatInt(int64(n), 10)}
}

func stateText(s ledger.State) types.AttributeValue { return text(string(s)) }

func key(id delivery.ID) row { return row{attrDelivery: text(string(id))} }

// millis and seconds write the zero time as 0, which is "over" to a comparison and "never" to DynamoDB's TTL, which leaves
// alone what expired more than five years ago.
func millis(t time.Time) types.AttributeValue {
	if t.IsZero() {
		return number(0)
	}
	return number(t.UnixMilli())
}

func seconds(t time.Time) types.AttributeValue {
	if t.IsZero() {
		return number(0)
	}
	return number(t.Unix())
}

// boundedReason cuts a reason at a character boundary.
func boundedReason(s string) types.AttributeValue {
	s = strings.ToValidUTF8(s, "\uFFFD")
	if len(s) > MaxReasonBytes {
		end := MaxReasonBytes
		for !utf8.RuneStart(s[end]) {
			end--
		}
		s = s[:end]
	}
	return text(s)
}

// decode reads a row; no row gives nil. A row that lacks what the protocol decides by, or says it in a way that this release
// does not know, is an error: it must be looked at, not guessed at.
func decode(r row) (*ledger.Item, error) {
	if len(r) == 0 {
		return nil, nil
	}
	d := decoder{row: r}
	item := &ledger.Item{
		Delivery:   delivery.ID(d.text(attrDelivery, true)),
		State:      ledger.State(d.text(attrState, true)),
		Epoch:      d.count(attrEpoch, true),
		Attempt:    d.count(attrAttempt, true),
		Owner:      d.text(attrOwner, true),
		LeaseUntil: d.instant(attrLeaseUntil, true, time.UnixMilli),
		Code:       d.count(attrCode, false),
		Reason:     d.text(attrReason, false),
		UpdatedAt:  d.instant(attrUpdatedAt, false, time.UnixMilli),
		ExpiresAt:  d.instant(attrExpiresAt, false, func(s int64) time.Time { return time.Unix(s, 0) }),
	}
	switch item.State {
	case ledger.Claimed, ledger.Waiting, ledger.Delivered, ledger.Dead:
	default:
		d.fail(attrState, fmt.Sprintf("has the unknown value %.40q", item.State))
	}
	if len(d.problems) > 0 {
		return nil, fmt.Errorf("the row cannot be read, was it written by hand or by a newer release? %w", errors.Join(d.problems...))
	}
	return item, nil
}

// decoder collects what is wrong with a row, so that one look at the error tells all of it.
type decoder struct {
	row      row
	problems []error
}

func (d *decoder) fail(name, problem string) {
	d.problems = append(d.problems, fmt.Errorf("attribute %q %s", name, problem))
}

func (d *decoder) text(name string, required bool) string {
	v, ok := d.row[name]
	if !ok {
		if required {
			d.fail(name, "is missing")
		}
		return ""
	}
	s, ok := v.(*types.AttributeValueMemberS)
	if !ok {
		d.fail(name, "is no string")
		return ""
	}
	return s.Value
}

func (d *decoder) integer(name string, required bool) int64 {
	v, ok := d.row[name]
	if !ok {
		if required {
			d.fail(name, "is missing")
		}
		return 0
	}
	n, ok := v.(*types.AttributeValueMemberN)
	if !ok {
		d.fail(name, "is no number")
		return 0
	}
	i, err := strconv.ParseInt(n.Value, 10, 64)
	if err != nil {
		d.fail(name, "is no whole number of 64 bits")
	}
	return i
}

func (d *decoder) count(name string, required bool) int {
	return int(d.integer(name, required))
}

func (d *decoder) instant(name string, required bool, from func(int64) time.Time) time.Time {
	n := d.integer(name, required)
	if n == 0 {
		return time.Time{}
	}
	return from(n)
}
