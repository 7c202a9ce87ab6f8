package topology

import (
	"errors"
	"fmt"
	"time"
)

// Validate reports every violated relation at once, each naming the field, what it is, what it must be and why; nil if all
// hold. The error joins one error per violation.
func (t Topology) Validate() error {
	v := &violations{}
	v.profile(t)
	v.queues(t)
	v.tables(t)
	v.functions(t)
	v.limits(t.Limits)
	return errors.Join(v.found...)
}

type violations struct{ found []error }

func (v *violations) add(format string, args ...any) {
	v.found = append(v.found, fmt.Errorf(format, args...))
}

func (v *violations) profile(t Topology) {
	if t.Profile != LowLatency && t.Profile != HighVolume {
		v.add("profile %q: choose %q or %q", t.Profile, LowLatency, HighVolume)
	}
}

// Bounds of SQS.
// Source: https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-quotas.html
const (
	minRetention      = time.Minute
	maxRetention      = 14 * day
	maxVisibility     = 12 * time.Hour
	maxDelay          = 15 * time.Minute
	minReceiveCount   = 5 // fewer, and throttled invocations alone fill the dead-letter queue
	maxReceiveCount   = 1000
	maxFunctionTime   = 15 * time.Minute
	minMemoryMB       = 128
	maxMemoryMB       = 10240
	maxBatchNoWindow  = 10
	maxBatch          = 10_000
	maxWindow         = 5 * time.Minute
	minMaxConcurrency = 2
	maxMaxConcurrency = 1000
)

func (v *violations) queues(t Topology) {
	seen := map[QueueName]bool{}
	for _, q := range t.Queues {
		if q.Name == "" {
			v.add("queue without a name: give it one")
			continue
		}
		if seen[q.Name] {
			v.add("queue %s: declared twice", q.Name)
		}
		seen[q.Name] = true
		if q.Retention < minRetention || q.Retention > maxRetention {
			v.add("queue %s: retention %v, must be between %v and %v", q.Name, q.Retention, minRetention, maxRetention)
		}
		if visibility := t.Visibility(q.Name); visibility > maxVisibility {
			v.add("queue %s: visibility timeout %v, at most %v: shorten the function's timeout", q.Name, visibility, maxVisibility)
		}
		v.deadLetter(t, q)
	}
}

func (v *violations) deadLetter(t Topology, q Queue) {
	if q.DeadLetter == "" {
		for _, f := range t.Functions {
			if f.Source.Queue == q.Name {
				v.add("queue %s: function %s reads it, so it needs a dead-letter queue", q.Name, f.Name)
			}
		}
		return
	}
	dead, ok := t.Queue(q.DeadLetter)
	switch {
	case !ok:
		v.add("queue %s: dead-letter queue %s is not declared", q.Name, q.DeadLetter)
	case dead.DeadLetter != "":
		v.add("queue %s: dead-letter queue %s has one itself", q.Name, dead.Name)
	case dead.Retention < maxRetention || dead.Retention <= q.Retention:
		v.add("queue %s: dead-letter queue %s keeps %v; it must keep %v and more than the source's %v, because a message that SQS moves keeps its age",
			q.Name, dead.Name, dead.Retention, maxRetention, q.Retention)
	}
	if q.MaxReceiveCount < minReceiveCount || q.MaxReceiveCount > maxReceiveCount {
		v.add("queue %s: maxReceiveCount %d, must be between %d and %d", q.Name, q.MaxReceiveCount, minReceiveCount, maxReceiveCount)
	}
}

func (v *violations) tables(t Topology) {
	seen := map[TableName]bool{}
	for _, table := range t.Tables {
		if seen[table.Name] {
			v.add("table %s: declared twice", table.Name)
		}
		seen[table.Name] = true
		if table.Name == "" || table.Partition.Name == "" {
			v.add("table %q: needs a name and a partition key", table.Name)
		}
		for _, k := range []Key{table.Partition, table.Sort} {
			if k.Name != "" && k.Type != String && k.Type != Number {
				v.add("table %s: key %s has type %q, must be %s or %s", table.Name, k.Name, k.Type, String, Number)
			}
		}
	}
}

func (v *violations) functions(t Topology) {
	names := map[FunctionName]bool{}
	listens := false // those before the function at hand
	sources := map[QueueName]FunctionName{}
	for _, f := range t.Functions {
		if f.Name == "" || names[f.Name] {
			v.add("function %q: needs a name of its own", f.Name)
		}
		names[f.Name] = true
		if f.ServesCanary && !listens {
			v.add("function %s: serves the canary, but no function before it listens: use Topology.WithCanary", f.Name)
		}
		listens = listens || f.Listens
		v.function(t, f)
		if f.Every != 0 || f.Source.Queue == "" {
			v.schedule(f)
			continue
		}
		if other, ok := sources[f.Source.Queue]; ok {
			v.add("function %s: queue %s is read by function %s already", f.Name, f.Source.Queue, other)
		}
		sources[f.Source.Queue] = f.Name
		v.mapping(t, f)
	}
}

