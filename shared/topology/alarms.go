package topology

import (
	"slices"
	"strings"
	"time"
)

// PageName names a cause for which a human is called, and the runbook for it: infra/runbooks/<name>.md.
type PageName string

// The causes.
const (
	IngressDeadLetters    PageName = "ingress-dead-letters"
	IngressRefused        PageName = "ingress-refused"
	DeliveriesDeadLetters PageName = "deliveries-dead-letters"
	DeadLettersExpiring   PageName = "dead-letters-expiring"
	IngressBacklog        PageName = "ingress-backlog"
	DeliveriesBacklog     PageName = "deliveries-backlog"
	FunctionErrors        PageName = "function-errors"
	FunctionCapacity      PageName = "function-capacity"
	WorkPutOff            PageName = "work-put-off"
	TablesThrottled       PageName = "tables-throttled"
	TablesFailing         PageName = "tables-failing"
	WakerStopped          PageName = "waker-stopped"
	WakerBehind           PageName = "waker-behind"
	WaitingStray          PageName = "waiting-stray"
	DeliveriesHeld        PageName = "deliveries-held"
	DeliveriesGivenUp     PageName = "deliveries-given-up"
	StaleOwners           PageName = "stale-owners"
	StoreFallback         PageName = "store-fallback"
	ObjectiveBurning      PageName = "objective-burning"
	CanaryMissing         PageName = "canary-missing"
)

// Page is a cause for which a human is called. Its alarms are silent; the page is raised while one of them is, or one of its groups of them.
type Page struct {
	Name  PageName
	Means string // what has happened, in a sentence
}

// Pages lists the causes, those first that threaten to lose something.
func Pages() []Page {
	return []Page{
		{DeadLettersExpiring, "Dead letters are about to be deleted by SQS for their age."},
		{WaitingStray, "Deliveries lay in the waiting room where no run looks for them."},
		{WakerStopped, "The waker does not run: nothing leaves the waiting room."},
		{WakerBehind, "The waker runs, but deliveries leave the waiting room late."},
		{IngressBacklog, "Events wait on the ingress queue, and the router does not keep up or does not run."},
		{DeliveriesBacklog, "Deliveries wait on the deliveries queue, and the deliverer does not keep up or does not run."},
		{CanaryMissing, "The event that Waybill sends itself every minute does not arrive, or arrives late."},
		{ObjectiveBurning, "Deliveries are late: the error budget of the objective is being used up too fast."},
		{FunctionErrors, "A function fails, panics, or cannot put messages where they belong."},
		{WorkPutOff, "Messages are put off again and again, because a table, a secret or a queue cannot be reached."},
		{FunctionCapacity, "A function is at the limit of its concurrency or its time."},
		{TablesThrottled, "DynamoDB throttles a table."},
		{TablesFailing, "DynamoDB answers slowly or with errors of its own."},
		{StaleOwners, "Deliveries are settled by two workers: some may have been made twice."},
		{StoreFallback, "The ledger is written one item at a time, because DynamoDB refuses batches."},
		{DeliveriesGivenUp, "Many deliveries are given up, or refused for good."},
		{IngressRefused, "Many messages are refused, because they are no events."},
		{DeliveriesDeadLetters, "Deliveries lie in their dead-letter queue."},
		{IngressDeadLetters, "Messages that are no events lie in the dead-letter queue of the ingress."},
		{DeliveriesHeld, "A delivery has been held for days."},
	}
}

// Namespaces of metrics.
const (
	Custom       = "Waybill" // of the functions themselves; package telemetry publishes them
	AWSQueue     = "AWS/SQS"
	AWSTable     = "AWS/DynamoDB"
	AWSFunction  = "AWS/Lambda"
	AWSObjective = "AWS/ApplicationSignals"
)

// Signal is a metric of one thing: of a queue, a function, a table or one operation on it, or of the objective over a window.
type Signal struct {
	Namespace string
	Name      string
	Statistic string // Sum, Maximum, Average, SampleCount or a percentile such as p90

	Queue     QueueName
	Function  FunctionName
	Table     TableName
	Operation string        // of DynamoDB's API
	Window    time.Duration // of a burn rate
}

