package load

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"sync"
)

// Bare is the same load without Waybill: every event is posted to the same kind of receiver at once, by an HTTP client that reuses its
// connections. Nothing is durable, signed, matched or repeated: this is what the machine can do.
type Bare struct {
	Sink *Sink

	shape  Shape
	events *Rig // only for its events
	client *http.Client
	jobs   chan int
	wg     sync.WaitGroup

	mu      sync.Mutex
	failure error
}

// StartBare starts the loop with a number of workers. Close it in the end.
func StartBare(shape Shape, expected, workers int) (*Bare, error) {
	shape.Destinations, shape.PayloadBytes = max(shape.Destinations, 1), max(shape.PayloadBytes, 1)
	b := &Bare{
		shape: shape, jobs: make(chan int, 1<<16),
		client: &http.Client{Transport: &http.Transport{MaxIdleConns: workers, MaxIdleConnsPerHost: workers, DisableCompression: true}},
	}
	b.events = &Rig{shape: shape, padding: string(bytes.Repeat([]byte("x"), max(shape.PayloadBytes-8, 0)))}
	var err error
	as(partReceiver, func(context.Context) { b.Sink, err = newSink(expected, b.FanOut(), shape.AnswerAfter, false) })
	if err != nil {
		return nil, err
	}
	as(partFunctions, func(context.Context) {
		for range workers {
			b.wg.Go(b.work)
		}
	})
	return b, nil
}

// Close ends the workers and the receiver.
func (b *Bare) Close() error {
	close(b.jobs)
	b.wg.Wait()
	b.client.CloseIdleConnections()
	return b.Sink.Close()
}

// FanOut is how many deliveries an event makes.
func (b *Bare) FanOut() int { return b.events.FanOut() }

func (b *Bare) sink() *Sink { return b.Sink }

// Send gives event n to the workers.
func (b *Bare) Send(n int) error {
	for d := range b.FanOut() {
		b.jobs <- n*b.FanOut() + d
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.failure
}

func (b *Bare) work() {
	for job := range b.jobs {
		if err := b.post(job/b.FanOut(), job%b.FanOut()); err != nil {
			b.mu.Lock()
			b.failure = err
			b.mu.Unlock()
		}
	}
}

func (b *Bare) post(event, destination int) error {
	body := `{"p":"` + b.events.padding + `"}`
	request, err := http.NewRequestWithContext(context.Background(), http.MethodPost, b.Sink.URL()+pathFine+strconv.Itoa(destination), bytes.NewReader([]byte(body)))
	if err != nil {
		return err
	}
	request.Header["ce-id"] = []string{strconv.Itoa(event)}
	request.Header["content-type"] = []string{"application/json"}
	response, err := b.client.Do(request)
	if err != nil {
		return fmt.Errorf("the bare loop: %w", err)
	}
	defer func() { _ = response.Body.Close() }()
	_, err = io.Copy(io.Discard, response.Body)
	return err
}
