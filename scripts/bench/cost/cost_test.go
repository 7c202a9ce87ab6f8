package cost_test

import (
	"math"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/waybillhq/waybill/scripts/bench/cost"
	"github.com/waybillhq/waybill/scripts/bench/load"
	"github.com/waybillhq/waybill/shared/topology"
)

func prices(t *testing.T) cost.Prices {
	t.Helper()
	p, err := cost.List()
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// TestCostOfADelivery fails when a delivery needs more calls or units than it did, in either profile and either ledger mode. Time is virtual, so
// that an invocation takes what the receiver takes, 100 ms, and not what this machine does.
func TestCostOfADelivery(t *testing.T) {
	const deliveries = 1000
	list := prices(t)
	for _, want := range []struct {
		profile     topology.Profile
		relaxed     bool
		write, read float64
		calls       float64 // of the ledger
		sqs         float64
		invocations float64
		dollars     float64
	}{
		{topology.LowLatency, false, 2, 0, 0.21, 0.65, 0.22, 2},
		{topology.LowLatency, true, 1, 1, 0.21, 0.65, 0.22, 1.30},
		{topology.HighVolume, false, 2, 0, 0.12, 0.65, 0.05, 2},
		{topology.HighVolume, true, 1, 1, 0.07, 0.65, 0.05, 1.30},
	} {
		mode := "strict"
		if want.relaxed {
			mode = "relaxed"
		}
		t.Run(string(want.profile)+" "+mode, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				u, err := cost.Measure(cost.Load{
					Shape:      load.Shape{Profile: want.profile, Relaxed: want.relaxed, AnswerAfter: 100 * time.Millisecond, InMemory: true},
					Deliveries: deliveries,
				})
				if err != nil {
					t.Fatal(err)
				}
				bill := list.PerMillion(u)
				t.Logf("%+v\n%+v", u, bill)
				if u.WriteUnits != want.write || u.ReadUnits != want.read {
					t.Errorf("a delivery takes %v write units and %v read units, want %v and %v", u.WriteUnits, u.ReadUnits, want.write, want.read)
				}
				for _, c := range []struct {
					what       string
					have, most float64
				}{
					{"calls of the ledger", u.DynamoCalls, want.calls}, {"SQS requests", u.SQSRequests, want.sqs}, {"invocations", u.Invocations, want.invocations},
					{"write units of other tables", u.OtherWrites + 1e-9, 0.03}, {"dollars a million", bill.Total, want.dollars},
				} {
					if c.have > c.most || c.have <= 0 {
						t.Errorf("%s: %.4f, want at most %v", c.what, c.have, c.most)
					}
				}
			})
		})
	}
}

// TestCostOfIdling fails when a system without events makes more calls than it did.
func TestCostOfIdling(t *testing.T) {
	s, err := cost.Idle(t.Context(), prices(t), 2)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%+v", s)
	if calls := s.WakerCalls / s.WakerRuns; calls > 200 || calls <= 0 {
		t.Errorf("a run of the waker that finds nothing makes %.1f calls", calls)
	}
}

func TestBill(t *testing.T) {
	var p cost.Prices
	p.AWS.SQSPerMillionRequests, p.AWS.SQSFairPerMillionRequests = 1, 10
	p.AWS.WriteUnitsPerMillion, p.AWS.ReadUnitsPerMillion = 100, 1000
	p.AWS.LambdaPerMillionInvocations, p.AWS.LambdaArmPerGBSecond, p.AWS.LogsPerGB = 1e4, 1e2, 1e6
	b := p.PerMillion(cost.Usage{
		SQSRequests: 2, FairRequests: 3, WriteUnits: 4, ReadUnits: 5, Invocations: 6, GBMilliseconds: 7, LogBytes: 8 * (1 << 30) / 1e6,
	})
	want := cost.Bill{SQS: 32, DynamoDB: 5400, Lambda: 6e4 + 7e5, Logs: 8e6, Total: 32 + 5400 + 6e4 + 7e5 + 8e6}
	if math.Abs(b.Total-want.Total) > 1e-3 || b.SQS != want.SQS || b.DynamoDB != want.DynamoDB {
		t.Errorf("%+v, want %+v", b, want)
	}
}

// Every price says where it comes from.
func TestPricesHaveSources(t *testing.T) {
	p := prices(t)
	a := p.AWS
	for name, price := range map[string]float64{
		"sqsPerMillionRequests": a.SQSPerMillionRequests, "sqsFairPerMillionRequests": a.SQSFairPerMillionRequests, "writeUnitsPerMillion": a.WriteUnitsPerMillion,
		"readUnitsPerMillion": a.ReadUnitsPerMillion, "lambdaPerMillionInvocations": a.LambdaPerMillionInvocations, "lambdaArmPerGBSecond": a.LambdaArmPerGBSecond,
		"logsPerGB": a.LogsPerGB,
	} {
		if price <= 0 || p.Sources[name] == "" {
			t.Errorf("%s: price %v, source %q", name, price, p.Sources[name])
		}
	}
	if _, err := time.Parse(time.DateOnly, p.Date); err != nil || p.Region == "" {
		t.Errorf("date %q, region %q", p.Date, p.Region)
	}
	if len(p.Others) != 4 || slices.ContainsFunc(p.Others, func(o cost.Other) bool { return o.PerMillion <= 0 || o.Source == "" || o.Date == "" }) {
		t.Errorf("%+v", p.Others)
	}
}
