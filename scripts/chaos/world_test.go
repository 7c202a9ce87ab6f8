package chaos

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"

	"github.com/waybillhq/waybill/scripts/local/auditor"
	"github.com/waybillhq/waybill/scripts/local/receiver"
	"github.com/waybillhq/waybill/scripts/local/system"
	"github.com/waybillhq/waybill/shared/awslocal"
	"github.com/waybillhq/waybill/shared/awslocal/inmem"
	"github.com/waybillhq/waybill/shared/awslocal/mapping"
	"github.com/waybillhq/waybill/shared/awslocal/sqs"
	"github.com/waybillhq/waybill/shared/delivery"
	"github.com/waybillhq/waybill/shared/registry"
	"github.com/waybillhq/waybill/shared/topology"
)

const (
	source = "/chaos"
	tenant = "default"
	secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
)

// destination is one of a scenario.
type destination struct {
	id      string
	relaxed bool
	waits   []string // nil: the default schedule
	timeout int      // s
	rate    int      // one call in so many seconds; 0: no limit
	filing  *filing  // nil: the file always says this of it
}

// name is what a delivery or an event is called in the story, and what tells it in a text.
type name struct {
	name   string
	needle []byte
}

// world is one seed's system.
type world struct {
	*system.System
	t    *testing.T
	seed uint64
	dice dice
	mask mask
	bug  *bug

	gate     *gate
	auditor  *auditor.Auditor
	receiver *receiver.Receiver
	server   *http.Server
	began    time.Time

	making sync.Mutex   // held while an environment is put together
	made   *environment // the last one

	mu         sync.Mutex
	started    map[topology.FunctionName]int
	listeners  []*inmem.Listener
	logged     []string       // of this step
	unmetCalls map[string]int // requests at receivers that were given up before their turn, by delivery id

	declared     topology.Topology
	names        []name
	deliveries   map[string]string // name by id
	destinations []destination
	events       []string
	windows      []*window
	filed        *registry.Set // the destinations of the first file
	calm         time.Time     // disasters are over by then
	intensity    float64

	conductor
	books
	restarts
}

// result is what a seed came to.
type result struct {
	seed     uint64
	breaches []string
	struck   map[string]int // disasters by name
	steps    map[string]int // crashes by step
	keys     []string       // of the disasters that struck
	story    []string
	asks     int
	lasted   time.Duration
	effects  int
	letters  int
}

// play plays a seed.
func play(t *testing.T, seed uint64, m mask, b *bug, telling bool) result {
	var r result
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, seed, m, b, telling)
		w.run()
		w.judge()
		w.stop()
		r = w.result()
	})
	return r
}

func newWorld(t *testing.T, seed uint64, m mask, b *bug, telling bool) *world {
	w := &world{
		t: t, seed: seed, dice: dice(seed), mask: m, bug: b, gate: newGate(), began: time.Now(), started: map[topology.FunctionName]int{},
		deliveries: map[string]string{}, unmetCalls: map[string]int{},
	}
	w.declared = w.topology()
	w.conductor.init(telling)
	w.books.init()
	w.restarts.init()
	w.scenario()
	document := w.document()
	var err error
	if w.filed, err = registry.Parse(document, registry.Options{}); err != nil {
		t.Fatal(err)
	}
	if w.auditor, err = auditor.New(auditor.Config{Destinations: document, Others: [][]byte{w.optional()}, ReceiverLog: true}); err != nil {
		t.Fatal(err)
	}
	w.receiver = receiver.New(receiver.Options{Answer: decided, OnReceived: func(r receiver.Request) { w.auditor.OnReceived(r.ID, r.Status, r.Digest) }})
	w.server = &http.Server{Handler: w, ReadHeaderTimeout: time.Minute}
	cfg := system.Config{
		Topology: w.declared, Destinations: document, Logger: slog.New(slog.DiscardHandler), Stopped: true,
		Queues: sqs.Options{Seed: seed + 1, OnSend: w.sent},
		Client: func(e *awslocal.Endpoint) aws.HTTPClient { return direct{e} },
		Parts:  w.parts, Sandbox: w.sandbox, Source: w.source,
	}
	if w.System, err = system.Start(context.Background(), cfg); err != nil {
		t.Fatal(err)
	}
	return w
}

