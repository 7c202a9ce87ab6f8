package program

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/waybillhq/waybill/shared/registry"
)

// changeTries is how often a change of the registry is begun anew because somebody else was faster.
const changeTries = 5

// ends of the ids of a run's destinations.
const (
	rejectedSuffix  = "-rejected"  // at an address that the egress guard refuses
	deliveredSuffix = "-delivered" // at the receiver that the user names
)

// forbidden is the URL of the destination that rejects: a loopback address, which the guard refuses, and which is the one kind of host for which a
// secret may stand in the file. Nobody listens on that port either.
const forbidden = "http://127.0.0.1:1/waybill-smoke"

// forbiddenSecret signs nothing that is ever sent.
const forbiddenSecret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw" //nolint:gosec // it protects nothing

// ours are the destinations of this run.
func (s *session) ours() []map[string]any {
	destination := func(id, url, secret string) map[string]any {
		return map[string]any{
			"id": id, "tenant": Tenant, "type": registry.TypeWebhook, "retry": map[string]any{"schedule": []string{"1s"}},
			"webhook": map[string]any{"url": url, "secrets": []string{secret}},
		}
	}
	all := []map[string]any{destination(s.run+rejectedSuffix, forbidden, forbiddenSecret)}
	if s.receiver != "" {
		all = append(all, destination(s.run+deliveredSuffix, s.receiver, s.receiverSecret))
	}
	return all
}

// isOurs tells whether a destination of our tenant is of this run, or of one that was killed.
func (s *session) isOurs(id string) bool {
	return strings.HasPrefix(id, s.run+"-") || abandoned(id, s.began)
}

// inForce reads the document in force, and what it means.
func inForce(ctx context.Context, store registry.Store) (version int64, document []byte, set *registry.Set, err error) {
	now, err := store.Current(ctx)
	if err != nil {
		return 0, nil, nil, fmt.Errorf("the registry cannot be read: %w", err)
	}
	document = []byte(noDestinations)
	if now.Version.Number > 0 {
		if document, err = store.Document(ctx, now.Version); err != nil {
			return 0, nil, nil, fmt.Errorf("the destinations in force cannot be read: %w", err)
		}
	}
	if set, err = registry.Parse(document, registry.Options{}); err != nil {
		return 0, nil, nil, fmt.Errorf("this release cannot read the destinations in force: %w", err)
	}
	return now.Version.Number, document, set, nil
}

// change applies what edit makes of the document in force. Somebody else's change in between is kept: then it begins anew. Nothing is applied
// where edit changes nothing.
func change(ctx context.Context, store registry.Store, by string, edit func([]byte) ([]byte, error)) error {
	var last error
	for range changeTries {
		version, document, _, err := inForce(ctx, store)
		if err != nil {
			return err
		}
		edited, err := edit(document)
		if err != nil || string(edited) == string(document) {
			return err
		}
		if _, err := registry.Parse(edited, registry.Options{}); err != nil {
			return fmt.Errorf("with our destinations the document is not valid: %w", err)
		}
		if _, last = store.Apply(ctx, version, registry.Draft{Document: edited, By: by, At: time.Now()}); last == nil {
			return nil
		}
		if !errors.Is(last, registry.ErrChanged) && !errors.Is(last, registry.ErrUnknown) && !errors.Is(last, registry.ErrThrottled) {
			return last
		}
		if err := wait(ctx, time.Second); err != nil {
			return errors.Join(last, err)
		}
	}
	return fmt.Errorf("%d tries, each time with another problem or somebody faster: %w", changeTries, last)
}

// addOurs puts this run's destinations into the registry, in place of those of runs that were killed.
func (s *session) addOurs(ctx context.Context, store registry.Store) error {
	return change(ctx, store, s.run, func(document []byte) ([]byte, error) {
		rest, err := withoutDestinations(document, s.isOurs)
		if err != nil {
			return nil, err
		}
		return withDestinations(rest, s.ours()...)
	})
}

// removeOurs takes them out again, and what is kept of their state.
func (s *session) removeOurs(ctx context.Context, store registry.Store) error {
	err := change(ctx, store, s.run, func(document []byte) ([]byte, error) {
		return withoutDestinations(document, s.isOurs)
	})
	now, readErr := store.Current(ctx)
	errs := []error{err, readErr}
	for id := range now.States {
		if s.isOurs(id) { // the receiver has answered 410
			_, err := store.Enable(ctx, id)
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}