// Missing says what is made of a time without data.
type Missing string

// What is made of it, in CloudWatch's words.
const (
	// MissingIsGood is for what is published only when it happens.
	MissingIsGood Missing = "notBreaching"
	// MissingIsBad is for signs of life.
	MissingIsBad Missing = "breaching"
)

// Alarm says from when on a signal means trouble, and why then.
type Alarm struct {
	Name string // unique
	Page PageName
	// Together groups alarms of a page that call a human only when all of them are raised. "": this one alone does.
	Together string
	Signal

	Threshold float64 // in the unit of the signal
	Below     bool    // raised below Threshold. False: at or above it
	Period    time.Duration
	Periods   int // that are looked at
	Breaching int // that must be bad among them
	Missing   Missing
	Why       string // this threshold, and these periods
	Silence   string // why missing data is taken so
}

// Filled says that a time without data is taken for one with zero, before anything else is made of it. CloudWatch's reference says of metrics of AWS/DynamoDB that
// alarms always ignore what is missing, whatever Missing says: one that was raised would stay raised when the trouble ended, and the data with it.
// Source: https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/API_PutMetricAlarm.html
func (a Alarm) Filled() bool { return a.Namespace == AWSTable }

// Reasons that several alarms have.
const (
	silentWhenEmpty = "SQS says nothing of a queue that was empty for hours"
	silentWhenGood  = "sums that are zero are not published"
	silentWhenIdle  = "nothing is published while the function does not run, and that has alarms of its own"
	silentUnused    = "DynamoDB publishes nothing of operations that are not called or do not fail: zeros are filled in, and the latest may be data that is late, hence one period more than must be bad"
)

const (
	// maxInFlight is how many messages of a standard queue can be in flight. Beyond it a queue under long polling stands still without an error.
	// Source: https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/quotas-messages.html
	maxInFlight = 120_000
	// longestLook is how far back an alarm can look, with periods of an hour.
	// Source: https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/API_PutMetricAlarm.html
	longestLook = 7 * day
	// timeToAct is how long people have between a warning and a loss, weekends included.
	timeToAct = 3 * day
)

// Alarms lists every alarm, by what it watches. Concurrency says how many runs of a function its source can ask for; 0: nobody knows. Functions are
// taken as they are: give the topology that is deployed, with what its operator chose.
func (t Topology) Alarms(concurrency func(Function) int) []Alarm {
	var all []Alarm
	watched := map[QueueName]bool{}
	for _, q := range t.Queues {
		if !watched[q.DeadLetter] {
			all = append(all, t.deadLetterAlarms(q)...)
		}
		watched[q.DeadLetter] = true
	}
	for _, f := range t.Functions {
		all = append(all, t.sourceAlarms(f)...)
		all = append(all, functionAlarms(f, concurrency(f))...)
	}
	for _, table := range t.Tables {
		all = append(all, tableAlarms(table)...)
		for _, operation := range t.calls(table.Name) {
			all = append(all, operationAlarms(table.Name, operation)...)
		}
	}
	for _, f := range t.Functions {
		switch f.Name {
		case Router:
			all = append(all, routerAlarms()...)
		case Deliverer:
			all = append(all, delivererAlarms()...)
			all = append(all, objectiveAlarms()...)
		case Waker:
			all = append(all, wakerAlarms(f, t.Limits)...)
		case Canary:
			all = append(all, t.canaryAlarms(f)...)
		}
	}
	return all
}