// topology is the low-latency profile with few pollers.
func (w *world) topology() topology.Topology {
	t := topology.New(topology.LowLatency)
	for i := range t.Functions {
		if t.Functions[i].Every == 0 {
			t.Functions[i].Source.MaximumConcurrency = 3
		}
	}
	return t
}

// scenario draws what is sent to whom, and what lasts.
func (w *world) scenario() {
	r := w.dice.of("scenario")
	w.intensity = []float64{0.3, 0.7, 1, 1.6}[r.IntN(4)]
	schedules := [][]string{
		{"2s", "20m", "1h"}, {"1s", "5s", "30m"}, {"3s", "16m", "40m", "3h"}, {"1s"}, {"5s", "10m", "15m", "2h", "5h"}, nil, {"18m", "25m"},
	}
	timeouts := r.Perm(4) // all different: two attempts that time out at one instant would come back in any order
	for i := range 2 + r.IntN(2) {
		w.destinations = append(w.destinations, destination{
			id: []string{"shop", "crm", "depot"}[i], relaxed: r.IntN(3) == 0, waits: schedules[r.IntN(len(schedules))], timeout: []int{4, 7, 10, 15}[timeouts[i]],
		})
	}
	large := r.IntN(40) == 0
	events := 1 + r.IntN(4)
	if !large && r.IntN(10) == 0 {
		events += w.drawBurst(r)
	}
	if l := w.dice.of("rates"); l.IntN(5) == 0 {
		w.destinations[l.IntN(len(w.destinations))].rate = 120 + l.IntN(240)
	}
	for i := range events {
		id := fmt.Sprintf("event-%c", 'a'+i)
		w.events = append(w.events, id)
		size := 0
		if large && i == 0 {
			size = 600 << 10
		}
		at := time.Duration(r.Int64N(int64(20 * time.Minute)))
		if r.IntN(2) == 0 {
			at = time.Duration(r.Int64N(int64(5 * time.Second)))
		}
		w.at(at, "", func() { w.produce(id, size) })
		if size > 0 {
			w.strike(largeEvent, "event")
		}
		for copies := range 2 {
			if r.IntN(6) == 0 {
				again := at + time.Duration(r.Int64N(int64(30*time.Minute)))
				if key := keyOf(producerRepeated, id, copies); w.mask.lets(key) {
					w.at(again, "", func() { w.strike(producerRepeated, key); w.produce(id, size) })
				}
			}
		}
		for _, d := range w.destinations {
			delivered := string(delivery.NewID(tenant, source, id, d.id))
			called := fmt.Sprintf("%c→%s", 'a'+i, d.id)
			w.deliveries[delivered] = called
			w.names = append(w.names, name{called, []byte(delivered)})
		}
	}
	for _, id := range w.events {
		w.names = append(w.names, name{id, []byte(`\"id\":\"` + id + `\"`)})
	}
	if r.IntN(12) == 0 {
		if key := keyOf(poison); w.mask.lets(key) {
			w.at(time.Duration(r.Int64N(int64(10*time.Minute))), "", func() { w.strike(poison, key); w.post(`{"specversion":"1.0","id":""}`) })
		}
	}
	w.calm = w.began.Add(time.Duration(1+r.IntN(5)) * time.Hour)
	for _, v := range w.windows { // the burst's
		w.calm = later(w.calm, v.to)
	}
	for i := range r.IntN(4) {
		w.drawWindow(i, large)
	}
	w.drawReplays()
	w.drawFilings(schedules)
}

// drawBurst has many events meet an outage of the first destination at once: enough for its breaker to open, or for the slow lane. It gives how many.
func (w *world) drawBurst(r *rand.Rand) int {
	w.destinations = w.destinations[:2]
	what := []string{destinationDown, destinationSlow}[r.IntN(2)]
	v := &window{what: what, target: w.destinations[0].id, how: []string{failing, resetting, hanging, throttling}[r.IntN(4)], from: w.began}
	v.to = v.from.Add(time.Minute + time.Duration(r.Int64N(int64(2*time.Hour))))
	more := 8 + r.IntN(5)
	if key := keyOf(burst); w.mask.lets(key) {
		w.at(0, "", func() { w.strike(burst, key); w.tell("%s %s begins, until %s", what, v.target, v.to.Sub(w.began)) })
		w.windows = append(w.windows, v)
	}
	return more
}

