package program

import (
	"cmp"
	"context"
	"fmt"
	"net/url"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/waybillhq/waybill/shared/registry"
	"github.com/waybillhq/waybill/shared/retry"
)

// listed is a destination as -json lists it.
type listed struct {
	ID            string `json:"id"`
	InForce       bool   `json:"inForce"` // false: it was removed and has a state still
	Tenant        string `json:"tenant,omitempty"`
	Type          string `json:"type,omitempty"`
	Host          string `json:"host,omitempty"`
	Pattern       bool   `json:"pattern"`
	Attempts      int    `json:"attempts,omitempty"`
	Over          string `json:"over,omitempty"` // all waits together
	Rate          string `json:"rate,omitempty"` // the most calls, over all functions
	Concurrency   int    `json:"concurrency,omitempty"`
	State         string `json:"state"` // receiving, paused, disabled
	PausedSince   string `json:"pausedSince,omitempty"`
	DisabledSince string `json:"disabledSince,omitempty"`
	By            string `json:"by,omitempty"`
	Note          string `json:"note,omitempty"`
	Released      string `json:"released,omitempty"` // the last time that it was let receive again: resumed or enabled
	ReleasedAt    string `json:"releasedAt,omitempty"`
	ReleasedBy    string `json:"releasedBy,omitempty"`
	health

	retry string
	state registry.State
}

// listing is what -json prints.
type listing struct {
	Version      int64    `json:"version"`
	AppliedAt    string   `json:"appliedAt,omitempty"`
	AppliedBy    string   `json:"appliedBy,omitempty"`
	Destinations []listed `json:"destinations"`
}