// deadLetterAlarms watch a dead-letter queue, once, for the first of the queues whose dead letters it takes.
func (t Topology) deadLetterAlarms(source Queue) []Alarm {
	dead, ok := t.Queue(source.DeadLetter)
	if !ok {
		return nil
	}
	page := IngressDeadLetters
	if source.Name.Delivers() {
		page = DeliveriesDeadLetters
	}
	name := "queue-" + string(dead.Name)
	oldest := dead.Retention - source.Retention - timeToAct
	lasting := int(min(oldest, longestLook) / time.Hour)
	return []Alarm{
		{
			Name: name + "-depth", Page: page,
			// Moves by redrive policy are in no count of messages sent, so that only the depth shows all dead letters.
			Signal:    Signal{Namespace: AWSQueue, Name: "ApproximateNumberOfMessagesVisible", Statistic: "Maximum", Queue: dead.Name},
			Threshold: 1, Period: 5 * time.Minute, Periods: 1, Breaching: 1, Missing: MissingIsGood,
			Why:     "a dead letter is by definition what needs a human, and one is enough",
			Silence: silentWhenEmpty,
		},
		{
			Name: name + "-age", Page: DeadLettersExpiring,
			Signal:    Signal{Namespace: AWSQueue, Name: "ApproximateAgeOfOldestMessage", Statistic: "Maximum", Queue: dead.Name},
			Threshold: oldest.Seconds(), Period: time.Hour, Periods: 1, Breaching: 1, Missing: MissingIsGood,
			Why: "the metric begins anew when SQS moves a message, but its time to live does not: retention less the source's retention is when the first can be " +
				"deleted, and three days before that there is a weekend's time to act",
			Silence: silentWhenEmpty,
		},
		{
			Name: name + "-lasting", Page: DeadLettersExpiring,
			// The age leaves out what was received three times. So has been what SQS itself has moved, and what three dry runs of a redrive have looked at.
			// Source: https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-available-cloudwatch-metrics.html
			Signal:    Signal{Namespace: AWSQueue, Name: "ApproximateNumberOfMessagesVisible", Statistic: "Maximum", Queue: dead.Name},
			Threshold: 1, Period: time.Hour, Periods: lasting, Breaching: lasting, Missing: MissingIsGood,
			Why: "in all that time there was no hour in which the queue was empty, so that something may lie there for as long; the age does not tell of letters " +
				"that were received three times, and a dry run of the redrive receives them",
			Silence: silentWhenEmpty,
		},
	}
}

// sourceAlarms watch the queue that feeds a function.
func (t Topology) sourceAlarms(f Function) []Alarm {
	if _, ok := t.Queue(f.Source.Queue); !ok {
		return nil
	}
	page, queue, function := IngressBacklog, "queue-"+string(f.Source.Queue), "function-"+string(f.Name)
	age, oldest := "ApproximateAgeOfOldestMessage", t.Limits.LatencyObjective
	why := "everything that arrives is later than the objective, for five minutes on end; producers may set no group, so that all messages count"
	if f.Source.Queue.Delivers() {
		page = DeliveriesBacklog
		age, oldest = "ApproximateAgeOfOldestMessageInQuietGroups", t.Limits.LongestDelay+t.Limits.LatencyObjective
		why = "a retry may lie there for the longest delay by plan, and then has the objective's time; groups that flood the queue wait by design and do not count"
	}
	return []Alarm{
		{
			Name: queue + "-age", Page: page,
			Signal:    Signal{Namespace: AWSQueue, Name: age, Statistic: "Maximum", Queue: f.Source.Queue},
			Threshold: oldest.Seconds(), Period: time.Minute, Periods: 5, Breaching: 5, Missing: MissingIsGood,
			Why: why, Silence: silentWhenEmpty,
		},
		{
			Name: queue + "-in-flight", Page: page,
			Signal:    Signal{Namespace: AWSQueue, Name: "ApproximateNumberOfMessagesNotVisible", Statistic: "Maximum", Queue: f.Source.Queue},
			Threshold: 0.75 * maxInFlight, Period: time.Minute, Periods: 3, Breaching: 3, Missing: MissingIsGood,
			Why:     "at 120,000 in flight a queue stands still without an error; at three quarters there is time to find out who holds them",
			Silence: silentWhenEmpty,
		},
		{
			Name: queue + "-unread", Page: page, Together: "stopped-" + string(f.Name),
			Signal:    Signal{Namespace: AWSQueue, Name: "ApproximateNumberOfMessagesVisible", Statistic: "Minimum", Queue: f.Source.Queue},
			Threshold: 1, Period: time.Minute, Periods: 10, Breaching: 10, Missing: MissingIsGood,
			Why:     "messages could be read for ten minutes on end; a mapping that was switched off shows in no age for as long as delays may last",
			Silence: silentWhenEmpty,
		},
		{
			Name: function + "-idle", Page: page, Together: "stopped-" + string(f.Name),
			Signal:    Signal{Namespace: AWSFunction, Name: "Invocations", Statistic: "Sum", Function: f.Name},
			Threshold: 1, Below: true, Period: time.Minute, Periods: 10, Breaching: 10, Missing: MissingIsBad,
			Why:     "the function has not run for ten minutes, which is trouble only while messages are there",
			Silence: "Lambda publishes nothing of a function that does not run, and that is what is asked",
		},
	}
}

