package program

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/waybillhq/waybill/shared/registry"
	"github.com/waybillhq/waybill/shared/topology"
)

// lookTime bounds looking up what has become of a change whose answer was lost. It goes on after an interrupt, because the change may have been made.
const lookTime = 10 * time.Second

// follows is how long it takes until all functions know of a change.
func follows() time.Duration { return topology.New(topology.LowLatency).Limits.RegistryAge }

func (c *call) apply(ctx context.Context) error {
	if err := c.mayAsk(c.args[0] == "-"); err != nil {
		return err
	}
	file, set, err := c.readFile(c.args[0])
	if err != nil {
		return err
	}
	store, now, err := c.openAndLoad(ctx)
	if err != nil {
		return err
	}
	return c.replace(ctx, store, now, file, set)
}

func (c *call) rollback(ctx context.Context) error {
	if err := c.mayAsk(false); err != nil {
		return err
	}
	store, now, err := c.openAndLoad(ctx)
	if err != nil {
		return err
	}
	versions, err := store.Versions(ctx)
	if err != nil {
		return cannot("the registry cannot be read: %w", err)
	}
	i := slices.IndexFunc(versions, func(v registry.Version) bool { return v.Number == c.version })
	if i < 0 {
		return fmt.Errorf("version %d is not kept: history lists those that are", c.version)
	}
	file, err := store.Document(ctx, versions[i])
	if err != nil {
		return cannot("version %d cannot be read: %w", c.version, err)
	}
	shown := fmt.Sprintf("version %d", c.version)
	set, err := registry.Parse(file, registry.Options{Name: shown})
	if err := c.explain(shown, err); err != nil {
		return err
	}
	c.say("to apply again: %s", versionText(versions[i]))
	return c.replace(ctx, store, now, file, set)
}

// mayAsk refuses early what would need an answer that nobody can give.
func (c *call) mayAsk(stdinTaken bool) error {
	switch {
	case c.yes:
		return nil
	case stdinTaken:
		return cannot("the file comes from standard input, so nobody can be asked: look at it with diff, then say -yes")
	case !c.env.Terminal:
		return cannot("standard input is no terminal, so nobody can be asked: look at it with diff, then say -yes")
	}
	return nil
}

// replace puts a file in place of what is in force, after showing the difference, checking secrets and asking.
func (c *call) replace(ctx context.Context, store registry.Store, now inForce, file []byte, set *registry.Set) error {
	if now.broken != nil && !c.force {
		return fmt.Errorf("%w\nSo there is no difference to look at. -force replaces it as a whole", now.errUnreadable())
	}
	changes := registry.Diff(now.set, set)
	if now.broken != nil {
		c.warn("what is in force, %s, cannot be read by this release, so everything counts as added: %s", versionText(now.Version), lines(now.broken.Error()))
	}
	c.show(now, set, changes)
	if len(changes) == 0 && now.broken == nil && now.Version.Number > 0 {
		c.say("Nothing to apply.")
		return nil
	}
	if c.checkSecrets {
		if err := c.check(ctx, set, changes); err != nil {
			return err
		}
	}
	if !c.yes {
		if err := c.ask(ctx); err != nil {
			return err
		}
	}
	v, err := store.Apply(ctx, now.Version.Number, registry.Draft{Document: file, By: c.by(), At: time.Now()})
	return c.applied(ctx, store, now.Version, v, err)
}

// ask has a person decide.
func (c *call) ask(ctx context.Context) error {
	fmt.Fprint(c.out, "Apply this? Only yes will do: ")
	answer := make(chan string, 1)
	go func() { // a read of a terminal cannot be interrupted
		const most = 64
		line, _ := bufio.NewReader(io.LimitReader(c.env.Stdin, most)).ReadString('\n')
		answer <- strings.TrimSpace(line)
	}()
	select {
	case text := <-answer:
		if text == "yes" {
			return nil
		}
		if text == "" {
			c.say("")
		}
		return errors.New("nothing was applied: the answer was not yes")
	case <-ctx.Done():
		c.say("")
		return cannot("%w", ctx.Err())
	}
}

// applied tells what has become of an apply. v is the version that it tried to make.
func (c *call) applied(ctx context.Context, store registry.Store, was, v registry.Version, err error) error {
	changed := errors.Is(err, registry.ErrChanged)
	switch {
	case err == nil:
		return c.isInForce(v)
	case errors.Is(err, registry.ErrThrottled):
		return cannot("nothing was applied: DynamoDB had too much to do; run the same command again: %w", err)
	case v.Token == "" && !changed:
		return cannot("nothing was applied: %w", err)
	}
	// Also where it has changed: the change may be ours, if its answer was lost, and may have been replaced since.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), lookTime)
	defer cancel()
	versions, lookErr := store.Versions(ctx)
	if lookErr != nil {
		return fmt.Errorf("WHETHER IT WAS APPLIED IS NOT KNOWN, and looking it up failed too. Run diff, which tells, before anything else:\n%w", errors.Join(err, lookErr))
	}
	i := slices.IndexFunc(versions, func(other registry.Version) bool { return v.Token != "" && other.Token == v.Token })
	switch {
	case i == 0:
		c.warn("the answer was lost; the registry says that it was applied")
		return c.isInForce(v)
	case i > 0:
		return fmt.Errorf("applied as version %d, but it is no longer in force: %s, has replaced it", v.Number, versionText(versions[0]))
	case changed || len(versions) > 0 && versions[0].Number > was.Number:
		return fmt.Errorf("nothing was applied: somebody else was faster, and in force is %s; look at the difference to that with diff", versionText(versions[0]))
	}
	return fmt.Errorf("nothing was applied, as the registry says: %w", err)
}

func (c *call) isInForce(v registry.Version) error {
	c.say("Applied as version %d. All functions follow within %s.", v.Number, follows())
	return nil
}
