package telemetry

// Metric is a number that Waybill publishes. Metrics lists them all.
type Metric int

// The metrics; what each means stands in the one table below, which alarms, runbooks and documents are checked against.
const (
	Records Metric = iota
	BatchDuration
	Returned
	SentAgain
	Deferred
	Rejected
	Panics
	SendFailures
	Faults
	LinesLost

	Accepted
	Routed
	Unmatched
	Dropped
	Matches
	Unsent
	Continued

	Attempts
	Delivered
	Retried
	Parked
	PassedOn
	Limited
	Dead
	GivenUp
	DestinationDisabled
	BreakerHeld
	BreakerOpened
	BreakerBlind
	ClaimConflicts
	StaleOwners
	StoreFallbacks
	StatementThrottles
	SettledLatency
	SettledTotal
	SettledGood
	OldestHeld
	OldestRetrying
	OldestParked
	OldestThrottled

	WakerMoved
	WakerDrained
	WakerFailed
	WakerLag
	WakerOldestParked
	WaitingStray

	CanarySent
	CanaryReceived
	CanaryRefused
	CanaryLatency

	metrics // how many there are
)

// Unit is a unit of CloudWatch.
type Unit string

// The units.
const (
	Count        Unit = "Count"
	Milliseconds Unit = "Milliseconds"
	Seconds      Unit = "Seconds"
)

// Kind says what becomes of the numbers that are given for a metric within one batch.
type Kind int

// The kinds.
const (
	Sum    Kind = iota // they are added up: one value a batch
	Values             // each is published, so that CloudWatch can give percentiles
	Max                // the largest is published
)

// Definition is a row of the table of metrics.
type Definition struct {
	Metric  Metric
	Name    string
	Unit    Unit
	Kind    Kind
	Meaning string

	// Judges: a release is judged by it, so that it is published by version too.
	Judges bool
	// zero: a sum is published although it is 0, because its absence would mean something else. Others are left out then: CloudWatch
	// charges a metric for the hours in which it has data.
	zero bool
	// part: whatever is observed is observed for that metric too. Records, which nothing is part of, stands for none.
	part Metric
}

