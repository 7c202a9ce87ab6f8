package topology

import (
	"cmp"
	"slices"
	"strings"
)

// Panel is a graph of the dashboard: Lines, or a Ranking.
type Panel struct {
	Title   string
	Unit    string // of the axis; "": a number of things
	Stacked bool   // the lines are parts of a whole
	Lines   []Line
	Ranking Ranking // zero: none
}

// Line is one or several signals of one statistic, added up and multiplied.
type Line struct {
	Label   string // unique within the panel
	Signals []Signal
	Factor  float64 // 0: 1
}

// Ranking counts lines of logs by the values of a field, the most frequent first. CloudWatch's Contributor Insights does, at a price for the lines and
// not for the values: a destination as the dimension of a metric would cost a metric each.
type Ranking struct {
	Name      string // unique
	Functions []FunctionName
	Message   string // of the lines that count
	Field     string
}

// Dashboard gives the panels of the dashboard, by rows, in the order in which an event meets what they show: what becomes of events and deliveries,
// where they wait on queues, what holds them, what ails the functions and tables, and what all of it costs. It ranges over queues, tables and functions, so that
// new ones appear.
func (t Topology) Dashboard() [][]Panel {
	return [][]Panel{
		{t.eventsPanel(), t.deliveriesPanel(), t.failuresPanel(), t.latencyPanel()},
		{t.backlogPanel(), t.inFlightPanel(), t.agesPanel(), t.deadLettersPanel()},
		{t.heldPanel(), t.oldestPanel(), t.rankingPanel("Failed attempts by reason", "failure-reasons", "reason"),
			t.rankingPanel("Failed attempts by destination", "failing-destinations", "destination")},
		{t.faultsPanel(), t.durationPanel(), t.wakerPanel(), t.tableFaultsPanel()},
		{t.requestsPanel(), t.invocationsPanel(), t.memoryPanel(), t.capacityPanel()},
	}
}

// Rankings gives the rankings of the dashboard.
func (t Topology) Rankings() []Ranking {
	var all []Ranking
	for _, row := range t.Dashboard() {
		for _, p := range row {
			if p.Ranking.Name != "" {
				all = append(all, p.Ranking)
			}
		}
	}
	return all
}

// having gives the names under which functions of which a condition is true publish, each once: two that share their code share the name.
func (t Topology) having(condition func(Function) bool) []FunctionName {
	var names []FunctionName
	for _, f := range t.Functions {
		if condition(f) && !slices.Contains(names, f.Publishes()) {
			names = append(names, f.Publishes())
		}
	}
	return names
}

// routers put events on their way.
func (t Topology) routers() []FunctionName {
	return t.having(func(f Function) bool { return f.Source.Queue == Ingress })
}

// deliverers make attempts, for which they write the ledger.
func (t Topology) deliverers() []FunctionName {
	return t.having(Function.delivers)
}

func (f Function) delivers() bool { return f.uses(Ledger, UpdateItem) && f.Source.Queue != "" }

// wakers take deliveries from the waiting room.
func (t Topology) wakers() []FunctionName {
	return t.having(func(f Function) bool { return f.uses(Waiting, PartiQLDelete) && f.Every != 0 })
}

func (f Function) uses(table TableName, operation Operation) bool {
	return slices.ContainsFunc(f.Tables, func(a TableAccess) bool { return a.Table == table && slices.Contains(a.Operations, operation) })
}

// counted is the sum of one of our counters over functions.
func counted(label, metric string, functions []FunctionName) Line {
	line := Line{Label: label}
	for _, f := range functions {
		line.Signals = append(line.Signals, Signal{Namespace: Custom, Name: metric, Statistic: "Sum", Function: f})
	}
	return line
}

// each is one of our metrics, of each of the functions: largest values and percentiles cannot be added up.
func each(label, metric, statistic string, functions []FunctionName) []Line {
	var lines []Line
	for i, f := range functions {
		line := Line{Label: label, Signals: []Signal{{Namespace: Custom, Name: metric, Statistic: statistic, Function: f}}}
		if i > 0 {
			line.Label += " of " + string(f)
		}
		lines = append(lines, line)
	}
	return lines
}

func (t Topology) eventsPanel() Panel {
	f := t.routers()
	return Panel{Title: "Events, and what became of them", Lines: []Line{
		counted("accepted", "Accepted", f), counted("routed", "Routed", f), counted("unmatched", "Unmatched", f), counted("dropped", "Dropped", f),
		counted("refused", "Rejected", f),
	}}
}