// drawWindow draws something that lasts, or happens once.
func (w *world) drawWindow(i int, large bool) {
	r := w.dice.of("window", i)
	what := w.dice.pick(windows, "window", i, "what")
	v := &window{what: what, target: w.destinations[r.IntN(len(w.destinations))].id, how: []string{failing, hanging, resetting, throttling}[r.IntN(4)]}
	v.from = w.began.Add(time.Duration(r.Int64N(int64(40 * time.Minute))))
	d, lasts := durations[what]
	if lasts {
		length := d.least + time.Duration(r.Int64N(int64(d.most-d.least)))
		if r.IntN(12) == 0 {
			length = d.most + time.Duration(r.Int64N(int64(d.long-d.most)))
		}
		if large {
			length = min(length, time.Hour)
		}
		v.to = v.from.Add(length)
	}
	key := keyOf("window", i, what)
	if !w.mask.lets(key) {
		return
	}
	begin := v.from.Sub(w.began)
	mark := func() { w.strike(what, key); w.tell("%s %s begins, until %s", what, v.target, v.to.Sub(w.began)) }
	switch what {
	case nativeRedrive:
		w.at(begin+time.Hour, "", func() { w.redriveNatively(key) })
		return
	case toolRedrive:
		w.at(begin+time.Hour, "", func() { w.redriveByProgram(key) })
		return
	case paused:
		w.at(begin, "", func() { mark(); w.operate("pause", v.target) })
		w.at(v.to.Sub(w.began), "", func() { w.operate("resume", v.target) })
		for at := v.to; r.IntN(2) == 0; { // somebody cannot make up his mind
			again := at.Add(time.Duration(r.Int64N(int64(90 * time.Second))))
			at = again.Add(time.Duration(r.Int64N(int64(10 * time.Minute))))
			w.at(again.Sub(w.began), "", func() { w.operate("pause", v.target) })
			w.at(at.Sub(w.began), "", func() { w.operate("resume", v.target) })
			w.calm = later(w.calm, at)
		}
	case destinationGone:
		w.at(begin, "", mark)
		w.at(v.to.Sub(w.began), "", func() { w.operate("enable", v.target) })
	default:
		w.at(begin, "", mark)
		w.at(v.to.Sub(w.began), "", func() { w.tell("%s %s ends", what, v.target) })
	}
	w.windows = append(w.windows, v)
	w.calm = later(w.calm, v.to)
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// lasting gives a window of that kind that is open now.
func (w *world) lasting(what, target string) *window {
	now := time.Now()
	for _, v := range w.windows {
		if v.what == what && (target == "" || v.target == target) && v.covers(now) {
			return v
		}
	}
	return nil
}

// document is the destinations file as it is now.
func (w *world) document() []byte {
	now := time.Now()
	return w.documentOf(func(d destination) bool { return !d.filing.covers(now) || !d.filing.absent }, &now)
}

// documentOf is the file with some of the destinations, as they are at a time; nil: as they are most of the time.
func (w *world) documentOf(has func(destination) bool, at *time.Time) []byte {
	all := []map[string]any{}
	for _, d := range w.destinations {
		if !has(d) {
			continue
		}
		wanted := source
		if at != nil && d.filing.covers(*at) {
			if d.filing.unwanted {
				wanted = "/other"
			}
			d = d.filing.is
		}
		m := map[string]any{
			"id": d.id, "tenant": "*", "type": "webhook",
			"webhook": map[string]any{"url": "http://127.0.0.1/" + d.id, "secrets": []string{secret}, "timeout": fmt.Sprintf("%ds", d.timeout)},
			// What the system itself tells of disabled destinations is for nobody here.
			"pattern": map[string]any{"source": []string{wanted}},
		}
		if d.relaxed {
			m["ledger"] = "relaxed"
		}
		if d.rate > 0 {
			m["rate"] = map[string]any{"limit": 1, "per": fmt.Sprintf("%ds", d.rate), "burst": 1}
		}
		if d.waits != nil {
			m["retry"] = map[string]any{"schedule": d.waits}
		}
		all = append(all, m)
	}
	document, err := json.Marshal(map[string]any{"destinations": all})
	if err != nil {
		w.t.Fatal(err)
	}
	return document
}

// produce sends an event as its producer does.
func (w *world) produce(id string, bytes int) {
	data := `{"n":1}`
	if bytes > 0 { // does not compress
		var b []byte
		for sum := sha256.Sum256([]byte(id)); len(b) < bytes*3/4; sum = sha256.Sum256(sum[:]) {
			b = append(b, sum[:]...)
		}
		data = `"` + base64.StdEncoding.EncodeToString(b) + `"`
	}
	w.tell("producer sends %s", id)
	w.post(fmt.Sprintf(`{"specversion":"1.0","id":%q,"source":%q,"type":"chaos.sent","data":%s}`, id, source, data))
}

func (w *world) post(body string) {
	q, _ := w.Queues.Queue(string(topology.Ingress))
	if _, err := q.Send(sqs.Outgoing{Body: body}); err != nil {
		w.t.Error(err)
	}
}

// newer is the mark of a message that a newer release has written, in place of ours.
var (
	ours  = fmt.Sprintf(`{"v":%d,`, delivery.Version)
	newer = fmt.Sprintf(`{"v":%d,`, delivery.Version+1)
)

// sent hears of every message that a queue accepted.
func (w *world) sent(queue string, m sqs.Message) {
	if strings.HasPrefix(m.Body, newer) {
		m.Body = ours + m.Body[len(newer):] // the auditor is of the newer release
	}
	w.auditor.OnSend(queue, m)
	w.carries(queue, m)
}

// operate does what a person does to a destination.
func (w *world) operate(what, destination string) {
	store, err := w.Registry()
	if err != nil {
		w.t.Fatal(err)
	}
	ctx := context.Background()
	switch what {
	case "pause":
		_, err = store.Pause(ctx, destination, registry.Mark{Since: time.Now(), Note: "chaos", By: "chaos"})
	case "resume":
		_, err = store.Resume(ctx, destination)
	case "enable":
		_, err = store.Enable(ctx, destination)
	}
	if err != nil {
		w.t.Error(err)
	}
	w.tell("operator: %s %s", what, destination)
	w.wakeWithin(time.Duration(w.dice.of("operate", w.nth("operate")).Int64N(int64([]time.Duration{5 * time.Second, time.Minute}[w.seen["operate"]%2]))))
}

// ServeHTTP is the receivers: a request waits for its turn and is answered as was decided.
func (w *world) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	address, _ := r.Context().Value(http.LocalAddrContextKey).(fmt.Stringer)
	env := w.environmentAt(address)
	if env == nil {
		panic(http.ErrAbortHandler)
	}
	a := &ask{kind: call, function: env.function, env: env, path: strings.TrimPrefix(r.URL.Path, "/"), public: r.Header.Get("webhook-id")}
	a.id = w.original(a.public)
	if w.gate.wait(r.Context(), a) != nil {
		w.mu.Lock()
		w.unmetCalls[a.id]++
		w.mu.Unlock()
		panic(http.ErrAbortHandler)
	}
	if a.hang {
		<-r.Context().Done()
		a.status = 0
	}
	if a.pause > 0 {
		timer := time.NewTimer(a.pause)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-r.Context().Done():
		}
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	r.Header.Set(statusHeader, fmt.Sprint(a.status))
	if a.wait > 0 {
		rw.Header().Set("Retry-After", fmt.Sprint(int(a.wait/time.Second)))
	}
	w.receiver.ServeHTTP(rw, r)
}

