package program_test

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/waybillhq/waybill/shared/awslocal"
	"github.com/waybillhq/waybill/shared/registry"
)

func (a *account) disable(id string) {
	a.t.Helper()
	if _, err := a.store().Disable(a.t.Context(), id, registry.Mark{Since: time.Now(), By: "deliverer", Note: "answered 410"}); err != nil {
		a.t.Fatal(err)
	}
}

func TestPauseAndResume(t *testing.T) {
	inAccount(t, func(a *account) {
		a.applied(to("crm"))
		a.want(0, "crm is paused; before, it was receiving.\nAll functions follow within 15s. Its deliveries are held until: resume crm\n", "",
			"pause", "crm", "-note", "moving")
		if s := a.current().States["crm"]; s.By != "anna" || s.Note != "moving" || !s.Paused.Equal(time.Now()) {
			t.Errorf("%+v", s)
		}
		time.Sleep(time.Hour)
		a.env.User = "bert"
		a.want(0, "crm was paused since 2026-11-22T09:00:00Z by anna (moving). Nothing was changed.\n", "", "pause", "crm")
		a.want(0, "crm was paused since 2026-11-22T09:00:00Z by anna (moving). Nothing was changed.\n"+
			"The note was not written: the earlier one stays. Resume and pause again to replace it.\n", "", "pause", "crm", "-note", "other")
		a.want(0, "crm was not disabled, it was paused since 2026-11-22T09:00:00Z by anna (moving). Nothing was changed.\n", "", "enable", "crm")
		a.want(0, "crm is resumed; before, it was paused since 2026-11-22T09:00:00Z by anna (moving).\n"+
			"All functions follow within 15s. What was held for it follows, oldest first.\n", "", "resume", "crm")
		a.want(0, "crm was not paused, it was receiving. Nothing was changed.\n", "", "resume", "crm")
		if s := a.current().States; len(s) != 0 {
			t.Errorf("%+v", s)
		}
	})
}

func TestEnable(t *testing.T) {
	inAccount(t, func(a *account) {
		a.applied(to("crm"), to("erp"))
		a.disable("crm")
		a.disable("erp")
		a.do("pause", "crm")
		a.want(0, "erp is enabled; before, it was disabled since 2026-11-22T09:00:00Z by deliverer (answered 410).\n"+
			"All functions follow within 15s. What was held for it follows, oldest first.\n", "", "enable", "erp")
		a.says(0, []string{"crm is enabled", "It stays paused: resume crm"}, "enable", "crm")
		a.disable("crm")
		a.says(0, []string{"crm is resumed", "It stays disabled: enable crm"}, "resume", "crm")
		if s := a.current().States; len(s) != 1 || s["crm"].Disabled.IsZero() || !s["crm"].Paused.IsZero() {
			t.Errorf("%+v", s)
		}
	})
}

// TestWhoReleasedIsNotWritten: the destination receives again even so, and the warning says what is missing.
func TestWhoReleasedIsNotWritten(t *testing.T) {
	inAccount(t, func(a *account) {
		a.applied(to("crm"))
		a.do("pause", "crm")
		a.endpoint.Faults().Add(awslocal.Fault{Operation: "PutItem", Error: denied})
		a.says(0, []string{"crm is resumed", "warning: list will not say who has done this"}, "resume", "crm")
		if s := a.current().States; len(s) != 0 {
			t.Errorf("%+v", s)
		}
	})
}

// TestUnknownDestinations: a slip of the pen does not pause what does not exist; what was removed and still has deliveries can be reached.
func TestUnknownDestinations(t *testing.T) {
	inAccount(t, func(a *account) {
		a.want(1, "", "no destination crm is in force: list shows them all\n", "pause", "crm")
		a.applied(to("orders-crm"), to("orders-erp"), to("billing"))
		for _, command := range []string{"pause", "resume", "enable", "ping"} {
			a.want(1, "", "no destination order-crm is in force: did you mean orders-crm or orders-erp?\n", command, "order-crm")
			a.want(1, "", "no destination zzz is in force: list shows them all\n", command, "zzz")
		}
		a.says(1, []string{"did you mean billing?"}, "pause", "bill")
		if s := a.current().States; len(s) != 0 {
			t.Errorf("%+v", s)
		}
		a.says(0, []string{"warning: as far as can be told, no destination zzz is in force", "zzz is paused"}, "pause", "zzz", "-force")
		a.want(1, "", "no destination zzz is in force: list shows them all\n", "pause", "zzz") // a state does not make a destination
		a.says(0, []string{"zzz was removed; what is held for it can still be let go", "zzz is resumed"}, "resume", "zzz")
		a.says(1, nil, "resume", "zzz")
		a.says(0, []string{"zzz was not disabled"}, "enable", "zzz", "-force")
	})
}