func (t Topology) deliveriesPanel() Panel {
	f := t.deliverers()
	return Panel{Title: "Deliveries routed, attempted, delivered", Lines: []Line{
		counted("put on the queue", "Matches", t.routers()), counted("attempts", "Attempts", f), counted("delivered", "Delivered", f),
	}}
}

func (t Topology) failuresPanel() Panel {
	f := t.deliverers()
	return Panel{Title: "What was not delivered", Lines: []Line{
		counted("to be tried again", "Retried", f), counted("parked", "Parked", f), counted("to the slow lane", "PassedOn", f), counted("held by a breaker", "BreakerHeld", f),
		counted("dead", "Dead", f), counted("given up", "GivenUp", f),
	}}
}

// latencyPanel shows the canary's too, where there is one: it is in no number of deliveries, and there where nobody else sends anything.
func (t Topology) latencyPanel() Panel {
	p := Panel{Title: "From acceptance to delivery", Unit: "s"}
	for _, percentile := range []string{"p50", "p95", "p99"} {
		p.Lines = append(p.Lines, each(percentile, "SettledLatency", percentile, t.deliverers())...)
	}
	p.Lines = append(p.Lines, each("canary", "CanaryLatency", "Maximum", t.having(func(f Function) bool { return f.Listens }))...)
	for i := range p.Lines {
		p.Lines[i].Factor = 0.001
	}
	return p
}

// deadLetters says which queues take dead letters.
func (t Topology) deadLetters() map[QueueName]bool {
	dead := map[QueueName]bool{}
	for _, q := range t.Queues {
		dead[q.DeadLetter] = true
	}
	return dead
}

// queues gives a line for each queue that takes dead letters, or does not.
func (t Topology) queueLines(metric string, dead bool) []Line {
	takes := t.deadLetters()
	var lines []Line
	for _, q := range t.Queues {
		if takes[q.Name] == dead {
			lines = append(lines, Line{Label: string(q.Name), Signals: []Signal{{Namespace: AWSQueue, Name: metric, Statistic: "Maximum", Queue: q.Name}}})
		}
	}
	return lines
}

func (t Topology) backlogPanel() Panel {
	return Panel{Title: "Messages that wait on queues", Lines: t.queueLines("ApproximateNumberOfMessagesVisible", false)}
}

func (t Topology) inFlightPanel() Panel {
	p := Panel{Title: "Messages in flight and delayed", Lines: t.queueLines("ApproximateNumberOfMessagesNotVisible", false)}
	for _, delayed := range t.queueLines("ApproximateNumberOfMessagesDelayed", false) {
		if delayed.Label != string(Ingress) { // producers may delay, but nobody waits for that
			delayed.Label += ", delayed"
			p.Lines = append(p.Lines, delayed)
		}
	}
	return p
}

// agesPanel shows quiet groups too, except at the ingress: producers may set no group.
func (t Topology) agesPanel() Panel {
	p := Panel{Title: "Age of the oldest message", Unit: "s", Lines: t.queueLines("ApproximateAgeOfOldestMessage", false)}
	for _, quiet := range t.queueLines("ApproximateAgeOfOldestMessageInQuietGroups", false) {
		if quiet.Label != string(Ingress) {
			quiet.Label += ", quiet groups"
			p.Lines = append(p.Lines, quiet)
		}
	}
	return p
}

func (t Topology) deadLettersPanel() Panel {
	return Panel{Title: "Dead letters", Lines: t.queueLines("ApproximateNumberOfMessagesVisible", true)}
}

func (t Topology) heldPanel() Panel {
	return Panel{Title: "Held, and let go by the waker", Lines: []Line{
		counted("parked", "Parked", t.deliverers()), counted("held by a breaker", "BreakerHeld", t.deliverers()),
		counted("waiting for a rate", "Limited", t.deliverers()),
		counted("were due", "WakerMoved", t.wakers()), counted("were parked", "WakerDrained", t.wakers()),
	}}
}

// oldestPanel shows what is parked as the waker finds it every minute. The deliverer knows only of those that it has just put aside.
func (t Topology) oldestPanel() Panel {
	return Panel{Title: "Age of the oldest held delivery", Unit: "s", Lines: slices.Concat(
		each("parked", "WakerOldestParked", "Maximum", t.wakers()), each("waits for a retry", "OldestRetrying", "Maximum", t.deliverers()),
		each("throttled", "OldestThrottled", "Maximum", t.deliverers()), each("put aside just now", "OldestParked", "Maximum", t.deliverers()),
	)}
}