// unmet is how many calls for a delivery were given up before any receiver has met them.
func (w *world) unmet(called string) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	n := 0
	for id, times := range w.unmetCalls {
		if w.deliveries[id] == called {
			n += times
		}
	}
	return n
}

// statusHeader carries the decision to the receiver.
const statusHeader = "Chaos-Status"

func decided(r receiver.Request, _ http.Header) int {
	var status int
	if _, err := fmt.Sscan(r.Header.Get(statusHeader), &status); err != nil || status == 0 {
		return receiver.NoAnswer
	}
	return status
}

// environmentAt gives the environment whose connections come under an address.
func (w *world) environmentAt(address fmt.Stringer) *environment {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, e := range w.environments {
		if address != nil && e.String() == address.String() {
			return e
		}
	}
	return nil
}

// clock draws how wrong the clock of an environment is.
func (w *world) clock(e *environment) {
	w.mu.Lock()
	w.environments = append(w.environments, e)
	w.mu.Unlock()
	r := w.dice.of("clock", e.String())
	key := keyOf("clock", e.String())
	if r.IntN(2) == 0 || !w.mask.lets(key) {
		return
	}
	e.skew = time.Duration(r.Int64N(int64(2*largestSkew))) - largestSkew
	e.jump = e.skew
	if e.skew.Abs() > time.Second {
		w.strike(clockSkewed, key)
	}
	if r.IntN(6) == 0 {
		e.jumpAt = time.Now().Add(time.Duration(r.Int64N(int64(30 * time.Minute))))
		e.jump = time.Duration(r.Int64N(int64(2*largestSkew))) - largestSkew
		w.strike(clockJumped, key)
	}
}

