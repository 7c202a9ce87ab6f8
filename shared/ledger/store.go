package ledger

import (
	"context"
	"errors"

	"github.com/waybillhq/waybill/shared/delivery"
)

// Errors that a Store reports per entry, with detail wrapped around them.
var (
	// ErrRefused: a condition did not hold. Nothing was written; someone else owns the waybill.
	ErrRefused = errors.New("ledger: refused, another owner holds this delivery")
	// ErrThrottled: nothing was written; the same write may be tried again later.
	ErrThrottled = errors.New("ledger: throttled")
	// ErrUnknown: the outcome is unknown, as after a lost answer. Every write of this interface may be repeated
	// as it is.
	ErrUnknown = errors.New("ledger: outcome unknown")
	// ErrUnsupported: this form of store is refused by the table's account or configuration (access denied,
	// validation). Nothing was written. Another form may work.
	ErrUnsupported = errors.New("ledger: this form of writing is refused")
)

// Answer is a store's answer to one claim.
type Answer struct {
	Verdict Verdict // meaningful when Err is nil
	Item    *Item   // the waybill that decided a verdict other than Granted
	Err     error
}

// Reading is a store's answer to one read: Item is nil when the ledger holds nothing.
type Reading struct {
	Item *Item
	Err  error
}

// Store writes waybills under the conditions of the protocol. There are two complete drivers of it in
// shared/ledger/dynamo, one writing in batches and one item by item; both pass the suite in shared/ledger/ledgertest.
//
// Every method works on any number of independent entries, all of different deliveries, answers each by its index, never fails as a
// whole, and is safe for concurrent use. An error that wraps none of the sentinels above counts as ErrUnknown.
// Every write may be repeated with the same arguments and then has the effect of one.
type Store interface {
	// Claim writes each claim that Decide grants on what the ledger holds at that moment.
	Claim(ctx context.Context, claims []Claim) []Answer
	// Settle writes each settlement that SettleAllowed permits, and refuses the others with ErrRefused.
	Settle(ctx context.Context, settlements []Settlement) []error
	// Release ends the lease of each claim that ReleaseAllowed permits, and refuses the others with ErrRefused.
	Release(ctx context.Context, releases []Release) []error
	// Record writes each result of an unclaimed attempt that RecordAllowed permits, and refuses the others with ErrRefused.
	Record(ctx context.Context, settlements []Settlement) []error
	// Read reads waybills with strong consistency.
	Read(ctx context.Context, deliveries []delivery.ID) []Reading
}