func functionAlarms(f Function, concurrency int) []Alarm {
	name := "function-" + string(f.Name)
	of := func(metric, statistic string) Signal {
		return Signal{Namespace: AWSFunction, Name: metric, Statistic: statistic, Function: f.Name}
	}
	all := []Alarm{
		{
			Name: name + "-errors", Page: FunctionErrors, Signal: of("Errors", "Sum"),
			Threshold: 1, Period: time.Minute, Periods: 10, Breaching: 5, Missing: MissingIsGood,
			Why:     "a run that failed alone is repeated by SQS or by the next minute; in five minutes of ten it is the release, its settings or what it depends on",
			Silence: silentWhenIdle,
		},
		{
			Name: name + "-throttles", Page: FunctionCapacity, Signal: of("Throttles", "Sum"),
			Threshold: 1, Period: time.Minute, Periods: 10, Breaching: 5, Missing: MissingIsGood,
			Why:     "each refused invocation counts as a receive of its messages, and ten of those make a dead letter that no code has seen",
			Silence: silentWhenIdle,
		},
		{
			Name: name + "-duration", Page: FunctionCapacity, Signal: of("Duration", "p90"),
			Threshold: 0.7 * float64(f.Timeout.Milliseconds()), Period: 5 * time.Minute, Periods: 3, Breaching: 3, Missing: MissingIsGood,
			Why:     "one run in ten takes 70 % of its timeout; beyond it runs are killed, and their messages wait until their visibility ends",
			Silence: silentWhenIdle,
		},
	}
	if f.Source.Queue == "" {
		return all
	}
	if concurrency > 0 {
		all = append(all, Alarm{
			Name: name + "-concurrency", Page: FunctionCapacity, Signal: of("ConcurrentExecutions", "Maximum"),
			Threshold: 0.9 * float64(concurrency), Period: time.Minute, Periods: 15, Breaching: 15, Missing: MissingIsGood,
			Why:     "90 % of what the queue may ask for, without a pause for a quarter of an hour, is a load that is here to stay and not a burst",
			Silence: silentWhenIdle,
		})
	}
	if f.As != "" {
		return all // what it publishes itself is watched under that name
	}
	own := func(metric string) Signal {
		return Signal{Namespace: Custom, Name: metric, Statistic: "Sum", Function: f.Name}
	}
	return append(all,
		Alarm{
			Name: name + "-faults", Page: WorkPutOff, Signal: own("Faults"),
			Threshold: 1, Period: 5 * time.Minute, Periods: 6, Breaching: 5, Missing: MissingIsGood,
			Why: "single ones are put off and nobody notices; in most of half an hour it is a permission, a key, a secret or an outage. What is put off is sent again each " +
				"time, which makes it young and unreceived for SQS, so that no age and no dead letter would ever tell",
			Silence: silentWhenGood,
		},
		Alarm{
			Name: name + "-panics", Page: FunctionErrors, Signal: own("Panics"),
			Threshold: 20, Period: 5 * time.Minute, Periods: 1, Breaching: 1, Missing: MissingIsGood,
			Why:     "two poison messages end in the dead-letter queue after ten receives each; more at a time is a bug that many messages meet",
			Silence: silentWhenGood,
		},
		Alarm{
			Name: name + "-send-failures", Page: FunctionErrors, Signal: own("SendFailures"),
			Threshold: 1, Period: 5 * time.Minute, Periods: 3, Breaching: 3, Missing: MissingIsGood,
			Why:     "SQS refuses now and then and the message comes back; for a quarter of an hour on end it is a permission, a key or an outage",
			Silence: silentWhenGood,
		},
	)
}

