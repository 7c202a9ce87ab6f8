package dynamo

import (
	"regexp"
	"strings"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/waybillhq/waybill/shared/ledger"
)

// The conditions of the protocol. Each line below the first is a way to be permitted; together they are exactly
// ledger.Decide, SettleAllowed, ReleaseAllowed and RecordAllowed. They name the states that may be written over instead of the ones that
// may not, so that a state of a newer release is safe from this one.
const (
	// A claim takes what is absent, what an earlier epoch closed (delivered only for a replay), an earlier attempt of its epoch that
	// waits for its successor, any claim up to its own whose lease is over, and its own claim.
	claimCondition = `attribute_not_exists(#delivery)
		OR (#epoch < :epoch AND #state IN (:waiting, :dead))
		OR (#epoch = :epoch AND #attempt < :attempt AND #state = :waiting)
		OR (#epoch < :epoch AND #state = :claimed AND #leaseUntil <= :now)
		OR (#epoch = :epoch AND #attempt <= :attempt AND #state = :claimed AND #leaseUntil <= :now)
		OR (#epoch = :epoch AND #attempt = :attempt AND #state = :claimed AND #owner = :owner)`

	// A record takes what is absent, what it wrote itself, whatever is of an earlier epoch (delivered only for a replay), an earlier
	// attempt of its epoch that is not closed, and the result of its own attempt that is waiting.
	recordCondition = `attribute_not_exists(#delivery)
		OR (#owner = :owner AND #epoch = :epoch AND #attempt = :attempt)
		OR (#epoch < :epoch AND #state IN (:claimed, :waiting, :dead))
		OR (#epoch = :epoch AND #attempt < :attempt AND #state IN (:claimed, :waiting))
		OR (#epoch = :epoch AND #attempt = :attempt AND #state = :waiting)`

	settleCondition  = `#owner = :owner AND #epoch = :epoch AND #attempt = :attempt`
	releaseCondition = `#state = :claimed AND #owner = :owner AND #epoch = :epoch AND #attempt = :attempt`

	// A claim leaves code and reason of the last attempt standing: they are news until the next result.
	claimUpdate = `SET #state = :claimed, #epoch = :epoch, #attempt = :attempt, #owner = :owner, #leaseUntil = :lease,
		#updatedAt = :now, #expiresAt = :expires`
	recordUpdate = `SET #state = :state, #epoch = :epoch, #attempt = :attempt, #owner = :owner, #leaseUntil = :zero,
		#code = :code, #reason = :reason, #updatedAt = :now, #expiresAt = :expires`
	settleUpdate  = `SET #state = :state, #code = :code, #reason = :reason, #updatedAt = :now, #expiresAt = :expires`
	releaseUpdate = `SET #leaseUntil = :zero, #updatedAt = :now`
)

// ofReplay is the same condition for a replay, which takes what an earlier epoch delivered, too.
func ofReplay(condition string) string {
	return strings.Replace(condition, ":waiting, :dead)", ":waiting, :dead, :delivered)", 1)
}

// expression is one conditional write, ready to be sent. DynamoDB refuses names and values that an expression does not use, so
// both are derived from its text. All names are given as placeholders: state and owner are reserved words.
type expression struct {
	update, condition string
	names             map[string]string
	states            row // the constants among the values
}

var placeholder = regexp.MustCompile(`[#:]\w+`)

func compile(update, condition string) expression {
	e := expression{update: oneLine(update), condition: oneLine(condition), names: map[string]string{}, states: row{}}
	constants := row{
		":claimed": stateText(ledger.Claimed), ":waiting": stateText(ledger.Waiting),
		":delivered": stateText(ledger.Delivered), ":dead": stateText(ledger.Dead), ":zero": number(0),
	}
	for _, p := range placeholder.FindAllString(update+" "+condition, -1) {
		if p[0] == '#' {
			e.names[p] = p[1:]
		} else if v, ok := constants[p]; ok {
			e.states[p] = v
		}
	}
	return e
}

func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }

// expressions are the conditional writes of the item form.
type expressions struct {
	claim, claimReplay   expression
	record, recordReplay expression
	settle, release      expression
}

