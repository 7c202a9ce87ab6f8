package program

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/waybillhq/waybill/shared/registry"
)

// subject finds the destination that a command is about, whose state is then known. One that does not exist is refused, but with -force.
func (c *call) subject(ctx context.Context) (registry.Store, registry.State, error) {
	id := c.args[0]
	store, now, err := c.openAndLoad(ctx)
	if err != nil {
		return nil, registry.State{}, err
	}
	state, marked := now.States[id]
	switch {
	case known(now.set, id):
	case marked && c.command.name != "pause":
		c.say("%s was removed; what is held for it can still be let go.", id)
	case c.force:
		c.warn("as far as can be told, no destination %s is in force", id)
	default:
		return nil, state, now.unknown(id)
	}
	return store, state, nil
}

// unknown says that there is no such destination, and which may be meant.
func (now inForce) unknown(id string) error {
	if now.broken != nil {
		return fmt.Errorf("whether %s exists is not known; -force does it anyway: %w", id, now.errUnreadable())
	}
	return fmt.Errorf("no destination %s is in force: %s", id, cmp.Or(didYouMean(similar(id, now.ids())), "list shows them all"))
}

func (c *call) pause(ctx context.Context) error {
	store, before, err := c.subject(ctx)
	if err != nil {
		return err
	}
	id := c.args[0]
	mark := registry.Mark{Since: time.UnixMilli(time.Now().UnixMilli()), Note: c.note, By: c.by()}
	first, err := store.Pause(ctx, id, mark)
	if err != nil {
		if first, err = c.wasMarked(ctx, store, id, mark, err); err != nil {
			return err
		}
	}
	if !first {
		return c.pausedBefore(ctx, store, before)
	}
	c.say("%s is paused; before, it was %s.", id, stateText(before))
	c.say("All functions follow within %s. Its deliveries are held until: resume %s", follows(), id)
	return nil
}

// pausedBefore tells of a pause that changed nothing.
func (c *call) pausedBefore(ctx context.Context, store registry.Store, before registry.State) error {
	if before.Paused.IsZero() { // somebody was faster by a moment
		if now, err := store.Current(ctx); err == nil {
			before = now.States[c.args[0]]
		}
	}
	c.say("%s was %s. Nothing was changed.", c.args[0], stateText(before))
	if c.note != "" {
		c.say("The note was not written: the earlier one stays. Resume and pause again to replace it.")
	}
	return nil
}

// wasMarked finds out whether a pause whose answer was lost was written. first says that it was, by this call.
func (c *call) wasMarked(ctx context.Context, store registry.Store, id string, mark registry.Mark, cause error) (first bool, err error) {
	state, err := c.stateAfter(ctx, store, id, cause)
	switch {
	case err != nil:
		return false, err
	case state.Paused.IsZero():
		return false, fmt.Errorf("%s was not paused, as the registry says: %w", id, cause)
	}
	c.warn("the answer was lost; the registry says that it is paused")
	return state.Paused.Equal(mark.Since), nil
}

// stateAfter reads the state of a destination after a change of it went wrong. The error says that nothing was changed, or that it is not known.
func (c *call) stateAfter(ctx context.Context, store registry.Store, id string, cause error) (registry.State, error) {
	if errors.Is(cause, registry.ErrThrottled) {
		return registry.State{}, cannot("nothing was changed: DynamoDB had too much to do; run the same command again: %w", cause)
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), lookTime)
	defer cancel()
	now, err := store.Current(ctx)
	if err != nil {
		return registry.State{}, fmt.Errorf("WHETHER %s WAS CHANGED IS NOT KNOWN, and looking it up failed too. Run the same command again, it does no harm:\n%w",
			id, errors.Join(cause, err))
	}
	return now.States[id], nil
}

func (c *call) resume(ctx context.Context) error {
	return c.release(ctx, release{
		call: registry.Store.Resume, done: "resumed", nothing: "paused",
		marked: func(s registry.State) bool { return !s.Paused.IsZero() },
	})
}

func (c *call) enable(ctx context.Context) error {
	return c.release(ctx, release{
		call: registry.Store.Enable, done: "enabled", nothing: "disabled", enables: true,
		marked: func(s registry.State) bool { return !s.Disabled.IsZero() },
	})
}

// release is one of the two ways to let a destination receive again.
type release struct {
	call          func(registry.Store, context.Context, string) (bool, error)
	done, nothing string
	enables       bool // registry.Release.Enabled
	marked        func(registry.State) bool
}

func (c *call) release(ctx context.Context, r release) error {
	store, before, err := c.subject(ctx)
	if err != nil {
		return err
	}
	id := c.args[0]
	was, err := r.call(store, ctx, id)
	if err != nil {
		after, lookErr := c.stateAfter(ctx, store, id, err)
		switch {
		case lookErr != nil:
			return lookErr
		case r.marked(after):
			return fmt.Errorf("%s was not %s, as the registry says: %w", id, r.done, err)
		}
		c.warn("the answer was lost; the registry says that it is not %s", r.nothing)
	}
	if !was && !r.marked(before) { // was alone is not enough: a call that is repeated because its answer was lost finds nothing
		c.say("%s was not %s, it was %s. Nothing was changed.", id, r.nothing, stateText(before))
		return nil
	}
	c.say("%s is %s; before, it was %s.", id, r.done, stateText(before))
	if err := store.Record(ctx, id, registry.Release{At: time.UnixMilli(time.Now().UnixMilli()), By: c.by(), Enabled: r.enables}); err != nil {
		c.warn("list will not say who has done this: %s", lines(err.Error()))
	}
	switch {
	case r.nothing == "paused" && !before.Disabled.IsZero():
		c.say("It stays disabled: enable %s", id)
	case r.nothing == "disabled" && !before.Paused.IsZero():
		c.say("It stays paused: resume %s", id)
	default:
		c.say("All functions follow within %s. What was held for it follows, oldest first.", follows())
	}
	return nil
}
