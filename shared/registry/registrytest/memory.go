package registrytest

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/waybillhq/waybill/shared/registry"
)

// Memory is a registry.Store in memory that passes the suite. It is safe for concurrent use. A call whose context is over writes nothing and
// answers registry.ErrUnknown.
type Memory struct {
	mu       sync.Mutex
	versions []stored // the current one last
	marks    map[string]marks
	releases map[string]registry.Release
	fault    FaultKind
	reads    int
	loads    int
	onRead   func()
}

type stored struct {
	registry.Version
	document []byte
}

type marks struct{ paused, disabled registry.Mark }

var _ registry.Store = (*Memory)(nil)

// NewMemory makes an empty store.
func NewMemory() *Memory {
	return &Memory{marks: map[string]marks{}, releases: map[string]registry.Release{}}
}

// Harness gives the store with its second way in.
func (m *Memory) Harness() Harness { return Harness{Store: m, Damage: m.Damage, Inject: m.Inject} }

// Inject makes all calls go wrong until heal is called.
func (m *Memory) Inject(kind FaultKind) (heal func()) {
	set := func(kind FaultKind) {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.fault = kind
	}
	set(kind)
	return func() { set("") }
}

// OnRead has do called, without locks held, after each Current has read and before it answers. Nil: nothing is called.
func (m *Memory) OnRead(do func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.onRead = do
}

// Reads counts the calls of Current and of Document.
func (m *Memory) Reads() (current, document int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.reads, m.loads
}

// Damage changes a byte of the current document behind everyone's back.
func (m *Memory) Damage() {
	m.mu.Lock()
	defer m.mu.Unlock()
	last := &m.versions[len(m.versions)-1]
	last.document = slices.Clone(last.document)
	last.document[len(last.document)/2] ^= 1
}

// call runs do under the lock, unless the context is over or a fault prevents it.
func (m *Memory) call(ctx context.Context, do func() error) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case ctx.Err() != nil:
		return fmt.Errorf("%w: %w", registry.ErrUnknown, context.Cause(ctx))
	case m.fault == Throttled:
		return registry.ErrThrottled
	case m.fault == Broken:
		return fmt.Errorf("%w: broken", registry.ErrUnknown)
	}
	if err := do(); err != nil {
		return err
	}
	if m.fault == AnswerLost {
		return fmt.Errorf("%w: the answer was lost", registry.ErrUnknown)
	}
	return nil
}

// Current implements registry.Store.
func (m *Memory) Current(ctx context.Context) (registry.Snapshot, error) {
	snapshot := registry.Snapshot{States: map[string]registry.State{}}
	var after func()
	err := m.call(ctx, func() error {
		m.reads++
		after = m.onRead
		if len(m.versions) > 0 {
			snapshot.Version = m.versions[len(m.versions)-1].Version
		}
		for id, marks := range m.marks {
			snapshot.States[id] = registry.NewState(marks.paused, marks.disabled)
		}
		return nil
	})
	if after != nil {
		after()
	}
	if err != nil {
		return registry.Snapshot{}, err
	}
	return snapshot, nil
}

// Document implements registry.Store.
func (m *Memory) Document(ctx context.Context, v registry.Version) ([]byte, error) {
	var document []byte
	err := m.call(ctx, func() error {
		m.loads++
		at := slices.IndexFunc(m.versions, func(s stored) bool { return s.Number == v.Number && s.Token == v.Token })
		if at < 0 {
			return fmt.Errorf("%w: version %d", registry.ErrGone, v.Number)
		}
		document = bytes.Clone(m.versions[at].document)
		if digest(document) != v.SHA256 {
			return fmt.Errorf("%w: version %d", registry.ErrDamaged, v.Number)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return document, nil
}

// Versions implements registry.Store.
func (m *Memory) Versions(ctx context.Context) ([]registry.Version, error) {
	var versions []registry.Version
	err := m.call(ctx, func() error {
		for _, s := range slices.Backward(m.versions) {
			versions = append(versions, s.Version)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return versions, nil
}

// Apply implements registry.Store.
func (m *Memory) Apply(ctx context.Context, was int64, draft registry.Draft) (registry.Version, error) {
	if err := draft.Check(); err != nil {
		return registry.Version{}, err
	}
	v := registry.Version{
		Number: was + 1, Token: rand.Text(), Bytes: len(draft.Document), SHA256: digest(draft.Document), Chunks: 1,
		AppliedAt: time.UnixMilli(draft.At.UnixMilli()), By: registry.Cut(draft.By, registry.MaxBy),
	}
	return v, m.call(ctx, func() error {
		current := int64(0)
		if len(m.versions) > 0 {
			current = m.versions[len(m.versions)-1].Number
		}
		if current != was {
			return fmt.Errorf("%w: version %d is current, not %d", registry.ErrChanged, current, was)
		}
		m.versions = append(m.versions, stored{v, bytes.Clone(draft.Document)})
		m.versions = m.versions[max(0, len(m.versions)-registry.KeptVersions):]
		return nil
	})
}

func digest(document []byte) string {
	sum := sha256.Sum256(document)
	return hex.EncodeToString(sum[:])
}

// Pause implements registry.Store.
func (m *Memory) Pause(ctx context.Context, destination string, mark registry.Mark) (bool, error) {
	return m.set(ctx, destination, mark, func(k *marks) *registry.Mark { return &k.paused })
}

// Resume implements registry.Store.
func (m *Memory) Resume(ctx context.Context, destination string) (bool, error) {
	return m.clear(ctx, destination, func(k *marks) *registry.Mark { return &k.paused })
}

// Disable implements registry.Store.
func (m *Memory) Disable(ctx context.Context, destination string, mark registry.Mark) (bool, error) {
	return m.set(ctx, destination, mark, func(k *marks) *registry.Mark { return &k.disabled })
}

// Enable implements registry.Store.
func (m *Memory) Enable(ctx context.Context, destination string) (bool, error) {
	return m.clear(ctx, destination, func(k *marks) *registry.Mark { return &k.disabled })
}

// Record implements registry.Store.
func (m *Memory) Record(ctx context.Context, destination string, r registry.Release) error {
	r, err := r.Normal(destination)
	if err != nil {
		return err
	}
	return m.call(ctx, func() error {
		m.releases[destination] = r
		return nil
	})
}

// Releases implements registry.Store.
func (m *Memory) Releases(ctx context.Context) (releases map[string]registry.Release, err error) {
	err = m.call(ctx, func() error {
		releases = maps.Clone(m.releases)
		return nil
	})
	return releases, err
}

func (m *Memory) set(ctx context.Context, destination string, mark registry.Mark, which func(*marks) *registry.Mark) (first bool, err error) {
	mark, err = mark.Normal(destination)
	if err != nil {
		return false, err
	}
	err = m.call(ctx, func() error {
		all := m.marks[destination]
		if first = which(&all).Since.IsZero(); first {
			*which(&all) = mark
		}
		m.marks[destination] = all
		return nil
	})
	return first && err == nil, err
}

func (m *Memory) clear(ctx context.Context, destination string, which func(*marks) *registry.Mark) (was bool, err error) {
	err = m.call(ctx, func() error {
		all := m.marks[destination]
		was = !which(&all).Since.IsZero()
		*which(&all) = registry.Mark{}
		m.marks[destination] = all
		if all == (marks{}) {
			delete(m.marks, destination)
		}
		return nil
	})
	return was && err == nil, err
}
