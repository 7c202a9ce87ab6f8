package topology_test

import (
	"strings"
	"testing"

	"github.com/waybillhq/waybill/shared/topology"
)

// What is new in the topology appears on the dashboard without anybody's doing: a queue with its dead letters, what reads it, and a table.
func TestDashboardShowsWhatIsNew(t *testing.T) {
	top := topology.New(topology.LowLatency)
	top.Queues = append(top.Queues, topology.Queue{Name: "slow", DeadLetter: "slow-dlq"}, topology.Queue{Name: "slow-dlq"})
	top.Tables = append(top.Tables, topology.Table{Name: "audit"})
	slow := *function(&top, topology.Deliverer)
	slow.Name, slow.Source.Queue = "slow-deliverer", "slow"
	top.Functions = append(top.Functions, slow)
	for panel, want := range map[string]string{
		"Deliveries routed, attempted, delivered": "Delivered of deliverer+slow-deliverer",
		"From acceptance to delivery":             "p99 of slow-deliverer",
		"Messages that wait on queues":            "slow: ApproximateNumberOfMessagesVisible of slow",
		"Age of the oldest message":               "slow, quiet groups: ",
		"Dead letters":                            "slow-dlq: ",
		"Runs that failed or were throttled":      "slow-deliverer: Errors of slow-deliverer",
		"Cost: DynamoDB, units consumed":          "audit, writes: ConsumedWriteCapacityUnits of audit",
		"Failed attempts by destination":          "attempt failed of deliverer+slowlane+slow-deliverer",
	} {
		if got := drawn(top, panel); !strings.Contains(got, want) {
			t.Errorf("%s does not show %q, only\n%s", panel, want, got)
		}
	}
	if dead := drawn(top, "Dead letters"); strings.Contains(dead, "slow: ") || strings.Contains(drawn(top, "Messages that wait on queues"), "slow-dlq") {
		t.Error("queues of work and of dead letters are mixed up")
	}
}

// Where the stage has the canary, the time that it takes is shown beside that of deliveries, in seconds like theirs.
func TestDashboardShowsTheCanary(t *testing.T) {
	const panel, line = "From acceptance to delivery", "canary: CanaryLatency of canary"
	top := topology.New(topology.LowLatency)
	if got := drawn(top, panel); strings.Contains(got, "canary") {
		t.Errorf("without a canary it shows\n%s", got)
	}
	if got := drawn(top.WithCanary(), panel); !strings.Contains(got, line) {
		t.Errorf("it does not show %q, only\n%s", line, got)
	}
	for _, p := range top.WithCanary().Dashboard()[0] {
		for _, l := range p.Lines {
			if p.Title == panel && l.Factor != 0.001 {
				t.Errorf("%s is shown in milliseconds", l.Label)
			}
		}
	}
}

// The deliverer forgets a delivery that nobody touches; what the waker finds every minute is what is shown as parked, and what the alarm watches.
func TestDashboardShowsParkedDeliveriesThatNobodyTouches(t *testing.T) {
	const line = "parked: WakerOldestParked of waker"
	if got := drawn(topology.New(topology.LowLatency), "Age of the oldest held delivery"); !strings.Contains(got, line) {
		t.Errorf("it does not show %q, only\n%s", line, got)
	}
}

// A function that only looks into the ledger makes no attempts.
func TestReaderOfTheLedgerIsNoDeliverer(t *testing.T) {
	top := topology.New(topology.LowLatency)
	top.Functions = append(top.Functions, topology.Function{
		Name: "looker", Source: topology.Mapping{Queue: "looks"}, Tables: []topology.TableAccess{{Table: topology.Ledger, Operations: []topology.Operation{topology.GetItem}}},
	})
	if got := drawn(top, "Deliveries routed, attempted, delivered"); strings.Contains(got, "looker") {
		t.Errorf("it is shown as a deliverer:\n%s", got)
	}
}

// drawn writes down what a panel shows.
func drawn(top topology.Topology, title string) string {
	var text strings.Builder
	for _, row := range top.Dashboard() {
		for _, p := range row {
			if p.Title != title {
				continue
			}
			var names []string
			for _, f := range p.Ranking.Functions {
				names = append(names, string(f))
			}
			text.WriteString(p.Ranking.Message + " of " + strings.Join(names, "+") + "\n")
			for _, line := range p.Lines {
				names = nil
				for _, s := range line.Signals {
					names = append(names, string(s.Queue)+string(s.Table)+string(s.Function))
				}
				text.WriteString(line.Label + ": " + line.Signals[0].Name + " of " + strings.Join(names, "+") + "\n")
			}
		}
	}
	return text.String()
}
