package load

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/aws/aws-lambda-go/lambda"

	"github.com/waybillhq/waybill/functions/wiring"
	"github.com/waybillhq/waybill/shared/config"
	"github.com/waybillhq/waybill/shared/topology"
)

// Idling is what runs of the waker, with nothing to wake, and one refresh of what is known of the destinations have used.
type Idling struct {
	Runs                  int
	Calls                 int // of DynamoDB, by all runs together
	ReadUnits, WriteUnits float64
	LogBytes              int64
	RefreshUnits          float64 // read units of one refresh
}

// Idle runs the waker by a clock that goes a minute from run to run, first for the given number of hours without counting, so that
// buckets close as fast as they come, and then for as many more.
func (r *Rig) Idle(ctx context.Context, hours int) (Idling, error) {
	minutes := 0
	start := time.Now()
	waker, err := r.waker(func() time.Time { return start.Add(time.Duration(minutes) * time.Minute) })
	if err != nil {
		return Idling{}, err
	}
	run := func(n int) error {
		for range n {
			minutes++
			if _, err := waker.Invoke(ctx, []byte("{}")); err != nil {
				return fmt.Errorf("the waker: %w", err)
			}
		}
		return nil
	}
	idle := Idling{Runs: hours * 60}
	if err := run(idle.Runs); err != nil {
		return Idling{}, err
	}
	before, logged := r.System.Endpoint.Counts(), r.Written.Bytes()
	if err := run(idle.Runs); err != nil {
		return Idling{}, err
	}
	spent := r.System.Endpoint.Counts().Since(before).Total("dynamodb")
	idle.Calls, idle.ReadUnits, idle.WriteUnits, idle.LogBytes = spent.Attempted, spent.Units.Read, spent.Units.Write, r.Written.Bytes()-logged
	before = r.System.Endpoint.Counts()
	store, err := r.System.Registry()
	if err != nil {
		return Idling{}, err
	}
	if _, err := store.Current(ctx); err != nil {
		return Idling{}, err
	}
	idle.RefreshUnits = r.System.Endpoint.Counts().Since(before).Total("dynamodb").Units.Read
	return idle, nil
}

// waker is the function with a clock of its own.
func (r *Rig) waker(now func() time.Time) (lambda.Handler, error) {
	variables := map[string]string{}
	for _, q := range r.System.Queues.Queues() {
		variables[topology.QueueName(q.Name()).URLVariable()] = q.URL()
	}
	for _, t := range r.Topology.Tables {
		variables[t.Name.NameVariable()] = string(t.Name)
	}
	cfg, err := config.LoadFrom(r.Topology, topology.Waker, func(name string) (string, bool) {
		value, ok := variables[name]
		return value, ok
	})
	if err != nil {
		return nil, err
	}
	return wiring.Waker(cfg, wiring.Parts{AWS: r.System.AWS(), Logger: slog.New(slog.NewJSONHandler(r.Written, nil)), Metrics: r.Written, Now: now})
}

// Pace sends n events at a rate.
func (r *Rig) Pace(n int, perSecond float64) error {
	start := time.Now()
	for i := range n {
		rest(time.Until(start.Add(time.Duration(float64(i) / perSecond * float64(time.Second)))))
		if err := r.Send(i); err != nil {
			return err
		}
	}
	return nil
}
