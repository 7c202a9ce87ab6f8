package waiting

import (
	"fmt"
	"hash/fnv"
	"strconv"
	"strings"
	"time"

	"github.com/waybillhq/waybill/shared/delivery"
)

// Kind says what a bucket holds.
type Kind string

// The kinds of buckets. Only due and parked ones hold deliveries that wait; what this release does not know is Foreign.
const (
	Due      Kind = "due"      // deliveries due in one hour, in the order in which they are due
	Parked   Kind = "parked"   // deliveries whose destination may not receive, in order of acceptance
	Marks    Kind = "marks"    // destinations that may have parked deliveries
	Progress Kind = "progress" // watermarks and the scan
	Foreign  Kind = "foreign"
)

// Bucket is a partition of the waiting room.
type Bucket struct {
	Kind        Kind
	Hour        Hour   // of a due bucket
	Destination string // of a parked bucket
	Shard       int
}

const hourLayout = "2006-01-02T15"

// Name is the partition key: "2026-11-03T04#3", "parked#orders-crm#3", "marks#3", "progress".
func (b Bucket) Name() string {
	shard := "#" + strconv.Itoa(b.Shard)
	switch b.Kind {
	case Due:
		return b.Hour.Start().UTC().Format(hourLayout) + shard
	case Parked:
		return string(Parked) + "#" + b.Destination + shard
	case Progress:
		return string(Progress)
	}
	return string(b.Kind) + shard
}

// ParseBucket reads a partition key. What is no bucket of this release is Foreign.
func ParseBucket(name string) Bucket {
	head, last, ok := cutLast(name, "#")
	shard, err := strconv.Atoi(last)
	switch {
	case name == string(Progress):
		return Bucket{Kind: Progress}
	case !ok || err != nil || shard < 0:
		return Bucket{Kind: Foreign}
	case head == string(Marks):
		return Bucket{Kind: Marks, Shard: shard}
	}
	if destination, ok := strings.CutPrefix(head, string(Parked)+"#"); ok {
		return Bucket{Kind: Parked, Destination: destination, Shard: shard}
	}
	if t, err := time.Parse(hourLayout, head); err == nil {
		return Bucket{Kind: Due, Hour: HourOf(t), Shard: shard}
	}
	return Bucket{Kind: Foreign}
}

func cutLast(s, sep string) (before, after string, found bool) {
	if i := strings.LastIndex(s, sep); i >= 0 {
		return s[:i], s[i+len(sep):], true
	}
	return s, "", false
}

// ShardOf spreads deliveries and destinations evenly over the shards.
func ShardOf(id string) int {
	h := fnv.New32a()
	_, _ = h.Write([]byte(id)) // never fails
	return int(h.Sum32() % Shards)
}

// dueKey and parkedKey are the sort keys: the order in which rows are due, and that of acceptance. The same attempt put twice into one bucket for
// the same time is one row.
func dueKey(due time.Time, m *delivery.Message) string { return DueBefore(due) + "#" + attemptKey(m) }

func parkedKey(m *delivery.Message) string { return stamp(m.AcceptedAt) + "#" + attemptKey(m) }

func attemptKey(m *delivery.Message) string {
	return fmt.Sprintf("%s#%d#%d", m.Delivery, m.Epoch, m.Attempt)
}

const stampDigits = 14

// stamp is a sort key behind all those of rows of an earlier millisecond and before all others.
func stamp(t time.Time) string { return fmt.Sprintf("%0*d", stampDigits, max(t.UnixMilli(), 0)) }

// DueBefore is the key that bounds the rows of a due bucket to those that are due before t, by milliseconds. For Store.Read.
func DueBefore(t time.Time) string { return stamp(t) }

// AcceptedBefore says whether the parked row with this key was accepted before t, by milliseconds. A key of another form counts as accepted
// before everything, so that it is looked at.
func AcceptedBefore(key string, t time.Time) bool {
	accepted, _, _ := strings.Cut(key, "#")
	return len(accepted) != stampDigits || accepted < stamp(t)
}

// AcceptedAt is when the event of the parked row with this key was accepted; zero for a key of another form.
func AcceptedAt(key string) time.Time {
	accepted, _, _ := strings.Cut(key, "#")
	ms, err := strconv.ParseUint(accepted, 10, 63)
	if len(accepted) != stampDigits || err != nil {
		return time.Time{}
	}
	return time.UnixMilli(int64(ms))
}

// Locate tells from the two keys of a row alone in what bucket it lies, and of a row in a due bucket when it is due: Row.At. The time is zero
// for any other row, and for one whose sort key is in no form of this release.
func Locate(bucket, key string) (Bucket, time.Time) {
	b := ParseBucket(bucket)
	due, _, _ := strings.Cut(key, "#")
	ms, err := strconv.ParseUint(due, 10, 63)
	if b.Kind != Due || len(due) != stampDigits || err != nil {
		return b, time.Time{}
	}
	return b, time.UnixMilli(int64(ms))
}
