package topology_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/waybillhq/waybill/shared/topology"
)

func TestProfilesAreValid(t *testing.T) {
	for _, p := range []topology.Profile{topology.LowLatency, topology.HighVolume} {
		if err := topology.New(p).Validate(); err != nil {
			t.Errorf("%s: %v", p, err)
		}
		if err := topology.New(p).WithCanary().Validate(); err != nil {
			t.Errorf("%s, with the canary: %v", p, err)
		}
	}
}

// function gives the function of t to be changed in place.
func function(t *topology.Topology, name topology.FunctionName) *topology.Function {
	for i := range t.Functions {
		if t.Functions[i].Name == name {
			return &t.Functions[i]
		}
	}
	panic("no function " + name)
}

func queue(t *topology.Topology, name topology.QueueName) *topology.Queue {
	for i := range t.Queues {
		if t.Queues[i].Name == name {
			return &t.Queues[i]
		}
	}
	panic("no queue " + name)
}

// violations breaks one relation each and names words of the complaint.
var violations = []struct {
	name   string
	change func(*topology.Topology)
	say    []string
}{
	{"unknown profile", func(t *topology.Topology) { t.Profile = "fast" }, []string{`profile "fast"`, "low-latency", "high-volume"}},
	{"queue twice", func(t *topology.Topology) { t.Queues = append(t.Queues, t.Queues[0]) }, []string{"queue ingress", "twice"}},
	{"queue without name", func(t *topology.Topology) { t.Queues = append(t.Queues, topology.Queue{}) }, []string{"without a name"}},
	{"retention too long", func(t *topology.Topology) { queue(t, topology.Ingress).Retention = 15 * 24 * time.Hour }, []string{"queue ingress", "retention 360h0m0s"}},
	{"receive count too small", func(t *topology.Topology) { queue(t, topology.Deliveries).MaxReceiveCount = 4 }, []string{"queue deliveries", "maxReceiveCount 4", "5"}},
	{"dead letters younger than source", func(t *topology.Topology) { queue(t, topology.Ingress).Retention = 14 * 24 * time.Hour }, []string{"queue ingress", "keeps its age"}},
	{"dead letters kept too short", func(t *topology.Topology) { queue(t, topology.IngressDeadLetter).Retention = 7 * 24 * time.Hour }, []string{"queue ingress", "ingress-dlq keeps 168h"}},
	{"dead-letter queue missing", func(t *topology.Topology) { queue(t, topology.Ingress).DeadLetter = "nowhere" }, []string{"queue ingress", "nowhere is not declared"}},
	{"dead-letter queue of a dead-letter queue", func(t *topology.Topology) {
		queue(t, topology.IngressDeadLetter).DeadLetter, queue(t, topology.IngressDeadLetter).MaxReceiveCount = topology.DeliveriesDeadLetter, 10
	}, []string{"queue ingress", "ingress-dlq has one itself"}},
	{"read without dead letters", func(t *topology.Topology) { queue(t, topology.Deliveries).DeadLetter = "" }, []string{"queue deliveries", "deliverer reads it"}},
	{"table twice", func(t *topology.Topology) { t.Tables = append(t.Tables, t.Tables[0]) }, []string{"table ledger", "twice"}},
	{"table without key", func(t *topology.Topology) { t.Tables[0].Partition = topology.Key{} }, []string{`table "ledger"`, "partition key"}},
	{"key of a strange type", func(t *topology.Topology) { t.Tables[0].Partition.Type = "B" }, []string{"table ledger", `type "B"`}},
	{"function twice", func(t *topology.Topology) { t.Functions = append(t.Functions, t.Functions[0]) }, []string{`function "router"`, "read by function"}},
	{"function too slow", func(t *topology.Topology) { function(t, topology.Router).Timeout = 16 * time.Minute }, []string{"function router", "timeout 16m0s"}},
	{"function too small", func(t *topology.Topology) { function(t, topology.Router).MemoryMB = 64 }, []string{"function router", "memory 64 MB"}},
	{"nothing runs it", func(t *topology.Topology) { function(t, topology.Waker).Every = 0 }, []string{"function waker", "nothing runs it"}},
	{"both queue and clock", func(t *topology.Topology) { function(t, topology.Waker).Source.Queue = topology.Ingress }, []string{"function waker", "both a source queue and a schedule"}},
	{"half a minute", func(t *topology.Topology) { function(t, topology.Waker).Every = 90 * time.Second }, []string{"function waker", "1m30s", "whole minutes"}},
	{"runs overlap", func(t *topology.Topology) { function(t, topology.Waker).Timeout = time.Minute }, []string{"function waker", "timeout 1m0s"}},
	{"no cache of marks", func(t *topology.Topology) { t.Limits.MarkCache = 0 }, []string{"limits.MarkCache"}},
	{"delay beyond SQS", func(t *topology.Topology) { t.Limits.LongestDelay = 16 * time.Minute }, []string{"limits.LongestDelay: 16m0s", "15m0s"}},
	{"registry forgotten before it is old", func(t *topology.Topology) { t.Limits.RegistryStale = time.Second }, []string{"limits.RegistryStale: 1s", "RegistryAge"}},
	{"unknown source", func(t *topology.Topology) { function(t, topology.Router).Source.Queue = "nowhere" }, []string{"function router", "reads queue nowhere"}},
	{"unknown queue", func(t *topology.Topology) { function(t, topology.Router).Queues[0].Queue = "nowhere" }, []string{"function router", "uses queue nowhere"}},
	{"unknown table", func(t *topology.Topology) { function(t, topology.Deliverer).Tables[0].Table = "nowhere" }, []string{"function deliverer", "uses table nowhere"}},
	{"queue without operations", func(t *topology.Topology) { function(t, topology.Router).Queues[0].Operations = nil }, []string{"function router", "ingress without operations"}},
	{"table without operations", func(t *topology.Topology) { function(t, topology.Deliverer).Tables[0].Operations = nil }, []string{"function deliverer", "ledger without operations"}},
	{"visibility beyond SQS", func(t *topology.Topology) {
		f := function(t, topology.Router)
		f.Timeout, f.Source.Window = 15*time.Minute, 12*time.Hour
	}, []string{"queue ingress", "visibility timeout"}},
	{"attempt longer than function", func(t *topology.Topology) { t.Limits.AttemptTimeout = 55 * time.Second }, []string{"function deliverer", "attempt timeout 55s + headroom 7s"}},
	{"lease longer than visibility", func(t *topology.Topology) { t.Limits.LeaseGrace = 10 * time.Minute }, []string{"function deliverer", "visibility timeout 6m0s", "lease 11m0s"}},
	{"grace below skew", func(t *topology.Topology) { t.Limits.LeaseGrace = 9 * time.Second }, []string{"limits.LeaseGrace", "twice limits.ClockSkew"}},
	{"no skew", func(t *topology.Topology) { t.Limits.ClockSkew = 0 }, []string{"limits.ClockSkew: 0s"}},
	{"ledger forgets too early", func(t *topology.Topology) { t.Limits.LedgerMargin = 27 * 24 * time.Hour }, []string{"limits.LedgerMargin", "672h"}},
	{"batch without window", func(t *topology.Topology) { function(t, topology.Router).Source.BatchSize = 11 }, []string{"function router", "batch size 11", "window"}},
	{"empty batch", func(t *topology.Topology) { function(t, topology.Router).Source.BatchSize = 0 }, []string{"function router", "batch size 0"}},
	{"broken window", func(t *topology.Topology) { function(t, topology.Router).Source.Window = 1500 * time.Millisecond }, []string{"function router", "batch window 1.5s"}},
	{"canary before it listens", func(t *topology.Topology) { function(t, topology.Router).ServesCanary = true }, []string{"function router", "WithCanary"}},
	{"concurrency of one", func(t *topology.Topology) { function(t, topology.Router).Source.MaximumConcurrency = 1 }, []string{"function router", "maximum concurrency 1"}},
}