// source stands between a queue and the mapping that reads it.
func (w *world) source(f topology.FunctionName, q mapping.Queue) mapping.Queue {
	return gatedQueue{q, w, f}
}

type gatedQueue struct {
	mapping.Queue
	world    *world
	function topology.FunctionName
}

// Receive waits until the conductor hands out messages.
func (s gatedQueue) Receive(ctx context.Context, most int, _ time.Duration) ([]mapping.Message, error) {
	a := &ask{kind: receive, function: s.function, queue: s.Queue, most: most}
	if err := s.world.gate.wait(ctx, a); err != nil {
		return nil, err
	}
	return a.messages, a.err
}

// Delete waits for its turn.
func (s gatedQueue) Delete(ctx context.Context, receipts []string) (int, error) {
	a := &ask{kind: remove, function: s.function, queue: s.Queue, receipts: receipts}
	if err := s.world.gate.wait(ctx, a); err != nil {
		return 0, err
	}
	return a.deleted, a.err
}

// logger writes what functions warn of into the story.
func (w *world) logger(e *environment) *slog.Logger {
	if !w.telling {
		return slog.New(slog.DiscardHandler)
	}
	return slog.New(chronicle{w, e})
}

type chronicle struct {
	world *world
	env   *environment
}

func (c chronicle) Enabled(_ context.Context, l slog.Level) bool { return l >= slog.LevelWarn }

func (c chronicle) Handle(_ context.Context, r slog.Record) error {
	if inv := c.env.inv.Load(); inv != nil && inv.Ended() {
		return nil // in Lambda nobody is there any more who could say it
	}
	line := fmt.Sprintf("%s says: %s", c.env, r.Message)
	r.Attrs(func(a slog.Attr) bool {
		if a.Key != "detail" { // what a broken connection looks like depends on who is faster
			value := a.Value.String()
			if strings.Contains(value, "\n") { // goroutines that fail at one instant are told of in any order
				value = "several problems"
			}
			line += fmt.Sprintf(" %s=%.400s", a.Key, value)
		}
		return true
	})
	c.world.mu.Lock()
	defer c.world.mu.Unlock()
	c.world.logged = append(c.world.logged, c.world.shorten(line))
	return nil
}

func (c chronicle) WithAttrs([]slog.Attr) slog.Handler { return c }
func (c chronicle) WithGroup(string) slog.Handler      { return c }

// shorten replaces ids by what they are called.
func (w *world) shorten(line string) string {
	for id, called := range w.deliveries {
		line = strings.ReplaceAll(line, id, called)
	}
	for public, id := range w.aliases {
		line = strings.ReplaceAll(line, public, w.deliveries[id]+" anew")
	}
	return versions.ReplaceAllString(tokens.ReplaceAllString(line, "~"), "~")
}

// versions are tokens of the registry's.
var versions = regexp.MustCompile(`[A-Z2-7]{26}`)

// stop ends the world: whoever waits is turned away, whoever works is crashed, and all come to rest.
func (w *world) stop() {
	w.gate.mu.Lock()
	w.gate.open = true
	left := w.gate.waiting
	w.gate.waiting = map[*ask]bool{}
	w.gate.mu.Unlock()
	for a := range left {
		a.err = errLeft
		close(a.turn)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	for _, f := range w.Functions {
		f.CrashAll()
	}
	w.thawAll()
	_ = w.Stop(ctx)
	time.Sleep(20 * time.Minute) // pauses of what was crashed come to their end
	synctest.Wait()
	for name, f := range w.Functions {
		if n := f.Stats().Lingering; n > 0 {
			w.t.Errorf("seed %d: %d crashed invocations of the %s still run", w.seed, n, name)
		}
	}
	w.mu.Lock()
	listeners := slices.Clone(w.listeners)
	w.mu.Unlock()
	for _, l := range listeners {
		_ = l.Close()
	}
	_ = w.server.Close()
	_ = w.receiver.Close()
}
