package dynamo

import (
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/waybillhq/waybill/shared/breaker"
	"github.com/waybillhq/waybill/shared/delivery"
)

type attributes = map[string]types.AttributeValue

// Names of attributes. Those of counts carry the number of their slot behind the prefix.
const (
	attrPart            = "part"
	attrRow             = "row"
	attrTurn            = "turn"
	attrPhase           = "phase"
	attrUntil           = "until"
	attrProbe           = "probe"
	attrTrips           = "trips"
	attrRecoveringSince = "recoveringSince"
	attrStreak          = "streak"
	attrSucceededAt     = "succeededAt"
	attrSuspectSince    = "suspectSince"
	attrThrottledAt     = "throttledAt"
	attrThrottledUntil  = "throttledUntil"
	attrAt              = "at"
	attrExpires         = "expiresAt"

	prefixSuccesses = "s#"
	prefixFailures  = "f#"
)

const partHealth = "health"

// keep is how long a row stays after it was last written: far longer than anything in it counts. DynamoDB deletes days later.
const keep = 30 * 24 * time.Hour

// expires is when a row may go that was last written at a time, in seconds since 1970 as DynamoDB wants it.
func expires(at time.Time) int64 { return at.Add(keep).Unix() }

func str(s string) types.AttributeValue { return &types.AttributeValueMemberS{Value: s} }

func num(n int64) types.AttributeValue {
	return &types.AttributeValueMemberN{Value: strconv.FormatInt(n, 10)}
}

func key(destination string) attributes {
	return attributes{attrPart: str(partHealth), attrRow: str(destination)}
}

func slotName(prefix string, s breaker.Slot) string { return prefix + strconv.FormatInt(int64(s), 10) }

// encode gives the attributes of a row besides its key. What is nothing has none.
func encode(r breaker.Row) attributes {
	item := attributes{attrTurn: num(r.Turn)}
	texts := func(name, value string) {
		if value != "" {
			item[name] = str(value)
		}
	}
	numbers := func(name string, value int) {
		if value != 0 {
			item[name] = num(int64(value))
		}
	}
	times := func(name string, value time.Time) {
		if !value.IsZero() {
			item[name] = num(value.UnixMilli())
		}
	}
	texts(attrPhase, string(r.Phase))
	texts(attrProbe, string(r.Probe))
	numbers(attrTrips, r.Trips)
	numbers(attrStreak, r.Streak)
	times(attrUntil, r.Until)
	times(attrRecoveringSince, r.RecoveringSince)
	times(attrSucceededAt, r.SucceededAt)
	times(attrSuspectSince, r.SuspectSince)
	times(attrThrottledAt, r.ThrottledAt)
	times(attrThrottledUntil, r.ThrottledUntil)
	times(attrAt, r.At)
	for s, c := range r.Slots {
		numbers(slotName(prefixSuccesses, s), c.Successes)
		numbers(slotName(prefixFailures, s), c.Failures)
	}
	return item
}

// decode reads a row as far as it can. What is missing or of another type stays zero, and so does a phase of another release: its destination is not held.
func decode(item attributes) breaker.Row {
	r := breaker.Row{
		Turn: integer(item, attrTurn), Phase: breaker.Phase(text(item, attrPhase)), Until: instant(item, attrUntil), Probe: delivery.ID(text(item, attrProbe)),
		Trips: int(integer(item, attrTrips)), RecoveringSince: instant(item, attrRecoveringSince), Streak: int(integer(item, attrStreak)),
		SucceededAt: instant(item, attrSucceededAt), SuspectSince: instant(item, attrSuspectSince),
		ThrottledAt: instant(item, attrThrottledAt), ThrottledUntil: instant(item, attrThrottledUntil), At: instant(item, attrAt),
	}
	if r.Phase != breaker.Open && r.Phase != breaker.Probing {
		r.Phase = breaker.Closed
	}
	for name := range item {
		if digits, is := strings.CutPrefix(name, prefixSuccesses); is {
			count(&r, digits, breaker.Count{Successes: int(integer(item, name))})
		} else if digits, is := strings.CutPrefix(name, prefixFailures); is {
			count(&r, digits, breaker.Count{Failures: int(integer(item, name))})
		}
	}
	return r
}

func count(r *breaker.Row, digits string, c breaker.Count) {
	n, err := strconv.ParseInt(digits, 10, 64)
	if err != nil {
		return
	}
	if r.Slots == nil {
		r.Slots = map[breaker.Slot]breaker.Count{}
	}
	s := breaker.Slot(n)
	r.Slots[s] = breaker.Count{Successes: r.Slots[s].Successes + c.Successes, Failures: r.Slots[s].Failures + c.Failures}
}

func text(item attributes, name string) string {
	if s, ok := item[name].(*types.AttributeValueMemberS); ok {
		return s.Value
	}
	return ""
}

func integer(item attributes, name string) int64 {
	if n, ok := item[name].(*types.AttributeValueMemberN); ok {
		if i, err := strconv.ParseInt(n.Value, 10, 64); err == nil {
			return i
		}
	}
	return 0
}

func instant(item attributes, name string) time.Time {
	if ms := integer(item, name); ms != 0 {
		return time.UnixMilli(ms)
	}
	return time.Time{}
}
