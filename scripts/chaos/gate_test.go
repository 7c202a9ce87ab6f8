package chaos

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/waybillhq/waybill/shared/awslocal/mapping"
	"github.com/waybillhq/waybill/shared/topology"
)

// dice give a source of randomness for everything that is decided, by the name of the decision: what is decided for one thing does not
// change with the decisions that were made before.
type dice uint64

func (d dice) of(name ...any) *rand.Rand {
	h := fnv.New64a()
	_, _ = fmt.Fprintln(h, name...)
	return rand.New(rand.NewPCG(uint64(d), h.Sum64()))
}

// kind says what waits for its turn.
type kind int

const (
	wire    kind = iota // a request to AWS
	call                // a request at a receiver
	receive             // a poller that wants messages
	remove              // a mapping that deletes what its function has acknowledged
)

// ask is something that waits for its turn.
type ask struct {
	kind     kind
	function topology.FunctionName
	env      *environment        // of a wire request or a call
	inv      *mapping.Invocation // of a wire request; nil: none
	client   context.Context     // its end is the caller's leaving

	service, operation string
	body               []byte
	step               string   // what a request is for, in our words
	about              []string // the deliveries or events concerned, in our words
	path, id           string   // of a call: the receiver, and the delivery by its id
	public             string   // the webhook-id of a call

	queue    mapping.Queue // of receive and remove
	most     int
	receipts []string

	turn chan struct{} // closed once what follows is decided
	late bool          // the answer is on its way; the gate's
	// What was decided.
	response *http.Response
	err      error
	status   int // of a call; 0: none is given
	hang     bool
	wait     time.Duration // told by Retry-After
	pause    time.Duration // before the answer
	messages []mapping.Message
	deleted  int

	disturbed bool // by a disaster

	canonical string
}

var errLeft = errors.New("the caller has left")

// gate is where everything waits for its turn.
type gate struct {
	mu      sync.Mutex
	waiting map[*ask]bool
	bell    chan struct{} // holds a token when somebody has come or left
	open    bool          // nobody waits any more: the end
}

func newGate() *gate { return &gate{waiting: map[*ask]bool{}, bell: make(chan struct{}, 1)} }

func (g *gate) ring() {
	select {
	case g.bell <- struct{}{}:
	default:
	}
}

// wait waits until it is a's turn, or until ctx ends before that.
func (g *gate) wait(ctx context.Context, a *ask) error {
	a.turn, a.client = make(chan struct{}), ctx
	g.mu.Lock()
	if g.open {
		g.mu.Unlock()
		return errLeft
	}
	g.waiting[a] = true
	g.mu.Unlock()
	g.ring()
	select {
	case <-a.turn:
		return nil
	case <-ctx.Done():
	}
	g.mu.Lock()
	there, late := g.waiting[a], a.late
	delete(g.waiting, a)
	g.mu.Unlock()
	if !there && !late {
		<-a.turn
		return nil
	}
	g.ring()
	return context.Cause(ctx)
}

// delay says that the answer of an ask that was taken comes later, by its turn. Whoever has no more time leaves before it, as from a connection that is silent.
func (g *gate) delay(a *ask) {
	g.mu.Lock()
	defer g.mu.Unlock()
	a.late = true
}

// take takes an ask out of those that wait; false means that it has left. Whoever takes it closes its turn.
func (g *gate) take(a *ask) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	there := g.waiting[a]
	delete(g.waiting, a)
	return there
}

// all gives what waits, in an order that no scheduler decides.
func (g *gate) all() []*ask {
	g.mu.Lock()
	defer g.mu.Unlock()
	asks := make([]*ask, 0, len(g.waiting))
	for a := range g.waiting {
		asks = append(asks, a)
	}
	if len(asks) > 1 {
		slices.SortFunc(asks, func(a, b *ask) int {
			if c := cmp.Or(cmp.Compare(a.kind, b.kind), cmp.Compare(a.function, b.function), cmp.Compare(a.number(), b.number()), cmp.Compare(a.step, b.step),
				cmp.Compare(a.id, b.id), cmp.Compare(a.public, b.public)); c != 0 {
				return c
			}
			if c := slices.Compare(a.about, b.about); c != 0 {
				return c
			}
			return cmp.Compare(a.content(), b.content()) // dear
		})
	}
	return asks
}

func (a *ask) number() int {
	if a.env == nil {
		return 0
	}
	return a.env.number
}

// tokens are what components draw to be unique; they say nothing.
var tokens = regexp.MustCompile(`~[0-9a-z#-]+~`)

// content is what a request says, without what is random in it and in an order that no map decides.
func (a *ask) content() string {
	if a.canonical == "" {
		text := tokens.ReplaceAllString(string(a.body), "")
		var document any
		if json.Unmarshal([]byte(text), &document) == nil {
			b, _ := json.Marshal(document)
			text = string(b)
		}
		a.canonical = text + strings.Join(a.receipts, " ")
	}
	return a.canonical
}

// who names what asks.
func (a *ask) who() string {
	if a.env == nil {
		return string(a.function)
	}
	return a.env.String()
}
