package registry

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"
)

// Errors that a Store reports, with detail wrapped around them.
var (
	// ErrChanged: another version was applied since the one that the caller has seen. Nothing was applied.
	ErrChanged = errors.New("registry: the destinations have been changed by someone else")
	// ErrGone: the version's document is not kept, because it is too old or was never applied. Read Current again.
	ErrGone = errors.New("registry: this version is not kept")
	// ErrDamaged: what is stored is not what was applied.
	ErrDamaged = errors.New("registry: what is stored is damaged")
	// ErrThrottled: nothing was written; the same may be tried again later.
	ErrThrottled = errors.New("registry: throttled")
	// ErrUnknown: whether it was written is unknown, as after a lost answer.
	ErrUnknown = errors.New("registry: outcome unknown")
)

// KeptVersions is how many versions a Store keeps to go back to, the current one included.
const KeptVersions = 10

// MaxBy bounds Draft.By and Mark.By in bytes.
const MaxBy = 128

// Version describes a document that was applied.
type Version struct {
	Number    int64     // from 1, one more with every apply; 0: nothing has ever been applied
	Token     string    // random; tells apart what two have tried to apply under one number
	Bytes     int       // of the document
	SHA256    string    // of the document, in hexadecimal
	AppliedAt time.Time // in milliseconds
	By        string    // who applied it
	Chunks    int       // in how many parts it is stored
}

// Snapshot is what a Store knows at one moment.
type Snapshot struct {
	Version Version
	States  map[string]State // by destination, known or not; those in the zero state are missing
}

// Draft is a document that shall be applied. A Store does not look into it: Parse it first.
type Draft struct {
	Document []byte // at most MaxFileBytes, and not empty
	By       string // who applies it; cut to MaxBy
	At       time.Time
}

// Check reports a draft that no Store accepts.
func (d Draft) Check() error {
	switch {
	case len(d.Document) == 0:
		return errors.New("registry: there is no document to apply")
	case len(d.Document) > MaxFileBytes:
		return fmt.Errorf("registry: the document has %d bytes, at most %d can be applied", len(d.Document), MaxFileBytes)
	case d.At.IsZero():
		return errors.New("registry: a draft needs the time at which it is applied")
	}
	return nil
}

// Mark says since when, why and by whom a destination is paused or disabled.
type Mark struct {
	Since time.Time // in milliseconds; required
	Note  string    // cut to MaxNote
	By    string    // cut to MaxBy
}

// Normal gives the mark as it is stored for that destination: whole milliseconds, valid texts of bounded length. The error is about what no Store accepts.
func (m Mark) Normal(destination string) (Mark, error) {
	if !ValidID(destination) {
		return Mark{}, errors.New("registry: that is not the id of a destination; " + idForm)
	}
	if m.Since.UnixMilli() <= 0 {
		return Mark{}, errors.New("registry: a mark needs the time since when it holds")
	}
	return Mark{Since: time.UnixMilli(m.Since.UnixMilli()), Note: Cut(m.Note, MaxNote), By: Cut(m.By, MaxBy)}, nil
}

// KeptRelease is how long it is remembered who let a destination receive again.
const KeptRelease = 90 * 24 * time.Hour

// Release says when and by whom a destination was let receive again. Nothing depends on it but what people are told.
type Release struct {
	At      time.Time // in milliseconds; required
	By      string    // cut to MaxBy
	Enabled bool      // the mark of Disable was taken away; false: that of Pause
}

// Normal gives the release as it is stored for that destination, as Mark.Normal does.
func (r Release) Normal(destination string) (Release, error) {
	m, err := Mark{Since: r.At, By: r.By}.Normal(destination)
	return Release{At: m.Since, By: m.By, Enabled: r.Enabled}, err
}

// Cut shortens a text to so many bytes, between characters, and makes it valid UTF-8.
func Cut(text string, bytes int) string {
	text = strings.ToValidUTF8(text, "\uFFFD")
	if len(text) <= bytes {
		return text
	}
	end := bytes
	for end > 0 && !utf8.RuneStart(text[end]) {
		end--
	}
	return text[:end]
}

// Store keeps the destinations, version by version, and apart from them the states. The driver for DynamoDB is shared/registry/dynamo, one in
// memory is in shared/registry/registrytest; both pass the suite there. Reads see every write that was answered before they began. Errors that
// wrap none of the sentinels above count as ErrUnknown, unless they are about the arguments. Safe for concurrent use.
type Store interface {
	// Current reads which version is current, and all states.
	Current(ctx context.Context) (Snapshot, error)
	// Document reads what was applied as that version. It is ErrGone if the version is not kept, ErrDamaged if the bytes are not those that were applied.
	Document(ctx context.Context, v Version) ([]byte, error)
	// Versions gives those that are kept, the current one first, at most KeptVersions.
	Versions(ctx context.Context) ([]Version, error)
	// Apply makes a document the current version, if the version number was is the current one (0: there is none), and is ErrChanged if not.
	// Nobody sees a version before it is stored as a whole. With ErrUnknown the answer is the version that may have become current: compare
	// Token. States are not touched. Versions older than those that are kept are deleted.
	Apply(ctx context.Context, was int64, draft Draft) (Version, error)
	// Pause marks a destination as paused, whether it exists or not. first says that it was not paused before; if it was, the earlier mark stays.
	Pause(ctx context.Context, destination string, mark Mark) (first bool, err error)
	// Resume takes the mark of Pause away. was says that there was one, as far as the answer tells.
	Resume(ctx context.Context, destination string) (was bool, err error)
	// Disable marks a destination as disabled, as Pause does. Neither mark touches the other. A call that is repeated because its answer was
	// lost says first again, as long as it is the Store that repeats it.
	Disable(ctx context.Context, destination string, mark Mark) (first bool, err error)
	// Enable takes the mark of Disable away, as Resume does.
	Enable(ctx context.Context, destination string) (was bool, err error)
	// Record remembers who has resumed or enabled a destination, in place of who did before, for KeptRelease at least. States are not touched.
	Record(ctx context.Context, destination string, r Release) error
	// Releases gives what Record has written, by destination. Those older than KeptRelease may be missing.
	Releases(ctx context.Context) (map[string]Release, error)
}