func TestValidateNamesEachViolation(t *testing.T) {
	for _, v := range violations {
		t.Run(v.name, func(t *testing.T) {
			top := topology.New(topology.LowLatency)
			v.change(&top)
			err := top.Validate()
			if err == nil {
				t.Fatal("nothing was found wrong")
			}
			for _, word := range v.say {
				if !strings.Contains(err.Error(), word) {
					t.Errorf("%q is missing in: %v", word, err)
				}
			}
		})
	}
}

func TestValidateReportsEverythingAtOnce(t *testing.T) {
	top := topology.New("fast")
	queue(&top, topology.Deliveries).MaxReceiveCount = 1
	function(&top, topology.Router).MemoryMB = 1
	top.Limits.ClockSkew = time.Hour
	joined, ok := top.Validate().(interface{ Unwrap() []error })
	if !ok || len(joined.Unwrap()) != 4 {
		t.Fatalf("want 4 violations, got: %v", top.Validate())
	}
}

func TestVisibilityIsDerived(t *testing.T) {
	low, high := topology.New(topology.LowLatency), topology.New(topology.HighVolume)
	for _, c := range []struct {
		top   topology.Topology
		queue topology.QueueName
		want  time.Duration
	}{
		{low, topology.Ingress, 6 * 30 * time.Second},
		{low, topology.Deliveries, 6 * 60 * time.Second},
		{high, topology.Deliveries, 6*60*time.Second + time.Second},
		{low, topology.DeliveriesDeadLetter, 30 * time.Second},
	} {
		if got := c.top.Visibility(c.queue); got != c.want {
			t.Errorf("%s %s: %v, want %v", c.top.Profile, c.queue, got, c.want)
		}
	}
}

func TestVariablesAreDerived(t *testing.T) {
	f, _ := topology.New(topology.LowLatency).Function(topology.Deliverer)
	want := []string{"WAYBILL_PROFILE", "WAYBILL_QUEUE_DELIVERIES_URL", "WAYBILL_QUEUE_DELIVERIES_SLOW_URL", "WAYBILL_QUEUE_DELIVERIES_DLQ_URL", "WAYBILL_QUEUE_INGRESS_URL",
		"WAYBILL_TABLE_LEDGER", "WAYBILL_TABLE_WAITING", "WAYBILL_TABLE_REGISTRY"}
	if got := f.Variables(); !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestLedgerOutlivesEverything(t *testing.T) {
	l := topology.New(topology.LowLatency).Limits
	if want := l.Horizon + l.LongestPark + 28*24*time.Hour; l.LedgerTTL() < want {
		t.Errorf("TTL %v, want at least %v", l.LedgerTTL(), want)
	}
}

// Lambda stops a message that a function sends back to its own source after 16 times or so, and makes it a dead letter that no code has seen.
func TestWhoSendsToItsOwnSourceMayLoop(t *testing.T) {
	for _, f := range topology.New(topology.LowLatency).WithCanary().Functions {
		loops := slices.ContainsFunc(f.Queues, func(a topology.QueueAccess) bool {
			return a.Queue == f.Source.Queue && slices.Contains(a.Operations, topology.SendMessage)
		})
		if loops != f.RecursiveLoop {
			t.Errorf("%s: sends to its own source: %v, may loop: %v", f.Name, loops, f.RecursiveLoop)
		}
	}
}