func (v *violations) function(t Topology, f Function) {
	if f.Timeout <= 0 || f.Timeout > maxFunctionTime {
		v.add("function %s: timeout %v, must be above 0 and at most %v", f.Name, f.Timeout, maxFunctionTime)
	}
	if f.MemoryMB < minMemoryMB || f.MemoryMB > maxMemoryMB {
		v.add("function %s: memory %d MB, must be between %d and %d", f.Name, f.MemoryMB, minMemoryMB, maxMemoryMB)
	}
	for _, access := range f.Queues {
		if _, ok := t.Queue(access.Queue); !ok {
			v.add("function %s: uses queue %s, which is not declared", f.Name, access.Queue)
		}
		if len(access.Operations) == 0 {
			v.add("function %s: lists queue %s without operations", f.Name, access.Queue)
		}
	}
	for _, access := range f.Tables {
		if _, ok := t.Table(access.Table); !ok {
			v.add("function %s: uses table %s, which is not declared", f.Name, access.Table)
		}
		if len(access.Operations) == 0 {
			v.add("function %s: lists table %s without operations", f.Name, access.Table)
		}
		if access.Table == Ledger {
			v.lease(t, f)
		}
	}
}

// lease holds the chain attempt < function < lease < visibility, without which two workers can own one delivery.
func (v *violations) lease(t Topology, f Function) {
	l := t.Limits
	if headroom := l.SettleHeadroom + l.AnswerHeadroom; l.AttemptTimeout+headroom >= f.Timeout {
		v.add("function %s: attempt timeout %v + headroom %v must be below its timeout %v, or an attempt cannot end before the function does",
			f.Name, l.AttemptTimeout, headroom, f.Timeout)
	}
	lease, visibility := f.Timeout+l.LeaseGrace, t.Visibility(f.Source.Queue)
	if lease <= f.Timeout {
		v.add("function %s: lease %v must be longer than its timeout %v: raise limits.LeaseGrace", f.Name, lease, f.Timeout)
	}
	if visibility <= lease {
		v.add("function %s: visibility timeout %v of queue %s must be longer than the lease %v", f.Name, visibility, f.Source.Queue, lease)
	}
}

// schedule holds what a function that is run by the clock needs.
func (v *violations) schedule(f Function) {
	switch {
	case f.Every == 0:
		v.add("function %s: nothing runs it: give it a source queue or a schedule", f.Name)
		return
	case f.Source.Queue != "":
		v.add("function %s: has both a source queue and a schedule: choose one", f.Name)
	}
	if f.Every < time.Minute || f.Every%time.Minute != 0 {
		v.add("function %s: runs every %v, must be whole minutes", f.Name, f.Every)
	}
	if f.Timeout >= f.Every {
		v.add("function %s: timeout %v must be below the %v between its runs", f.Name, f.Timeout, f.Every)
	}
}

func (v *violations) mapping(t Topology, f Function) {
	m := f.Source
	if _, ok := t.Queue(m.Queue); !ok {
		v.add("function %s: reads queue %s, which is not declared", f.Name, m.Queue)
	}
	switch {
	case m.BatchSize < 1 || m.BatchSize > maxBatch:
		v.add("function %s: batch size %d, must be between 1 and %d", f.Name, m.BatchSize, maxBatch)
	case m.BatchSize > maxBatchNoWindow && m.Window < time.Second:
		v.add("function %s: batch size %d above %d needs a window of at least 1s, not %v", f.Name, m.BatchSize, maxBatchNoWindow, m.Window)
	}
	if m.Window < 0 || m.Window > maxWindow || m.Window%time.Second != 0 {
		v.add("function %s: batch window %v, must be whole seconds up to %v", f.Name, m.Window, maxWindow)
	}
	if m.MaximumConcurrency != 0 && (m.MaximumConcurrency < minMaxConcurrency || m.MaximumConcurrency > maxMaxConcurrency) {
		v.add("function %s: maximum concurrency %d, must be 0 (no limit) or between %d and %d", f.Name, m.MaximumConcurrency, minMaxConcurrency, maxMaxConcurrency)
	}
}

func (v *violations) limits(l Limits) {
	for _, limit := range []struct {
		name  string
		value time.Duration
	}{
		{"ClockSkew", l.ClockSkew}, {"LeaseGrace", l.LeaseGrace}, {"AttemptTimeout", l.AttemptTimeout}, {"SettleHeadroom", l.SettleHeadroom}, {"AnswerHeadroom", l.AnswerHeadroom},
		{"Horizon", l.Horizon}, {"LongestPark", l.LongestPark}, {"LedgerMargin", l.LedgerMargin}, {"MarkCache", l.MarkCache},
		{"LongestDelay", l.LongestDelay}, {"LatencyObjective", l.LatencyObjective}, {"RegistryAge", l.RegistryAge}, {"RegistryStale", l.RegistryStale},
	} {
		if limit.value <= 0 {
			v.add("limits.%s: %v, must be above 0", limit.name, limit.value)
		}
	}
	if l.LongestDelay > maxDelay {
		v.add("limits.LongestDelay: %v, but SQS delays a message for %v at most", l.LongestDelay, maxDelay)
	}
	if l.RegistryStale < l.RegistryAge {
		v.add("limits.RegistryStale: %v, must not be below limits.RegistryAge %v", l.RegistryStale, l.RegistryAge)
	}
	if l.LeaseGrace < 2*l.ClockSkew {
		v.add("limits.LeaseGrace: %v, must be at least twice limits.ClockSkew %v, or a worker whose clock runs ahead takes over a live lease", l.LeaseGrace, l.ClockSkew)
	}
	if margin := 28 * day; l.LedgerMargin < margin {
		v.add("limits.LedgerMargin: %v, must be at least %v, or a dead letter can outlive its waybill and run twice", l.LedgerMargin, margin)
	}
}
