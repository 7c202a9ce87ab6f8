package program

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/aws-sdk-go-v2/service/ssm"

	"github.com/waybillhq/waybill/shared/registry"
	"github.com/waybillhq/waybill/shared/secrets"
	"github.com/waybillhq/waybill/shared/terminal"
)

// resolver gives what finds the keys under ARNs.
func (c *call) resolver(ctx context.Context) (*secrets.Resolver, error) {
	if err := c.connect(ctx); err != nil {
		return nil, err
	}
	r, err := secrets.New(secrets.Config{
		SecretsManager: secretsmanager.NewFromConfig(c.cfg), SSM: ssm.NewFromConfig(c.cfg), Concurrency: checksAtOnce * registry.MaxSecrets,
	})
	if err != nil {
		return nil, cannot("%w", err)
	}
	return r, nil
}

// checksAtOnce is how many destinations are checked at a time.
const checksAtOnce = 4

// fault is a secret that could not be had, or a destination with too many keys.
type fault struct {
	about string   // ARN or destination
	users []string // the destinations that name the ARN
	err   *secrets.Error
}

// stops reports whether no delivery could be signed for it, whoever reads the secret.
func (f fault) stops() bool {
	return errors.Is(f.err, secrets.ErrNotFound) || errors.Is(f.err, secrets.ErrContent) || errors.Is(f.err, secrets.ErrTooMany)
}

// check looks up the secrets of destinations that are added or changed. What cannot sign is an error; what could not be looked up is a warning:
// whoever applies need not be allowed to read secrets.
func (c *call) check(ctx context.Context, to *registry.Set, changes []registry.Change) error {
	var wanted []*registry.Destination
	for _, change := range changes {
		if d, ok := to.Lookup(change.ID); ok && hasARN(d) {
			wanted = append(wanted, d)
		}
	}
	if len(wanted) == 0 {
		return nil
	}
	r, err := c.resolver(ctx)
	if err != nil {
		return err
	}
	stopping := 0
	for _, f := range faults(ctx, r, wanted) {
		text := fmt.Sprintf("%s: %v (%s)", terminal.Escaped(f.about, mostLine), f.err.Kind, terminal.Escaped(f.err.Detail, mostLine))
		if len(f.users) > 0 {
			text += "; named by " + terminal.Escaped(strings.Join(f.users, ", "), mostNote)
		}
		if f.stops() {
			stopping++
			fmt.Fprintln(c.errs, text)
			continue
		}
		c.warn("not checked: %s", text)
	}
	if ctx.Err() != nil {
		return cannot("%w", ctx.Err())
	}
	if stopping > 0 {
		return fmt.Errorf("nothing was applied: %s cannot sign; mend that, or say -check-secrets=false", terminal.Plural(stopping, "secret"))
	}
	return nil
}

func hasARN(d *registry.Destination) bool {
	return d.Webhook != nil && slices.ContainsFunc(d.Webhook.Secrets, func(s registry.Secret) bool { return s.ARN() != "" })
}

// faults finds everything that is wrong with the secrets of the destinations, each ARN once.
func faults(ctx context.Context, r *secrets.Resolver, of []*registry.Destination) []fault {
	var mu sync.Mutex
	found := map[string]*fault{}
	note := func(d *registry.Destination, err error) {
		var e *secrets.Error
		if !errors.As(err, &e) {
			return
		}
		mu.Lock()
		defer mu.Unlock()
		about := e.ARN
		if about == "" {
			about = d.ID
		}
		f, ok := found[about]
		if !ok {
			f = &fault{about: about, err: e}
			found[about] = f
		}
		if e.ARN != "" && !slices.Contains(f.users, d.ID) {
			f.users = append(f.users, d.ID)
		}
	}
	var running sync.WaitGroup
	queue := make(chan *registry.Destination)
	for range checksAtOnce {
		running.Go(func() {
			for d := range queue {
				checkOne(ctx, r, d, func(err error) { note(d, err) })
			}
		})
	}
	for _, d := range of {
		queue <- d
	}
	close(queue)
	running.Wait()
	all := make([]fault, 0, len(found))
	for _, about := range slices.Sorted(maps.Keys(found)) {
		slices.Sort(found[about].users)
		all = append(all, *found[about])
	}
	return all
}

// checkOne tells what is wrong with each secret of a destination, and with all of them together if each of them is right.
func checkOne(ctx context.Context, r *secrets.Resolver, d *registry.Destination, tell func(error)) {
	if _, err := r.Resolve(ctx, d); err == nil {
		return
	} else if errors.Is(err, secrets.ErrTooMany) {
		tell(err)
		return
	}
	for _, s := range d.Webhook.Secrets {
		if _, err := r.Resolve(ctx, d.WithSecrets([]registry.Secret{s})); err != nil {
			tell(err)
		}
	}
}
