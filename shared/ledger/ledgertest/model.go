package ledgertest

import (
	"time"

	"github.com/waybillhq/waybill/shared/ledger"
)

// The functions of this file say what a permitted write leaves in the ledger.

// afterClaim keeps code and reason of the last attempt: they are news until the next result.
func afterClaim(old *ledger.Item, c ledger.Claim) ledger.Item {
	var item ledger.Item
	if old != nil {
		item = *old
	}
	item.Delivery, item.State, item.Epoch, item.Attempt = c.Delivery, ledger.Claimed, c.Epoch, c.Attempt
	item.Owner, item.LeaseUntil = c.Owner, toMillisecond(c.LeaseUntil)
	item.UpdatedAt, item.ExpiresAt = toMillisecond(c.Now), toSecond(c.ExpiresAt)
	return item
}

// afterSettle keeps epoch, attempt, owner and lease, so that the settle may be repeated.
func afterSettle(old ledger.Item, s ledger.Settlement) ledger.Item {
	old.State, old.Code, old.Reason = s.State, s.Code, s.Reason
	old.UpdatedAt, old.ExpiresAt = toMillisecond(s.Now), toSecond(s.ExpiresAt)
	return old
}

func afterRelease(old ledger.Item, r ledger.Release) ledger.Item {
	old.LeaseUntil, old.UpdatedAt = time.Time{}, toMillisecond(r.Now)
	return old
}

// afterRecord leaves nothing of what was there: the recorder had no claim, hence no lease.
func afterRecord(s ledger.Settlement) ledger.Item {
	return ledger.Item{
		Delivery: s.Delivery, State: s.State, Epoch: s.Epoch, Attempt: s.Attempt, Owner: s.Owner, Code: s.Code, Reason: s.Reason,
		UpdatedAt: toMillisecond(s.Now), ExpiresAt: toSecond(s.ExpiresAt),
	}
}

func toMillisecond(t time.Time) time.Time {
	if t.IsZero() {
		return t
	}
	return time.UnixMilli(t.UnixMilli())
}

func toSecond(t time.Time) time.Time {
	if t.IsZero() {
		return t
	}
	return time.Unix(t.Unix(), 0)
}