func compileAll() expressions {
	return expressions{
		claim:        compile(claimUpdate, claimCondition),
		claimReplay:  compile(claimUpdate, ofReplay(claimCondition)),
		record:       compile(recordUpdate, recordCondition),
		recordReplay: compile(recordUpdate, ofReplay(recordCondition)),
		settle:       compile(settleUpdate, settleCondition),
		release:      compile(releaseUpdate, releaseCondition),
	}
}

func claimValues(c ledger.Claim) row {
	return row{
		":epoch": number(c.Epoch), ":attempt": number(c.Attempt), ":owner": text(c.Owner),
		":lease": millis(c.LeaseUntil), ":now": millis(c.Now), ":expires": seconds(c.ExpiresAt),
	}
}

func settleValues(s ledger.Settlement) row {
	return row{
		":epoch": number(s.Epoch), ":attempt": number(s.Attempt), ":owner": text(s.Owner), ":state": stateText(s.State),
		":code": number(s.Code), ":reason": boundedReason(s.Reason), ":now": millis(s.Now), ":expires": seconds(s.ExpiresAt),
	}
}

func releaseValues(r ledger.Release) row {
	return row{":epoch": number(r.Epoch), ":attempt": number(r.Attempt), ":owner": text(r.Owner), ":now": millis(r.Now)}
}

// statements are the PartiQL texts of the batch form. Every name is quoted because of the reserved ones. DynamoDB gives an
// UPDATE an existence condition of its own: one that finds no row fails with ConditionalCheckFailed.
type statements struct {
	claim, record, settle, release string
}

func statementsFor(table string) statements {
	insert := func(names ...string) string {
		return `INSERT INTO "` + table + `" VALUE {'` + strings.Join(names, `': ?, '`) + `': ?}`
	}
	update := func(set, where []string) string {
		return `UPDATE "` + table + `" SET "` + strings.Join(set, `" = ? SET "`) + `" = ? WHERE "` + strings.Join(where, `" = ? AND "`) + `" = ?`
	}
	return statements{
		claim: insert(attrDelivery, attrState, attrEpoch, attrAttempt, attrOwner, attrLeaseUntil, attrUpdatedAt, attrExpiresAt),
		record: insert(attrDelivery, attrState, attrEpoch, attrAttempt, attrOwner, attrLeaseUntil, attrCode, attrReason,
			attrUpdatedAt, attrExpiresAt),
		settle: update([]string{attrState, attrCode, attrReason, attrUpdatedAt, attrExpiresAt},
			[]string{attrDelivery, attrOwner, attrEpoch, attrAttempt}),
		release: update([]string{attrLeaseUntil, attrUpdatedAt},
			[]string{attrDelivery, attrState, attrOwner, attrEpoch, attrAttempt}),
	}
}

func claimParameters(c ledger.Claim) []types.AttributeValue {
	return []types.AttributeValue{text(string(c.Delivery)), stateText(ledger.Claimed), number(c.Epoch), number(c.Attempt),
		text(c.Owner), millis(c.LeaseUntil), millis(c.Now), seconds(c.ExpiresAt)}
}

func recordParameters(s ledger.Settlement) []types.AttributeValue {
	return []types.AttributeValue{text(string(s.Delivery)), stateText(s.State), number(s.Epoch), number(s.Attempt),
		text(s.Owner), number(0), number(s.Code), boundedReason(s.Reason), millis(s.Now), seconds(s.ExpiresAt)}
}

func settleParameters(s ledger.Settlement) []types.AttributeValue {
	return []types.AttributeValue{stateText(s.State), number(s.Code), boundedReason(s.Reason), millis(s.Now), seconds(s.ExpiresAt),
		text(string(s.Delivery)), text(s.Owner), number(s.Epoch), number(s.Attempt)}
}

func releaseParameters(r ledger.Release) []types.AttributeValue {
	return []types.AttributeValue{number(0), millis(r.Now),
		text(string(r.Delivery)), stateText(ledger.Claimed), text(r.Owner), number(r.Epoch), number(r.Attempt)}
}