func (c *call) list(ctx context.Context) error {
	store, now, err := c.openAndLoad(ctx)
	switch {
	case err != nil:
		return err
	case now.broken != nil:
		return now.errUnreadable()
	}
	all := rows(now)
	c.addReleases(ctx, store, all)
	c.addHealth(ctx, all)
	if c.json {
		l := listing{Version: now.Version.Number, Destinations: all}
		if l.Version > 0 {
			l.AppliedAt, l.AppliedBy = instant(now.Version.AppliedAt), now.Version.By
		}
		text, err := document(l)
		if err != nil {
			return err
		}
		c.say("%s", text)
		return nil
	}
	if now.Version.Number == 0 {
		c.say("nothing has been applied yet")
	} else {
		c.say("in force: %s", versionText(now.Version))
	}
	if len(all) == 0 {
		c.say("no destinations")
		return nil
	}
	w := tabwriter.NewWriter(c.out, 0, 0, 2, ' ', 0)
	// Most have no limit: the column is there where one has.
	limited := slices.ContainsFunc(all, func(row listed) bool { return row.limit() != "" })
	limit := func(text string) string {
		if !limited {
			return ""
		}
		return cmp.Or(text, "-") + "\t"
	}
	fmt.Fprintf(w, "id\ttenant\ttype\thost\tpattern\tretry\t%sstate\n", limit("limit"))
	for _, row := range all {
		if !row.InForce {
			fmt.Fprintf(w, "%s\t-\t-\t-\t-\t-\t%sremoved; %s\n", name(row.ID), limit(""), row.text())
			continue
		}
		pattern := "no"
		if row.Pattern {
			pattern = "yes"
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s%s\n", name(row.ID), name(row.Tenant), name(row.Type), name(row.Host), pattern, row.retry, limit(row.limit()), row.text())
	}
	return w.Flush()
}

// rows gives the destinations in the order of the file, and then those that have nothing but a state.
func rows(now inForce) []listed {
	all := []listed{}
	for d := range destinations(now.set) {
		all = append(all, listed{
			ID: d.ID, InForce: true, Tenant: d.Tenant, Type: d.Type, Host: host(d), Pattern: d.Pattern != nil,
			Attempts: d.Retry.Attempts(), Over: span(total(d.Retry)), retry: retryText(d.Retry), Rate: rateText(d.Rate), Concurrency: d.Concurrency,
		})
	}
	for _, id := range now.ids() {
		if !known(now.set, id) {
			all = append(all, listed{ID: id})
		}
	}
	for i := range all {
		all[i].setState(now.States[all[i].ID])
	}
	return slices.Clip(all)
}

func (l *listed) setState(s registry.State) {
	l.state, l.State, l.By, l.Note = s, "receiving", s.By, s.Note
	if !s.Disabled.IsZero() {
		l.State, l.DisabledSince = "disabled", instant(s.Disabled)
	}
	if !s.Paused.IsZero() {
		l.State, l.PausedSince = "paused", instant(s.Paused)
	}
}

// text says whether a destination receives. Of one that a person or a 410 has stopped, nothing else counts.
func (l *listed) text() string {
	if !l.state.MayReceive() {
		return stateText(l.state)
	}
	text := l.health.text()
	if l.ReleasedAt != "" {
		text += fmt.Sprintf("; %s %s by %s", l.Released, l.ReleasedAt, name(l.ReleasedBy))
	}
	return text
}

// addReleases adds who let destinations receive again. The list is of use without.
func (c *call) addReleases(ctx context.Context, store registry.Store, all []listed) {
	releases, err := store.Releases(ctx)
	if err != nil {
		c.warn("who has resumed and enabled destinations could not be read: %s", lines(err.Error()))
		return
	}
	for i := range all {
		if r, ok := releases[all[i].ID]; ok {
			all[i].Released, all[i].ReleasedAt, all[i].ReleasedBy = "resumed", instant(r.At), r.By
			if r.Enabled {
				all[i].Released = "enabled"
			}
		}
	}
}

// host gives the host of a destination's URL, and nothing else of it: paths and queries may be credentials.
func host(d *registry.Destination) string {
	if d.Webhook == nil {
		return ""
	}
	u, err := url.Parse(d.Webhook.URL)
	if err != nil {
		return ""
	}
	return u.Host
}

// rateText puts a rate in words; none is "".
func rateText(r *registry.Rate) string {
	if r == nil {
		return ""
	}
	return fmt.Sprintf("%d in %s, %d at once", r.Limit, span(r.Per), r.Burst)
}

// limit tells how many calls a destination gets; "": as many as there are.
func (l listed) limit() string {
	if l.Concurrency == 0 {
		return l.Rate
	}
	text := fmt.Sprintf("%d at a time", l.Concurrency)
	if l.Rate != "" {
		text = l.Rate + "; " + text
	}
	return text
}

// retryText puts a schedule in words.
func retryText(s retry.Schedule) string {
	if s.Attempts() == 1 {
		return "1 try"
	}
	return fmt.Sprintf("%d tries in %s", s.Attempts(), span(total(s)))
}

func total(s retry.Schedule) (sum time.Duration) {
	for _, wait := range s.Waits() {
		sum += wait
	}
	return sum
}

// took writes how long something has taken.
func took(d time.Duration) string {
	if d < time.Millisecond {
		return "less than 1ms"
	}
	if d < time.Second {
		return d.Round(time.Millisecond).String()
	}
	return d.Round(10 * time.Millisecond).String()
}

// span writes a duration in whole seconds without parts that are zero: 2h, 1h30m, 75h35m5s.
func span(d time.Duration) string {
	d = d.Round(time.Second)
	text := d.String()
	if d >= time.Minute && d%time.Minute == 0 {
		text = text[:len(text)-len("0s")]
	}
	if d >= time.Hour && d%time.Hour == 0 {
		text = text[:len(text)-len("0m")]
	}
	return text
}

func (c *call) history(ctx context.Context) error {
	store, err := c.open(ctx)
	if err != nil {
		return err
	}
	versions, err := store.Versions(ctx)
	if err != nil {
		return cannot("the registry cannot be read: %w", err)
	}
	if len(versions) == 0 {
		c.say("nothing has been applied yet")
		return nil
	}
	w := tabwriter.NewWriter(c.out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "version\tapplied\tby\tbytes\tsha256")
	for i, v := range versions {
		mark := ""
		if i == 0 {
			mark = "\tin force"
		}
		const digits = 12
		fmt.Fprintf(w, "%d\t%s\t%s\t%d\t%s%s\n", v.Number, instant(v.AppliedAt), name(v.By), v.Bytes, name(v.SHA256[:min(digits, len(v.SHA256))]), mark)
	}
	return w.Flush()
}