func tableAlarms(table Table) []Alarm {
	name := "table-" + string(table.Name)
	var all []Alarm
	for _, way := range []string{"Read", "Write"} {
		all = append(all, Alarm{
			Name: name + "-" + strings.ToLower(way) + "-throttles", Page: TablesThrottled,
			// ThrottledRequests would count a batch only when all of it is throttled.
			Signal:    Signal{Namespace: AWSTable, Name: way + "ThrottleEvents", Statistic: "Sum", Table: table.Name},
			Threshold: 100, Period: 5 * time.Minute, Periods: 4, Breaching: 3, Missing: MissingIsGood,
			Why:     "single ones are retried unnoticed, and a table that has to grow refuses for some minutes; a quarter of an hour is a hot key or a capacity too low",
			Silence: silentUnused,
		})
	}
	return all
}

// slowest is how long an operation of DynamoDB may take on average. Single items answer in a few milliseconds, batches in a few more; a page of up to a
// megabyte takes its time.
func slowest(operation string) time.Duration {
	switch operation {
	case "Query", "Scan":
		return 500 * time.Millisecond
	case "BatchExecuteStatement", "BatchGetItem", "BatchWriteItem":
		return 200 * time.Millisecond
	}
	return 100 * time.Millisecond
}

func operationAlarms(table TableName, operation string) []Alarm {
	name := "table-" + string(table) + "-" + operation
	of := func(metric, statistic string) Signal {
		return Signal{Namespace: AWSTable, Name: metric, Statistic: statistic, Table: table, Operation: operation}
	}
	return []Alarm{
		{
			Name: name + "-latency", Page: TablesFailing, Signal: of("SuccessfulRequestLatency", "Average"),
			Threshold: float64(slowest(operation).Milliseconds()), Period: 5 * time.Minute, Periods: 4, Breaching: 3, Missing: MissingIsGood,
			Why:     "some ten times what the operation takes on a good day",
			Silence: silentUnused,
		},
		{
			Name: name + "-system-errors", Page: TablesFailing, Signal: of("SystemErrors", "Sum"),
			Threshold: 10, Period: 5 * time.Minute, Periods: 4, Breaching: 3, Missing: MissingIsGood,
			Why:     "single ones are retried unnoticed; for a quarter of an hour DynamoDB itself is ill",
			Silence: silentUnused,
		},
	}
}

