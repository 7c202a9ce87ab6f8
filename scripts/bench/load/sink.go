package load

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/waybillhq/waybill/shared/awslocal/inmem"
)

type counter = atomic.Int64

// The paths that the sink knows. The number of the destination follows pathFine.
const (
	pathFine    = "/d/"
	pathHanging = "/hanging"
)

// Sink is a webhook receiver that keeps nothing but the times of arrivals. It reads every body to its end and answers 200, or never under
// pathHanging. It is safe for concurrent use.
type Sink struct {
	server      *http.Server
	url         string
	memory      *inmem.Listener
	answerAfter time.Duration
	fanOut      int // deliveries of an event

	mu       sync.Mutex
	arrived  []time.Time // by delivery
	count    int         // different deliveries
	repeats  int         // arrivals of a delivery that had arrived before
	stray    int         // arrivals of nothing that was expected
	hung     int         // arrivals under pathHanging
	progress chan struct{}
}

func newSink(events, fanOut int, answerAfter time.Duration, inMemory bool) (*Sink, error) {
	s := &Sink{answerAfter: answerAfter, fanOut: fanOut, arrived: make([]time.Time, events*fanOut), progress: make(chan struct{}, 1)}
	s.server = &http.Server{Handler: s, ReadHeaderTimeout: time.Minute}
	var l net.Listener
	if inMemory {
		s.memory = inmem.Listen("sink")
		l, s.url = s.memory, "http://127.0.0.1"
	} else {
		var err error
		if l, err = (&net.ListenConfig{}).Listen(context.Background(), "tcp", "127.0.0.1:0"); err != nil {
			return nil, fmt.Errorf("the receiver finds no free port: %w", err)
		}
		s.url = "http://" + l.Addr().String()
	}
	go func() { _ = s.server.Serve(l) }()
	return s, nil
}

// URL is where it listens.
func (s *Sink) URL() string { return s.url }

// Dial connects to a sink in memory, whatever the address.
func (s *Sink) Dial(ctx context.Context, _, _ string) (net.Conn, error) { return s.memory.Dial(ctx) }

// Close cuts all connections.
func (s *Sink) Close() error { return s.server.Close() }

// ServeHTTP takes one delivery.
func (s *Sink) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if _, err := io.Copy(io.Discard, r.Body); err != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	at := time.Now()
	number, fine := strings.CutPrefix(r.URL.Path, pathFine)
	if !fine {
		s.mu.Lock()
		s.hung++
		s.mu.Unlock()
		<-r.Context().Done()
		return
	}
	if s.answerAfter > 0 {
		timer := time.NewTimer(s.answerAfter)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-r.Context().Done():
			return
		}
	}
	place, _, _ := strings.Cut(r.Header.Get("ce-id"), "-")
	event, err := strconv.Atoi(place)
	destination, err2 := strconv.Atoi(number)
	s.book(event, destination, at, errors.Join(err, err2) == nil)
	w.WriteHeader(http.StatusOK)
}

// book notes an arrival. Deliveries of one event lie side by side if every event goes to all destinations, otherwise the event is the delivery.
func (s *Sink) book(event, destination int, at time.Time, known bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	i := event
	if s.fanOut > 1 {
		i = event*s.fanOut + destination
	}
	switch {
	case !known || i < 0 || i >= len(s.arrived):
		s.stray++
		return
	case !s.arrived[i].IsZero():
		s.repeats++
		return
	}
	s.arrived[i] = at
	s.count++
	select {
	case s.progress <- struct{}{}:
	default:
	}
}

// Count tells how many different deliveries have arrived.
func (s *Sink) Count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.count
}

// Wait waits until n different deliveries have arrived; a receiver that hears nothing for patience is waited for no longer.
func (s *Sink) Wait(n int, patience time.Duration) error {
	quiet := time.NewTimer(patience)
	defer quiet.Stop()
	for {
		have := s.Count()
		if have >= n {
			return nil
		}
		select {
		case <-s.progress:
			quiet.Reset(patience)
		case <-quiet.C:
			return fmt.Errorf("%d of %d deliveries have arrived, and none for %v", have, n, patience)
		}
	}
}

// Reset forgets all arrivals.
func (s *Sink) Reset() {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.arrived)
	s.count = 0
}

// arrivals gives the times of arrival by delivery, as a copy.
func (s *Sink) arrivals() []time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]time.Time(nil), s.arrived...)
}

// Surprises tells how many deliveries arrived more than once, and how many requests nobody expected.
func (s *Sink) Surprises() (repeats, stray int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.repeats, s.stray
}