// TestLostAnswersOfMarks: whatever is lost, what the program says is what the registry holds.
func TestLostAnswersOfMarks(t *testing.T) {
	for name, tt := range map[string]struct {
		command string
		before  string // a command that comes first
		faults  []awslocal.Fault
		status  int
		says    []string
		paused  bool
	}{
		"one answer to pause is lost": {
			"pause", "", []awslocal.Fault{{Operation: "UpdateItem", WithholdAnswer: true, Times: 1}}, 0,
			[]string{"crm is paused; before, it was receiving"}, true,
		},
		"all answers to pause are lost": {
			"pause", "", []awslocal.Fault{{Operation: "UpdateItem", WithholdAnswer: true}}, 0,
			[]string{"the registry says that it is paused", "crm is paused; before, it was receiving"}, true,
		},
		"all answers to a second pause are lost": {
			"pause", "pause", []awslocal.Fault{{Operation: "UpdateItem", WithholdAnswer: true}}, 0,
			[]string{"crm was paused since 2026-11-22T09:00:00Z by anna. Nothing was changed."}, true,
		},
		"pause never done": {
			"pause", "", []awslocal.Fault{{Operation: "UpdateItem", Error: broken}}, 1,
			[]string{"crm was not paused, as the registry says"}, false,
		},
		"pause not allowed": {
			"pause", "", []awslocal.Fault{{Operation: "UpdateItem", Error: denied}}, 1,
			[]string{"crm was not paused", "the role may not do this"}, false,
		},
		"pause throttled": {
			"pause", "", []awslocal.Fault{{Operation: "UpdateItem", Throttle: true}}, 2,
			[]string{"nothing was changed", "run the same command again"}, false,
		},
		"resume never done": {
			"resume", "pause", []awslocal.Fault{{Operation: "DeleteItem", Error: broken}}, 1,
			[]string{"crm was not resumed, as the registry says"}, true,
		},
		"resume throttled": {
			"resume", "pause", []awslocal.Fault{{Operation: "DeleteItem", Throttle: true}}, 2,
			[]string{"nothing was changed"}, true,
		},
		"resume of nothing": {
			"resume", "", []awslocal.Fault{{Operation: "DeleteItem", WithholdAnswer: true}}, 0,
			[]string{"crm was not paused"}, false,
		},
		"answers to resume are lost": {
			"resume", "pause", []awslocal.Fault{{Operation: "DeleteItem", WithholdAnswer: true}}, 0,
			[]string{"the registry says that it is not paused", "crm is resumed"}, false,
		},
		"nothing can be looked up": {
			"pause", "", []awslocal.Fault{{Operation: "UpdateItem", WithholdAnswer: true}, {Operation: "Query", Skip: 2, Error: broken}}, 1,
			[]string{"WHETHER crm WAS CHANGED IS NOT KNOWN"}, true,
		},
	} {
		t.Run(name, func(t *testing.T) {
			inAccount(t, func(a *account) {
				a.applied(to("crm"))
				if tt.before != "" {
					a.do(tt.before, "crm")
					time.Sleep(time.Hour)
				}
				for _, f := range tt.faults {
					a.endpoint.Faults().Add(f)
				}
				a.says(tt.status, tt.says, tt.command, "crm")
				a.endpoint.Faults().Clear()
				if s := a.current().States["crm"]; s.Paused.IsZero() == tt.paused {
					t.Errorf("%+v", s)
				}
			})
		})
	}
}

// TestInterruptedPause: a pause that was written when the interrupt came is told as what it is.
func TestInterruptedPause(t *testing.T) {
	inAccount(t, func(a *account) {
		a.applied(to("crm"))
		ctx, cancel := context.WithCancel(a.t.Context())
		a.observe = func(c awslocal.Call) {
			if c.Operation == "UpdateItem" {
				cancel()
				time.Sleep(time.Second) // the answer comes too late
			}
		}
		expect(t, a.doUnder(ctx, "pause", "crm"), 0, "the registry says that it is paused", "crm is paused; before, it was receiving")
		time.Sleep(time.Minute) // until that answer is given
	})
}

// TestSomebodyElsePausesFirst: two pause at once; who was slower by a moment is told what holds.
func TestSomebodyElsePausesFirst(t *testing.T) {
	inAccount(t, func(a *account) {
		a.applied(to("crm"))
		var meddled atomic.Bool
		a.observe = func(c awslocal.Call) {
			if c.Operation == "Query" && meddled.CompareAndSwap(false, true) {
				if _, err := a.store().Pause(context.Background(), "crm", registry.Mark{Since: time.Now().Add(-time.Second), By: "bert", Note: "mine"}); err != nil {
					t.Error(err)
				}
			}
		}
		a.want(0, "crm was paused since 2026-11-22T08:59:59Z by bert (mine). Nothing was changed.\n", "", "pause", "crm")
	})
}

// TestOneAnswerToResumeIsLost: the SDK's second try finds nothing to take away. What was true before is still told.
func TestOneAnswerToResumeIsLost(t *testing.T) {
	inAccount(t, func(a *account) {
		a.applied(to("crm"))
		a.do("pause", "crm")
		a.endpoint.Faults().Add(awslocal.Fault{Operation: "DeleteItem", WithholdAnswer: true, Times: 1})
		a.says(0, []string{"crm is resumed; before, it was paused since"}, "resume", "crm")
		if s := a.current().States; len(s) != 0 {
			t.Errorf("%+v", s)
		}
	})
}