func (t Topology) rankingPanel(title, name, field string) Panel {
	r := Ranking{Name: name, Message: "attempt failed", Field: field}
	for _, f := range t.Functions {
		if f.delivers() { // each has logs of its own
			r.Functions = append(r.Functions, f.Name)
		}
	}
	return Panel{Title: title, Ranking: r}
}

// functionLines gives a line for each function, of Lambda's own metrics added up.
func (t Topology) functionLines(statistic string, factor func(Function) float64, metrics ...string) []Line {
	var lines []Line
	for _, f := range t.Functions {
		line := Line{Label: string(f.Name), Factor: factor(f)}
		for _, metric := range metrics {
			line.Signals = append(line.Signals, Signal{Namespace: AWSFunction, Name: metric, Statistic: statistic, Function: f.Name})
		}
		lines = append(lines, line)
	}
	return lines
}

func unchanged(Function) float64 { return 0 }

// faultsPanel shows faults of ours beside Lambda's: they fail no run.
func (t Topology) faultsPanel() Panel {
	p := Panel{Title: "Runs that failed or were throttled", Lines: t.functionLines("Sum", unchanged, "Errors", "Throttles")}
	fed := t.having(func(f Function) bool { return f.Source.Queue != "" })
	p.Lines = append(p.Lines, counted("messages put off", "Deferred", fed), counted("faults of ours", "Faults", fed), counted("panics", "Panics", fed), counted("not sent", "SendFailures", fed))
	return p
}

func (t Topology) durationPanel() Panel {
	share := func(f Function) float64 { return 100 / float64(f.Timeout.Milliseconds()) }
	return Panel{Title: "p90 of duration, of the timeout", Unit: "%", Lines: t.functionLines("p90", share, "Duration")}
}

func (t Topology) wakerPanel() Panel {
	f := t.wakers()
	return Panel{Title: "Waiting room: behind, failed, astray", Lines: slices.Concat(
		each("seconds behind", "WakerLag", "Maximum", f), []Line{counted("rows not moved", "WakerFailed", f)}, each("astray", "WaitingStray", "Maximum", f),
	)}
}

// tableLines gives a line for each table, of metrics added up.
func (t Topology) tableLines(metrics ...string) []Line {
	var lines []Line
	for _, table := range t.Tables {
		line := Line{Label: string(table.Name)}
		for _, metric := range metrics {
			line.Signals = append(line.Signals, Signal{Namespace: AWSTable, Name: metric, Statistic: "Sum", Table: table.Name})
		}
		lines = append(lines, line)
	}
	return lines
}

func (t Topology) tableFaultsPanel() Panel {
	return Panel{Title: "Requests to tables that were throttled", Lines: append(t.tableLines("ReadThrottleEvents", "WriteThrottleEvents"),
		counted("statements in batches", "StatementThrottles", t.deliverers()))}
}

// requestsPanel shows what SQS is asked to do with messages. SQS publishes no number of requests; where messages come in batches it is smaller.
func (t Topology) requestsPanel() Panel {
	p := Panel{Title: "Cost: SQS, messages and empty receives", Stacked: true}
	for _, q := range t.Queues {
		line := Line{Label: string(q.Name)}
		for _, metric := range []string{"NumberOfMessagesSent", "NumberOfMessagesReceived", "NumberOfMessagesDeleted", "NumberOfEmptyReceives"} {
			line.Signals = append(line.Signals, Signal{Namespace: AWSQueue, Name: metric, Statistic: "Sum", Queue: q.Name})
		}
		p.Lines = append(p.Lines, line)
	}
	return p
}

func (t Topology) invocationsPanel() Panel {
	return Panel{Title: "Cost: Lambda, invocations", Stacked: true, Lines: t.functionLines("Sum", unchanged, "Invocations")}
}

func (t Topology) memoryPanel() Panel {
	const perSecond, perGB = 1000, 1024
	gigabytes := func(f Function) float64 { return float64(f.MemoryMB) / perGB / perSecond }
	return Panel{Title: "Cost: Lambda, GB-seconds", Unit: "GB-s", Stacked: true, Lines: t.functionLines("Sum", gigabytes, "Duration")}
}

func (t Topology) capacityPanel() Panel {
	p := Panel{Title: "Cost: DynamoDB, units consumed", Stacked: true}
	for _, way := range []string{"Write", "Read"} {
		for _, line := range t.tableLines("Consumed" + way + "CapacityUnits") {
			line.Label += ", " + strings.ToLower(way) + "s"
			p.Lines = append(p.Lines, line)
		}
	}
	slices.SortStableFunc(p.Lines, func(a, b Line) int { return cmp.Compare(a.Signals[0].Table, b.Signals[0].Table) })
	return p
}
