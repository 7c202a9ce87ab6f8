package program

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb"

	"github.com/waybillhq/waybill/shared/breaker"
	breakerdynamo "github.com/waybillhq/waybill/shared/breaker/dynamo"
	"github.com/waybillhq/waybill/shared/pace"
	pacedynamo "github.com/waybillhq/waybill/shared/pace/dynamo"
	"github.com/waybillhq/waybill/shared/terminal"
)

// health is what deliverers have found out about a destination, as -json lists it.
type health struct {
	Breaker        string `json:"breaker,omitempty"`        // open: its deliveries are held; probing: one of them is being tried
	HeldUntil      string `json:"heldUntil,omitempty"`      // of a breaker: after that the next delivery tries whether it is well
	LeftAloneUntil string `json:"leftAloneUntil,omitempty"` // the destination has asked for that
	Failures       int    `json:"failures,omitempty"`       // in a row
	Slow           bool   `json:"slow,omitempty"`           // its deliveries are made in the slow lane

	over bool // the time of HeldUntil
}

// text says in words whether a destination receives that nobody has stopped.
func (h *health) text() string {
	var parts []string
	switch {
	case h.Breaker != "" && h.over: // also where the worker that tried it has died
		parts = append(parts, "failing, held; its next delivery tries it")
	case h.Breaker == string(breaker.Probing):
		parts = append(parts, "failing, held; being tried now")
	case h.Breaker != "":
		parts = append(parts, "failing, held until "+h.HeldUntil)
	case h.Failures > 0:
		parts = append(parts, fmt.Sprintf("receiving; the last %s failed", terminal.Plural(h.Failures, "attempt")))
	}
	if h.LeftAloneUntil != "" {
		parts = append(parts, "asks to be left alone until "+h.LeftAloneUntil)
	}
	if len(parts) == 0 {
		parts = append(parts, "receiving")
	}
	if h.Slow {
		parts = append(parts, "slow lane")
	}
	return strings.Join(parts, "; ")
}

// addHealth adds which destinations fail or are slow. The list is of use without.
func (c *call) addHealth(ctx context.Context, all []listed) {
	tables := dynamodb.NewFromConfig(c.cfg)
	problem := func(err error) {
		c.warn("which destinations fail or are slow could not be read: %s", lines(err.Error()))
	}
	store, err := breakerdynamo.New(tables, c.table)
	if err != nil {
		problem(err)
		return
	}
	rows, err := store.All(ctx)
	if err != nil {
		problem(err)
		return
	}
	late, err := pacedynamo.New(tables, c.table)
	if err != nil {
		problem(err)
		return
	}
	speed, err := pace.New(pace.Config{Store: late, OnProblem: problem})
	if err != nil {
		problem(err)
		return
	}
	now := time.Now()
	for i := range all {
		if all[i].InForce {
			all[i].health = healthOf(rows[all[i].ID], now)
			all[i].Slow = speed.Slow(ctx, all[i].ID)
		}
	}
}

func healthOf(row breaker.Row, now time.Time) health {
	h := health{Failures: row.Streak}
	if row.Phase == breaker.Open || row.Phase == breaker.Probing {
		h.Breaker, h.HeldUntil, h.over = string(row.Phase), instant(row.Until), !row.Until.After(now)
	}
	if row.ThrottledUntil.After(now) {
		h.LeftAloneUntil = instant(row.ThrottledUntil)
	}
	return h
}