// calls lists the operations of DynamoDB's API that functions call on a table, sorted: what CloudWatch has metrics of. The PartiQL operations are IAM's
// names for the statements of one.
func (t Topology) calls(table TableName) []string {
	var all []string
	for _, f := range t.Functions {
		for _, access := range f.Tables {
			if access.Table != table {
				continue
			}
			for _, operation := range access.Operations {
				name := strings.TrimPrefix(string(operation), "dynamodb:")
				if strings.HasPrefix(name, "PartiQL") {
					name = "BatchExecuteStatement"
				}
				all = append(all, name)
			}
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// many is how many of a kind in a quarter of an hour call somebody although the dead-letter queue is not empty, and its depth calls nobody any more.
const many = 15

// routerAlarms watch what becomes of messages.
func routerAlarms() []Alarm {
	return []Alarm{{
		Name: "ingress-refused", Page: IngressRefused, Signal: Signal{Namespace: Custom, Name: "Rejected", Statistic: "Sum", Function: Router},
		Threshold: many, Period: 15 * time.Minute, Periods: 1, Breaching: 1, Missing: MissingIsGood,
		Why:     "one a minute is a producer that does nothing else; the alarm on depth is raised for as long as a single old one lies there, and would not tell a wave from it",
		Silence: silentWhenGood,
	}}
}

// delivererAlarms watch what becomes of deliveries.
func delivererAlarms() []Alarm {
	of := func(metric, statistic string) Signal {
		return Signal{Namespace: Custom, Name: metric, Statistic: statistic, Function: Deliverer}
	}
	held := func(name, metric string, oldest time.Duration, why string) Alarm {
		return Alarm{
			Name: "deliveries-" + name, Page: DeliveriesHeld, Signal: of(metric, "Maximum"),
			// The number is known only when a delivery was tried or put aside, up to a day apart; it must stay until the next time.
			Threshold: oldest.Seconds(), Period: time.Hour, Periods: 24, Breaching: 1, Missing: MissingIsGood,
			Why:     why,
			Silence: "between two attempts there is no number, so a bad hour counts for a day; a day without one means that the delivery has come to its end",
		}
	}
	return []Alarm{
		held("retrying", "OldestRetrying", 2*day,
			"of the default schedule of 75.6 hours a last attempt is left, a day away: time to call the owner of the destination before the delivery is given up"),
		held("throttled", "OldestThrottled", 2*day,
			"a destination can ask to be left alone for a day at a time; who has asked for it twice in a row has to be asked. And a queue that is two days long before a rate only grows"),
		held("oldest", "OldestHeld", 4*day,
			"longer than the default schedule takes: whatever holds it, limits on rate and concurrency included, somebody has forgotten it"),
		{
			Name: "deliveries-given-up", Page: DeliveriesGivenUp, Signal: of("GivenUp", "Sum"),
			Threshold: many, Period: 15 * time.Minute, Periods: 1, Breaching: 1, Missing: MissingIsGood,
			Why:     "one a minute is more than people can look at one by one; the alarm on depth is raised since the first and would not tell a wave from it",
			Silence: silentWhenGood,
		},
		{
			Name: "deliveries-dead", Page: DeliveriesGivenUp, Signal: of("Dead", "Sum"),
			Threshold: many, Period: 15 * time.Minute, Periods: 1, Breaching: 1, Missing: MissingIsGood,
			Why:     "the same for all that die, such as what a receiver refuses at once: then nothing is given up, and where an old letter lies the depth tells nobody",
			Silence: silentWhenGood,
		},
		{
			Name: "ledger-stale-owners", Page: StaleOwners, Signal: of("StaleOwners", "Sum"),
			Threshold: 10, Period: time.Hour, Periods: 1, Breaching: 1, Missing: MissingIsGood,
			Why:     "a lease outlives the run that took it, so that even one is odd, and receivers drop it by its id; ten an hour are clocks or leases that are wrong",
			Silence: silentWhenGood,
		},
		{
			Name: "ledger-fallbacks", Page: StoreFallback, Signal: of("StoreFallbacks", "Sum"),
			Threshold: 1, Period: 15 * time.Minute, Periods: 4, Breaching: 4, Missing: MissingIsGood,
			Why:     "all is well but dearer and slower; in an hour without a pause it does not mend itself",
			Silence: silentWhenGood,
		},
		{
			Name: "ledger-statement-throttles", Page: TablesThrottled, Signal: of("StatementThrottles", "Sum"),
			Threshold: 100, Period: 5 * time.Minute, Periods: 3, Breaching: 3, Missing: MissingIsGood,
			Why:     "as for the table's own throttles; DynamoDB counts a batch as successful when single statements of it were throttled",
			Silence: silentWhenGood,
		},
	}
}

// wakerAlarms watch the clockwork.
func wakerAlarms(f Function, l Limits) []Alarm {
	of := func(metric, statistic string) Signal {
		return Signal{Namespace: Custom, Name: metric, Statistic: statistic, Function: f.Name}
	}
	return []Alarm{
		{
			Name: "waker-heartbeat", Page: WakerStopped, Signal: of("WakerLag", "SampleCount"),
			Threshold: 1, Below: true, Period: f.Every, Periods: 5, Breaching: 5, Missing: MissingIsBad,
			Why:     "five runs in a row are missing; the waker works ten minutes ahead, so that nothing is late yet",
			Silence: "each run that ends publishes its lag, also when it is 0: none is no sign of life",
		},
		{
			Name: "waker-lag", Page: WakerBehind, Signal: of("WakerLag", "Maximum"),
			Threshold: (5 * l.LatencyObjective).Seconds(), Period: f.Every, Periods: 5, Breaching: 5, Missing: MissingIsGood,
			Why:     "deliveries are late by five times the objective, and five runs did not catch up",
			Silence: "that the waker does not run is the heartbeat's to tell",
		},
		{
			Name: "deliveries-parked", Page: DeliveriesHeld, Signal: of("WakerOldestParked", "Maximum"),
			Threshold: min(3*day, l.LongestPark/2).Seconds(), Period: 5 * time.Minute, Periods: 3, Breaching: 3, Missing: MissingIsGood,
			Why:     "longer than a weekend's pause, and long before the time of being held is over, when all of them are given up",
			Silence: "each run of the waker publishes the age of what it finds parked; none is nothing parked, and that it does not run is the heartbeat's to tell",
		},
		{
			Name: "waker-failed", Page: WakerBehind, Signal: of("WakerFailed", "Sum"),
			Threshold: 1, Period: f.Every, Periods: 15, Breaching: 15, Missing: MissingIsGood,
			Why:     "the next run repeats what failed; fifteen runs in a row do not get rid of it",
			Silence: silentWhenGood,
		},
		{
			Name: "waker-stray", Page: WaitingStray, Signal: of("WaitingStray", "Maximum"),
			Threshold: 1, Period: time.Hour, Periods: 2, Breaching: 1, Missing: MissingIsGood,
			Why:     "the scan sends what it finds, but each one means that a rule was broken and a delivery was forgotten; it ends once an hour, so a find counts until the next",
			Silence: "that the waker does not run is the heartbeat's to tell",
		},
	}
}

// Objective is what deliveries are promised: of those that are delivered for the first time, Goal percent within Limits.LatencyObjective of their
// event's acceptance. Both numbers count the same deliveries.
type Objective struct {
	Function    FunctionName // that publishes them
	Good, Total string       // metrics
	Goal        float64      // percent
	Interval    time.Duration
}

// DeliveryObjective is the objective of deliveries. Goal leaves one in a hundred, because a delivery whose destination was down for a while counts as late
// although nobody here could have made it. Interval is four weeks, so that each weekday is in it as often as any other.
func (t Topology) DeliveryObjective() Objective {
	return Objective{Function: Deliverer, Good: "SettledGood", Total: "SettledTotal", Goal: 99, Interval: 28 * day}
}

// burns are pairs of windows: the long one says that it matters, the short one that it goes on. A rate of 1 uses up the budget exactly within the interval;
// the thresholds are the share of it that is gone by the end of the long window.
// Source: https://sre.google/workbook/alerting-on-slos/
var burns = [...]struct {
	name        string
	long, short time.Duration
	rate        float64
	why         string
}{
	{"fast", time.Hour, 5 * time.Minute, 13.44, "2 % of four weeks' budget are gone in an hour"},
	{"slow", 6 * time.Hour, 30 * time.Minute, 5.6, "5 % of four weeks' budget are gone in six hours"},
	{"creeping", 3 * day, 6 * time.Hour, 0.933, "10 % of four weeks' budget are gone in three days"},
}

// BurnWindows lists the windows for which burn rates are needed, each once, in ascending order.
func BurnWindows() []time.Duration {
	var all []time.Duration
	for _, b := range burns {
		all = append(all, b.long, b.short)
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// objectiveAlarms are raised in pairs, and only where there are deliveries enough for a rate to mean something.
func objectiveAlarms() []Alarm {
	var all []Alarm
	for _, b := range burns {
		for _, w := range []struct {
			name   string
			window time.Duration
			why    string
		}{{"long", b.long, b.why}, {"short", b.short, "and it goes on: " + b.why}} {
			all = append(all, Alarm{
				Name: "objective-" + b.name + "-" + w.name, Page: ObjectiveBurning, Together: b.name,
				Signal:    Signal{Namespace: AWSObjective, Name: "BurnRate", Statistic: "Maximum", Window: w.window},
				Threshold: b.rate, Period: time.Minute, Periods: 1, Breaching: 1, Missing: MissingIsGood,
				Why: w.why, Silence: "there is no rate where nothing was delivered",
			})
		}
		all = append(all, Alarm{
			Name: "objective-" + b.name + "-traffic", Page: ObjectiveBurning, Together: b.name,
			Signal:    Signal{Namespace: Custom, Name: "SettledTotal", Statistic: "Sum", Function: Deliverer},
			Threshold: 100, Period: min(b.long, day), Periods: 1, Breaching: 1, Missing: MissingIsGood,
			Why:     "of fewer than a hundred deliveries a single late one would be a rate worth a page",
			Silence: silentWhenGood,
		})
	}
	return all
}