var table = [metrics]Definition{
	// Every function that works on a queue; counted by package batch, BatchDuration and LinesLost by this one.
	Records:       {Name: "Records", Unit: Count, Meaning: "messages received, each once a batch"},
	BatchDuration: {Name: "BatchDuration", Unit: Milliseconds, Kind: Values, Meaning: "time that one invocation took"},
	Returned:      {Name: "Returned", Unit: Count, Meaning: "messages left to SQS, which counts the receive"},
	SentAgain:     {Name: "SentAgain", Unit: Count, Meaning: "messages of which a copy was put back on their queue, deferred or about to be counted out"},
	Deferred:      {Name: "Deferred", Unit: Count, Meaning: "messages put off for no fault of theirs: a fault of ours, not due yet, or of a newer release"},
	Rejected:      {Name: "Rejected", Unit: Count, Meaning: "messages sent to the function's dead-letter queue with a reason"},
	Panics:        {Name: "Panics", Unit: Count, Meaning: "messages whose handling panicked, a bug of ours"},
	SendFailures:  {Name: "SendFailures", Unit: Count, Meaning: "copies, dead letters and changes of visibility that SQS did not take; the messages went back"},
	Faults:        {Name: "Faults", Unit: Count, Meaning: "messages that come again because a table, a secret or a queue could not be reached; counted by router and deliverer"},
	LinesLost:     {Name: "LinesLost", Unit: Count, Meaning: "lines of metrics that could not be written before this one"},

	// The router. Accepted = Routed + Unmatched + Dropped + messages refused, which Rejected counts.
	Accepted:  {Name: "Accepted", Unit: Count, Meaning: "events, dropped notices and refused messages that came to their end in the router"},
	Routed:    {Name: "Routed", Unit: Count, Meaning: "events of which every delivery lies on the deliveries queue, at least one"},
	Unmatched: {Name: "Unmatched", Unit: Count, Meaning: "events that no destination wants"},
	Dropped:   {Name: "Dropped", Unit: Count, Meaning: "notices that are no events and are left out on purpose, such as the test of an S3 notification"},
	Matches:   {Name: "Matches", Unit: Count, Meaning: "deliveries put on the deliveries queue"},
	Unsent:    {Name: "Unsent", Unit: Count, Meaning: "deliveries that the deliveries queue did not take; their messages come back"},
	Continued: {Name: "Continued", Unit: Count, Meaning: "messages with too many deliveries for one invocation, sent again to go on where it ended"},

	// The deliverer.
	Attempts:            {Name: "Attempts", Unit: Count, Meaning: "attempts made, successful or not", Judges: true},
	Delivered:           {Name: "Delivered", Unit: Count, Meaning: "attempts that the destination accepted", Judges: true},
	Retried:             {Name: "Retried", Unit: Count, Meaning: "failed attempts that have a next one"},
	Parked:              {Name: "Parked", Unit: Count, Meaning: "deliveries put aside until their destination may receive again"},
	PassedOn:            {Name: "PassedOn", Unit: Count, Meaning: "deliveries passed on to the slow lane, because their destination takes long to answer"},
	Limited:             {Name: "Limited", Unit: Count, Meaning: "deliveries delayed, without an attempt, until their destination's rate has room for them"},
	Dead:                {Name: "Dead", Unit: Count, Meaning: "deliveries sent to the dead-letter queue, whatever the reason"},
	GivenUp:             {Name: "GivenUp", Unit: Count, Meaning: "those of Dead that had used up all attempts, their age or their time of being held"},
	DestinationDisabled: {Name: "DestinationDisabled", Unit: Count, Meaning: "destinations disabled because they answered 410"},
	BreakerHeld:         {Name: "BreakerHeld", Unit: Count, Meaning: "deliveries held without an attempt because their destination fails or asked for it"},
	BreakerOpened:       {Name: "BreakerOpened", Unit: Count, Meaning: "breakers opened, after failures or a failed probe"},
	BreakerBlind:        {Name: "BreakerBlind", Unit: Count, Meaning: "deliveries let through because the state of breakers could not be read"},
	ClaimConflicts:      {Name: "ClaimConflicts", Unit: Count, Meaning: "claims not granted because another worker holds or has finished the delivery"},
	StaleOwners:         {Name: "StaleOwners", Unit: Count, Meaning: "settles refused because a newer claim exists: the effect may have happened twice"},
	StoreFallbacks:      {Name: "StoreFallbacks", Unit: Count, Meaning: "calls of the ledger that gave way to the form of one item at a time"},
	StatementThrottles:  {Name: "StatementThrottles", Unit: Count, Meaning: "single statements that DynamoDB throttled within successful calls, which no metric of its own shows"},
	SettledLatency:      {Name: "SettledLatency", Unit: Milliseconds, Kind: Values, Meaning: "from the acceptance of an event to its delivery being settled as delivered for the first time"},
	SettledTotal:        {Name: "SettledTotal", Unit: Count, Meaning: "deliveries settled as delivered for the first time"},
	SettledGood:         {Name: "SettledGood", Unit: Count, Meaning: "those of SettledTotal within the objective", zero: true},
	OldestHeld:          {Name: "OldestHeld", Unit: Seconds, Kind: Max, Meaning: "time since its acceptance of the oldest delivery that this batch could not end"},
	OldestRetrying:      {Name: "OldestRetrying", Unit: Seconds, Kind: Max, Meaning: "the same, of those that will be tried again", part: OldestHeld},
	OldestParked:        {Name: "OldestParked", Unit: Seconds, Kind: Max, Meaning: "the same, of those whose destination may not receive", part: OldestHeld},
	OldestThrottled:     {Name: "OldestThrottled", Unit: Seconds, Kind: Max, Meaning: "the same, of those that wait for their destination's rate, or because it has asked to be left alone", part: OldestHeld},

	// The waker.
	WakerMoved:        {Name: "WakerMoved", Unit: Count, Meaning: "due deliveries moved from the waiting room to the deliveries queue"},
	WakerDrained:      {Name: "WakerDrained", Unit: Count, Meaning: "parked deliveries moved because their destination may receive again"},
	WakerFailed:       {Name: "WakerFailed", Unit: Count, Meaning: "rows that stay because sending or deleting them failed; the next run tries again"},
	WakerLag:          {Name: "WakerLag", Unit: Seconds, Kind: Max, Meaning: "by how much the oldest open bucket is older than it should be; 0 is published too, as a sign of life"},
	WakerOldestParked: {Name: "WakerOldestParked", Unit: Seconds, Kind: Max, Meaning: "time since its acceptance of the oldest delivery that a run has found parked; nothing where none is"},
	WaitingStray:      {Name: "WaitingStray", Unit: Count, Meaning: "deliveries that a scan found where no run looks: a rule was broken", zero: true},

	// The canary.
	CanarySent:     {Name: "CanarySent", Unit: Count, Meaning: "events of the canary that the ingress queue took"},
	CanaryReceived: {Name: "CanaryReceived", Unit: Count, Meaning: "events of the canary that came back signed and as they were sent; one that is delivered twice counts twice"},
	CanaryRefused:  {Name: "CanaryRefused", Unit: Count, Meaning: "requests at the canary's URL that it did not believe: whoever finds the URL can cause them"},
	CanaryLatency:  {Name: "CanaryLatency", Unit: Milliseconds, Kind: Values, Meaning: "from sending an event of the canary to its receipt, retries included"},
}

// Metrics gives the table of all metrics, in the order of the constants.
func Metrics() []Definition {
	all := make([]Definition, metrics)
	for m := range metrics {
		all[m] = table[m]
		all[m].Metric = m
	}
	return all
}

// String gives the name under which CloudWatch knows the metric.
func (m Metric) String() string {
	if !m.known() {
		return "unknown metric"
	}
	return table[m].Name
}

func (m Metric) known() bool { return m >= 0 && m < metrics }
