package chaos

import (
	"bytes"
	"context"
	"net"
	"regexp"
	"sync"
	"syscall"
	"time"

	"github.com/waybillhq/waybill/shared/awslocal/mapping"
	"github.com/waybillhq/waybill/shared/topology"
)

// Lambda freezes an environment from the answer of one invocation to the next one, which may come in minutes or never. A goroutine that still runs then stands still:
// a request that it has made may be performed, but nobody reads the answer before the thaw, and it makes no other. Connections may break meanwhile without anybody
// hearing of it.
const (
	reclaimChance = 0.03 // of an invocation to be the last of its environment
	brokenChance  = 0.10 // of a call after a freeze to meet a connection that is dead
	longFreeze    = time.Minute
	deadAfter     = 20 * time.Second // of a freeze, at the earliest
)

// sandbox is an environment's place in Lambda: the environment itself may be taken away between two invocations, and another one put there.
type sandbox struct {
	world    *world
	function topology.FunctionName
	build    func() mapping.Handler
	handler  mapping.Handler
	env      *environment
}

func (w *world) sandbox(f topology.FunctionName, build func() mapping.Handler) mapping.Handler {
	return &sandbox{world: w, function: f, build: build}
}

// Invoke thaws the environment, has it work, and freezes it.
func (s *sandbox) Invoke(ctx context.Context, payload []byte) ([]byte, error) {
	inv := mapping.InvocationFrom(ctx)
	if s.env == nil || s.env.reclaimed {
		s.world.making.Lock()
		s.handler = s.build()
		s.env = s.world.made
		s.world.making.Unlock()
	}
	s.env.thaw(inv)
	defer s.env.freeze(inv)
	return s.handler.Invoke(ctx, payload)
}

// frost is what an environment remembers of its freezes.
type frost struct {
	thawed    chan struct{} // closed at the thaw; nil: the environment works, or is gone
	since     time.Time
	runs      int  // invocations begun
	reclaimed bool // the freeze never ends
	dialled   bool // there are connections
	breaking  bool // and some have died in the freeze before this invocation
}

// thaw begins an invocation. Goroutines of earlier ones go on first.
func (e *environment) thaw(inv *mapping.Invocation) {
	e.mu.Lock()
	e.inv.Store(inv)
	e.runs++
	frozen := e.thawed
	slept := time.Since(e.since)
	e.thawed = nil
	e.breaking = frozen != nil && e.dialled && slept > deadAfter
	waiting := e.waiting
	e.mu.Unlock()
	if frozen == nil {
		return
	}
	close(frozen)
	if slept > longFreeze {
		e.world.strikeQuietly(frozenLong)
	}
	if waiting > 0 {
		time.Sleep(time.Millisecond)
	}
}

// freeze ends an invocation that was not ended by a crash or the clock.
func (e *environment) freeze(inv *mapping.Invocation) {
	if inv.Ended() {
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.thawed, e.since = make(chan struct{}), time.Now()
	name := []any{"reclaim", e.String(), e.runs}
	if key := keyOf(name...); !e.world.peace && e.world.dice.of(name...).Float64() < reclaimChance*e.world.intensity && e.world.mask.lets(key) {
		e.reclaimed = true
		e.world.strike(reclaimed, key)
	}
}

// frozen tells whether the environment stands still.
func (e *environment) frozen() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.thawed != nil
}

// attend waits until the environment works. It gives the invocation that it works on; nil: its time is over.
func (e *environment) attend() *mapping.Invocation {
	e.mu.Lock()
	frozen := e.thawed
	if frozen != nil {
		e.waiting++
	}
	e.mu.Unlock()
	if frozen != nil {
		<-frozen
		e.mu.Lock()
		e.waiting--
		e.mu.Unlock()
	}
	if inv := e.inv.Load(); inv != nil && !inv.Ended() {
		return inv
	}
	return nil
}

// interrupted decides what has become of a request whose sender stands still.
func (w *world) interrupted(a *ask) {
	if w.dice.of(w.nth("frozen", a.step, a.about)).IntN(2) == 0 {
		a.response = w.perform(a, a.body).response()
		w.tellOf(a, "performed, and its sender is frozen")
	} else {
		a.err = errLost
		w.tellOf(a, "lost, and its sender is frozen")
	}
	w.strikeQuietly(frozenAtWork)
	close(a.turn)
}

// line is a connection to a receiver.
type line struct {
	net.Conn
	env  *environment
	mu   sync.Mutex
	dead bool
}

var webhookID = regexp.MustCompile(`(?i)\r\nwebhook-id: ([^\r]+)\r\n`)

// Write swallows what is written to a connection that the other side has forgotten. Which request of an invocation meets one is drawn by its delivery: which of
// several connections it gets is not the seed's to decide.
func (l *line) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.dead && bytes.HasPrefix(b, []byte("POST ")) {
		if m := webhookID.FindSubmatch(b); m != nil {
			l.breaks(string(m[1]))
		}
	}
	if l.dead {
		return len(b), nil
	}
	return l.Conn.Write(b)
}

// breaks draws whether the connection is dead, and if so lets its user know in a while.
func (l *line) breaks(publicID string) {
	e := l.env
	e.mu.Lock()
	breaking, runs := e.breaking, e.runs
	e.mu.Unlock()
	w := e.world
	name := []any{"broken", e.String(), runs, publicID}
	r, key := w.dice.of(name...), keyOf(name...)
	if !breaking || w.peace || r.Float64() >= brokenChance*w.intensity || !w.mask.lets(key) {
		return
	}
	l.dead = true
	w.strike(brokenIdle, key)
	w.mu.Lock()
	id := publicID
	if original, is := w.aliases[publicID]; is {
		id = original
	}
	w.unmetCalls[id]++
	if w.telling {
		w.logged = append(w.logged, e.String()+" calls for "+w.deliveries[id]+" on a connection that is dead")
	}
	w.mu.Unlock()
	time.AfterFunc(time.Duration(1+r.Int64N(int64(900*time.Millisecond))), func() { _ = l.Conn.Close() })
}

// Read tells of the end of a dead connection as the network does.
func (l *line) Read(b []byte) (int, error) {
	n, err := l.Conn.Read(b)
	l.mu.Lock()
	defer l.mu.Unlock()
	if err != nil && l.dead {
		err = &net.OpError{Op: "read", Net: "tcp", Err: syscall.ECONNRESET}
	}
	return n, err
}

// thawAll lets go of whoever still stands still.
func (w *world) thawAll() {
	for _, e := range w.environments {
		e.mu.Lock()
		if e.thawed != nil {
			close(e.thawed)
			e.thawed = nil
		}
		e.mu.Unlock()
	}
}
