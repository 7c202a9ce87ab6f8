package program

import (
	"context"
	"fmt"
	"strings"

	"github.com/waybillhq/waybill/shared/registry"
	"github.com/waybillhq/waybill/shared/terminal"
)

// mostNotes bounds how many paused or disabled destinations are named below a difference.
const mostNotes = 10

func (c *call) validate(context.Context) error {
	if c.schema {
		_, err := c.out.Write(registry.Schema())
		return err
	}
	_, set, err := c.readFile(c.args[0])
	if err != nil {
		return err
	}
	c.say("%s: %s, no problems", fileText(c.args[0]), terminal.Plural(set.Len(), "destination"))
	return nil
}

func (c *call) diff(ctx context.Context) error {
	_, set, err := c.readFile(c.args[0])
	if err != nil {
		return err
	}
	_, now, err := c.openAndLoad(ctx)
	switch {
	case err != nil:
		return err
	case now.broken != nil:
		return now.errUnreadable()
	}
	changes := registry.Diff(now.set, set)
	c.show(now, set, changes)
	if len(changes) > 0 {
		return &exit{status: statusDiffers}
	}
	return nil
}

// show prints what applying a set would change, and what that means.
func (c *call) show(now inForce, to *registry.Set, changes []registry.Change) {
	if now.Version.Number == 0 {
		c.say("nothing has been applied yet")
	} else {
		c.say("in force: %s", versionText(now.Version))
	}
	count := map[registry.ChangeKind]int{}
	width := 0
	for _, change := range changes {
		count[change.Kind]++
		width = max(width, len(change.ID))
	}
	for _, change := range changes {
		c.say("  %s", changeText(change, width))
	}
	if len(changes) == 0 {
		c.say("no differences: %s", terminal.Plural(to.Len(), "destination"))
		return
	}
	c.say("%d to add, %d to change, %d to remove; %d stay as they are",
		count[registry.Added], count[registry.Changed], count[registry.Removed], to.Len()-count[registry.Added]-count[registry.Changed])
	if count[registry.Removed] > 0 {
		c.say("Deliveries that still wait for a removed destination become dead letters, with the reason unknown-destination.")
	}
	c.showStates(now, changes)
}

func changeText(change registry.Change, width int) string {
	signs := map[registry.ChangeKind]string{registry.Added: "+", registry.Changed: "~", registry.Removed: "-"}
	text := fmt.Sprintf("%s %-*s  %s", signs[change.Kind], width, terminal.Escaped(change.ID, registry.MaxID), change.Kind)
	if len(change.Fields) > 0 {
		text += ": " + terminal.Escaped(strings.Join(change.Fields, ", "), mostLine)
	}
	return text
}

// showStates names the destinations of a difference that are paused or disabled, because applying changes nothing about that.
func (c *call) showStates(now inForce, changes []registry.Change) {
	told := 0
	for _, change := range changes {
		state := now.States[change.ID]
		if state.MayReceive() {
			continue
		}
		if told++; told > mostNotes {
			continue
		}
		if change.Kind == registry.Removed {
			c.say("%s is %s: what is held for it stays until that ends.", change.ID, stateText(state))
			continue
		}
		c.say("%s is %s, and stays so.", change.ID, stateText(state))
	}
	if told > mostNotes {
		c.say("%d more of these are paused or disabled: see list.", told-mostNotes)
	}
}
