package waiting

import (
	"context"
	"errors"
	"time"
)

// Errors that a Store reports, with detail wrapped around them.
var (
	// ErrRefused: a condition did not hold, someone else was faster. Nothing was written.
	ErrRefused = errors.New("waiting: refused, someone else has changed it")
	// ErrThrottled: nothing was written; the same may be tried again later.
	ErrThrottled = errors.New("waiting: throttled")
	// ErrUnknown: whether it was written is unknown, as after a lost answer.
	ErrUnknown = errors.New("waiting: outcome unknown")
)

// MaxRowBytes bounds Row.Size: what DynamoDB allows for an item, 400 KB, less what attribute names and numbers take.
const MaxRowBytes = 400<<10 - 1<<10

// Row is one row of the waiting room.
type Row struct {
	Bucket string // Bucket.Name
	Key    string // unique within the bucket, and its order
	Token  string // fresh and random for every try of a put
	// At is, by the kind of bucket, when a due row is due, since when a parked row is held, or when a mark was written. In milliseconds.
	At          time.Time
	Destination string
	Trace       string // X-Ray trace header, "" for none
	Form        int    // how Body is written; 0: there is none
	Body        []byte
}

// Size is the number of bytes that count against MaxRowBytes.
func (r Row) Size() int {
	return len(r.Bucket) + len(r.Key) + len(r.Token) + len(r.Destination) + len(r.Trace) + len(r.Body)
}

// Ref names a row as it was read.
type Ref struct{ Bucket, Key, Token string }

// Ref gives the reference to the row as it is.
func (r Row) Ref() Ref { return Ref{r.Bucket, r.Key, r.Token} }

// Held says whether the row holds a delivery, or may: it is no mark and no progress.
func (r Row) Held() bool {
	kind := ParseBucket(r.Bucket).Kind
	return kind != Marks && kind != Progress
}

// Page is a part of a bucket.
type Page struct {
	Rows []Row
	Next string // read on after this key; "" when the bucket has no more rows; not "" promises none
}

// Cursor is a place in a scan. The zero Cursor is the beginning, and as an answer the end.
type Cursor struct{ Bucket, Key string }

// State is what the wakers know of each other.
type State struct {
	// Watermarks are the oldest buckets that are not closed, by shard. A shard that is missing has never been visited.
	Watermarks map[int]Hour
	Scan       Scan
}

// Scan is the progress of a scan over the whole room. The zero Scan says that there has never been one.
type Scan struct {
	Token  string // changes with every write
	Began  time.Time
	After  Cursor
	Oldest map[int]Hour // oldest due bucket found so far, by shard
	Done   bool
}

// Store keeps the rows of the waiting room, and with them marks, watermarks and the progress of scans. The driver for DynamoDB is
// shared/waiting/dynamo, one in memory is in shared/waiting/waitingtest; both pass the suite there.
//
// Methods on several entries work on any number of them, all with different keys, answer each by its index and never fail as a whole. Errors
// that wrap none of the sentinels above count as ErrUnknown. Reads are strongly consistent unless they say otherwise. Safe for
// concurrent use.
type Store interface {
	// Put writes rows, whatever is there. It tries once: a repetition needs another token, because a copy of the same
	// put that arrives late could be mistaken for what a waker has read.
	Put(ctx context.Context, rows []Row) []error
	// Delete deletes each row if MayDelete permits it, and refuses with ErrRefused if not. A row that is gone counts as deleted.
	Delete(ctx context.Context, refs []Ref) []error
	// Read reads rows of a bucket in the order of their keys, those after the key after and before the key before ("": no bound), at most
	// limit of them.
	Read(ctx context.Context, bucket, after, before string, limit int) (Page, error)
	// State reads the watermarks and the scan, in one call.
	State(ctx context.Context) (State, error)
	// Advance writes a shard's watermark if MayAdvance permits it, and refuses with ErrRefused if not.
	Advance(ctx context.Context, shard int, to Hour) error
	// SaveScan writes the progress of a scan if the stored one still has the token was ("": there is none), and refuses with ErrRefused if not.
	SaveScan(ctx context.Context, was string, scan Scan) error
	// Buckets scans the room: the names of the buckets that the rows of the next page lie in, each once, and where to go on. It may be
	// a second behind.
	Buckets(ctx context.Context, after Cursor) ([]string, Cursor, error)
}

// Lister lists what is held, for those who search and those who keep the books. The drivers implement it besides Store; it needs no more
// than the right to read.
type Lister interface {
	// Rows lists, page by page, the rows that hold deliveries, and those that this release does not know: all but marks and progress. A page
	// may be empty; the zero Cursor is the end. What was held before the first page is asked for and is still held after the last, as the same row, is
	// listed, once; what is put or deleted meanwhile may be or not.
	Rows(ctx context.Context, after Cursor) ([]Row, Cursor, error)
}
