package program

import (
	"context"
	"errors"
	"fmt"
	"time"

	awssqs "github.com/aws/aws-sdk-go-v2/service/sqs"

	"github.com/waybillhq/waybill/scripts/local/receiver"
	"github.com/waybillhq/waybill/shared/redrive"
	"github.com/waybillhq/waybill/shared/registry"
	"github.com/waybillhq/waybill/shared/terminal"
	"github.com/waybillhq/waybill/shared/topology"
)

// demoSpeed makes a quarter of an hour five seconds.
const demoSpeed = 180

// operate plays the people who look after the demo, around the sending of its samples: one pauses a destination and resumes it, one enables a
// destination that was disabled, one repairs a receiver and moves its dead letters back. Without the demo it only sends.
func (r *run) operate(ctx context.Context, send func() error) error {
	if r.demo == nil {
		return send()
	}
	store, err := r.system.Registry()
	if err != nil {
		return err
	}
	if _, err := store.Pause(ctx, paused, registry.Mark{Since: time.Now(), Note: "for the demo", By: "demo"}); err != nil {
		return fmt.Errorf("pause a destination: %w", err)
	}
	if err := send(); err != nil {
		return err
	}
	return errors.Join(r.resume(ctx, store), r.enable(ctx, store), r.redrive(ctx))
}

// resume lets the paused destination receive again, once there is something parked for it. A copy of an event that was sent just now is given time to be
// parked too: it would have to wait for the lease of the one that it is a copy of.
func (r *run) resume(ctx context.Context, store registry.Store) error {
	select {
	case <-ctx.Done():
		return nil
	case <-time.After(time.Second):
	}
	if err := until(ctx, func() (bool, error) { return r.passages.parkedFor(paused) > 0, nil }); err != nil {
		return err
	}
	if _, err := store.Resume(ctx, paused); err != nil {
		return fmt.Errorf("resume a destination: %w", err)
	}
	r.progress.tell("the operator resumes the destination " + paused)
	return nil
}

// enable mends the receiver that answered 410 and enables its destination, once it was disabled.
func (r *run) enable(ctx context.Context, store registry.Store) error {
	err := until(ctx, func() (bool, error) {
		now, err := store.Current(ctx)
		return !now.States[receiver.Gone].Disabled.IsZero() && r.passages.parkedFor(receiver.Gone) > 0, err
	})
	if err != nil {
		return err
	}
	r.demo.Mend(receiver.Gone)
	if _, err := store.Enable(ctx, receiver.Gone); err != nil {
		return fmt.Errorf("enable a destination: %w", err)
	}
	r.progress.tell("the operator enables the destination " + receiver.Gone + ", which had answered 410")
	return nil
}

// redrive mends the receiver that rejected, and moves the dead letters of its destination back.
func (r *run) redrive(ctx context.Context) error {
	dead, okDead := r.system.Queues.Queue(string(topology.DeliveriesDeadLetter))
	live, okLive := r.system.Queues.Queue(string(topology.Deliveries))
	if !okDead || !okLive {
		return errors.New("a queue is missing")
	}
	if err := until(ctx, func() (bool, error) { return dead.Depth().Visible > 0, nil }); err != nil {
		return err
	}
	r.demo.Mend(receiver.Rejecting)
	move, err := redrive.New(redrive.Config{
		SQS: awssqs.NewFromConfig(r.system.AWS()), From: topology.DeliveriesDeadLetter, FromURL: dead.URL(), ToURL: live.URL(),
		Filter: redrive.Filter{Destinations: []string{receiver.Rejecting}},
	})
	if err != nil {
		return err
	}
	report, err := move.Run(ctx)
	if err != nil {
		return fmt.Errorf("redrive: %w", err)
	}
	r.passages.redriven(report.Moved)
	r.progress.tell(fmt.Sprintf("the operator moves %s of %s back", terminal.Plural(report.Moved, "dead letter"), receiver.Rejecting))
	return nil
}

// until waits until cond holds, for a minute at most.
func until(ctx context.Context, cond func() (bool, error)) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	ticker := time.NewTicker(50 * time.Millisecond)
	defer ticker.Stop()
	for {
		if ok, err := cond(); ok || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("the demo does not get on: %w", ctx.Err())
		case <-ticker.C:
		}
	}
}
