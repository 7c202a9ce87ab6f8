package program

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb"

	"github.com/waybillhq/waybill/shared/registry"
	registrydynamo "github.com/waybillhq/waybill/shared/registry/dynamo"
	"github.com/waybillhq/waybill/shared/terminal"
)

// inForce is what the registry holds now.
type inForce struct {
	registry.Snapshot
	set    *registry.Set // nil if nothing was ever applied, or broken
	broken error         // why the document in force cannot be read
}

// connect loads the SDK's configuration, once.
func (c *call) connect(ctx context.Context) error {
	if c.cfg.Region != "" {
		return nil
	}
	var err error
	if c.cfg, err = c.env.AWS(ctx, c.endpoint); err != nil {
		return cannot("%w", err)
	}
	return nil
}

// open gives the registry. Nothing is sent yet.
func (c *call) open(ctx context.Context) (registry.Store, error) {
	if err := c.connect(ctx); err != nil {
		return nil, err
	}
	store, err := registrydynamo.New(dynamodb.NewFromConfig(c.cfg), c.table, registrydynamo.Options{
		OnProblem: func(err error) {
			c.warn("old versions could not be deleted, the next apply tries again: %s", lines(err.Error()))
		},
	})
	if err != nil {
		return nil, cannot("%w", err)
	}
	return store, nil
}

// load reads what is in force. A document that this release cannot use is no error: it is in broken.
func load(ctx context.Context, store registry.Store) (now inForce, err error) {
	if now.Snapshot, err = store.Current(ctx); err != nil {
		return now, cannot("the registry cannot be read: %w", err)
	}
	if now.Version.Number == 0 {
		return now, nil
	}
	file, err := store.Document(ctx, now.Version)
	switch {
	case errors.Is(err, registry.ErrGone), errors.Is(err, registry.ErrDamaged):
		now.broken = err
	case err != nil:
		return now, cannot("the registry cannot be read: %w", err)
	default:
		now.set, now.broken = registry.Parse(file, registry.Options{Name: fmt.Sprintf("version %d", now.Version.Number)})
	}
	return now, nil
}

// openAndLoad is open and load.
func (c *call) openAndLoad(ctx context.Context) (registry.Store, inForce, error) {
	store, err := c.open(ctx)
	if err != nil {
		return nil, inForce{}, err
	}
	now, err := load(ctx, store)
	return store, now, err
}

// ids gives the ids of all destinations, and of those that have a state without being one.
func (now inForce) ids() []string {
	var ids []string
	for d := range destinations(now.set) {
		ids = append(ids, d.ID)
	}
	for id := range now.States {
		if !known(now.set, id) {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids
}

// destinations gives those of a set, which may be nil.
func destinations(set *registry.Set) func(func(*registry.Destination) bool) {
	if set == nil {
		set = &registry.Set{}
	}
	return set.All()
}

func known(set *registry.Set, id string) bool {
	if set == nil {
		return false
	}
	_, ok := set.Lookup(id)
	return ok
}

// errUnreadable is for what cannot go on without the destinations in force.
func (now inForce) errUnreadable() error {
	return cannot("what is in force, %s, cannot be read by this release:\n%w", versionText(now.Version), now.broken)
}

// readFile reads a destinations file and checks it. Its problems are told here, all of them.
func (c *call) readFile(path string) ([]byte, *registry.Set, error) {
	file, err := c.contents(path)
	if err != nil {
		return nil, nil, cannot("%w", err)
	}
	set, err := registry.Parse(file, registry.Options{})
	return file, set, c.explain(path, err)
}

// fileText names a file.
func fileText(path string) string {
	if path == "-" {
		return "standard input"
	}
	return terminal.Escaped(path, mostNote)
}

// contents gives the bytes of a file. One byte more than is allowed tells that there is more.
func (c *call) contents(path string) ([]byte, error) {
	from := c.env.Stdin
	if path != "-" {
		file, err := os.Open(path) //nolint:gosec // the person who runs the program names the file
		if err != nil {
			return nil, err
		}
		defer func() { _ = file.Close() }()
		from = file
	}
	return io.ReadAll(io.LimitReader(from, registry.MaxFileBytes+1))
}

// explain tells every problem of a file, unlike the error's own text, which stops at some.
func (c *call) explain(path string, err error) error {
	var refusal *registry.ProblemsError
	if !errors.As(err, &refusal) {
		return err
	}
	for _, p := range refusal.Problems {
		fmt.Fprintf(c.errs, "%s:%s\n", fileText(path), terminal.Escaped(p.String(), mostLine))
	}
	return fmt.Errorf("%s: %s", fileText(path), terminal.Plural(len(refusal.Problems)+refusal.Omitted, "problem"))
}
