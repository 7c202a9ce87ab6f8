// Package topology declares every queue, table, function and limit of Waybill once, as data.
//
// The CDK stack, the configuration of the functions and local mode all range over it; names of environment variables and
// visibility timeouts are derived from it, physical names are written nowhere. It imports nothing but the standard library.
//
// A Topology is plain data: copy it, change a field, and Validate says whether all relations still hold. Values are not safe for
// concurrent change.
package topology

import (
	"cmp"
	"strings"
	"time"
)

// QueueName names a queue within the topology.
type QueueName string

// The queues.
const (
	Ingress              QueueName = "ingress"         // producers put events here
	IngressDeadLetter    QueueName = "ingress-dlq"     // messages that are no event, and poison
	Deliveries           QueueName = "deliveries"      // one message per delivery that is due within 15 minutes
	DeliveriesSlow       QueueName = "deliveries-slow" // the slow lane: deliveries to destinations that take long to answer
	DeliveriesDeadLetter QueueName = "deliveries-dlq"  // deliveries that need a human, of both
)

// TableName names a table within the topology.
type TableName string

// The tables.
const (
	Ledger   TableName = "ledger"   // waybills: claims, outcomes, fencing
	Waiting  TableName = "waiting"  // deliveries that are in no queue: due in more than 15 minutes, or parked
	Registry TableName = "registry" // destinations, and what is known of them at run time
)

// FunctionName names a Lambda function within the topology; it is also the folder of its package under functions/.
type FunctionName string

// The functions.
const (
	Router    FunctionName = "router"
	Deliverer FunctionName = "deliverer"
	SlowLane  FunctionName = "slowlane" // the deliverer again, for DeliveriesSlow, so that others do not wait behind slow destinations
	Waker     FunctionName = "waker"
)

// Profile chooses between answering fast and paying little.
type Profile string

// The profiles. A batch window above zero can add up to 20 s on a quiet queue, so low latency has none; a batch above 10
// needs one of at least a second.
// Source: https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-configure.html
const (
	LowLatency Profile = "low-latency" // batches of 10, no window
	HighVolume Profile = "high-volume" // batches of 100, window of 1 s
)

// Queue declares an SQS queue.
type Queue struct {
	Name            QueueName
	DeadLetter      QueueName // "" for a dead-letter queue
	MaxReceiveCount int       // receives before SQS itself moves a message to DeadLetter
	Retention       time.Duration
}

// KeyType is the type of a key attribute.
type KeyType string

// The key types.
const (
	String KeyType = "S"
	Number KeyType = "N"
)

// Key is a key attribute of a table.
type Key struct {
	Name string
	Type KeyType
}

// Table declares a DynamoDB table, on demand.
type Table struct {
	Name         TableName
	Partition    Key
	Sort         Key    // zero: none
	TTLAttribute string // "" for none
}

// Operation is an operation of an AWS service that a function calls; the stack grants these and no other. Local mode refuses others too, and a test of
// scripts/local/system holds that a function does everything that it is granted.
type Operation string

// Operations that functions use. The PartiQL ones are IAM actions of their own.
// Source: https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/ql-iam.html
const (
	SendMessage             Operation = "sqs:SendMessage"
	ChangeMessageVisibility Operation = "sqs:ChangeMessageVisibility"
	GetItem                 Operation = "dynamodb:GetItem"
	BatchGetItem            Operation = "dynamodb:BatchGetItem"
	BatchWriteItem          Operation = "dynamodb:BatchWriteItem"
	UpdateItem              Operation = "dynamodb:UpdateItem"
	DeleteItem              Operation = "dynamodb:DeleteItem"
	Query                   Operation = "dynamodb:Query"
	Scan                    Operation = "dynamodb:Scan"
	PartiQLInsert           Operation = "dynamodb:PartiQLInsert"
	PartiQLUpdate           Operation = "dynamodb:PartiQLUpdate"
	PartiQLDelete           Operation = "dynamodb:PartiQLDelete"
	GetSecretValue          Operation = "secretsmanager:GetSecretValue"
	GetParameter            Operation = "ssm:GetParameter"
)

// QueueAccess says what a function may do on a queue, beyond what its event-source mapping needs.
type QueueAccess struct {
	Queue      QueueName
	Operations []Operation
}

// TableAccess says what a function may do on a table.
type TableAccess struct {
	Table      TableName
	Operations []Operation
}

// Mapping declares the event-source mapping that feeds a function. Partial batch responses are always on.
type Mapping struct {
	Queue              QueueName
	BatchSize          int
	Window             time.Duration
	MaximumConcurrency int // 2–1,000; 0: no limit
}

// Function declares a Lambda function: fed by a queue, or run by the clock.
type Function struct {
	Name          FunctionName
	As            FunctionName // the function whose code it runs, and under whose name it publishes metrics; "": its own
	Timeout       time.Duration
	MemoryMB      int
	Source        Mapping       // zero: none
	Every         time.Duration // whole minutes between two runs; 0: none
	Queues        []QueueAccess
	Tables        []TableAccess
	Secrets       bool // reads the secrets that destinations name, in Secrets Manager and SSM
	RecursiveLoop bool // allow SQS → Lambda → SQS beyond Lambda's loop detection
	Listens       bool // has a URL that anybody can call; what is signed with the canary's secret is all that it believes
	ServesCanary  bool // knows the canary as a destination
}

// Limits are the times and numbers that several parts must agree on.
type Limits struct {
	ClockSkew        time.Duration // tolerated between any two environments
	LeaseGrace       time.Duration // added to the time left when a lease is taken
	AttemptTimeout   time.Duration // largest that a destination may ask for
	SettleHeadroom   time.Duration // kept of an invocation, after the attempts, for making futures durable and settling
	AnswerHeadroom   time.Duration // kept after that for sending what goes back and answering
	Horizon          time.Duration // longest retry schedule
	LongestPark      time.Duration // longest time that a delivery may be held for its destination
	LongestDelay     time.Duration // that a queue can delay a message; what waits longer goes to the waiting room
	MarkCache        time.Duration // how long a function may rely on having marked a destination as one with parked deliveries
	LedgerMargin     time.Duration // added to both for the ledger's TTL
	LatencyObjective time.Duration // from the acceptance of an event to its delivery, where the destination answers
	RegistryAge      time.Duration // how old destinations and their states may be before they are read again
	RegistryStale    time.Duration // how old they may become while they cannot be read
}

// LedgerTTL is how long a waybill is kept after its last change.
func (l Limits) LedgerTTL() time.Duration { return l.Horizon + l.LongestPark + l.LedgerMargin }

// Topology is the whole system.
type Topology struct {
	Profile   Profile
	Queues    []Queue
	Tables    []Table
	Functions []Function
	Limits    Limits
}

const day = 24 * time.Hour

// New declares the system in a profile. An unknown profile is reported by Validate.
func New(profile Profile) Topology {
	size, window := 10, time.Duration(0)
	if profile == HighVolume {
		size, window = 100, time.Second
	}
	return Topology{
		Profile: profile,
		Queues: []Queue{
			{Name: Ingress, DeadLetter: IngressDeadLetter, MaxReceiveCount: 10, Retention: 4 * day},
			{Name: IngressDeadLetter, Retention: 14 * day},
			{Name: Deliveries, DeadLetter: DeliveriesDeadLetter, MaxReceiveCount: 10, Retention: 4 * day},
			{Name: DeliveriesDeadLetter, Retention: 14 * day},
			{Name: DeliveriesSlow, DeadLetter: DeliveriesDeadLetter, MaxReceiveCount: 10, Retention: 4 * day},
		},
		Tables: []Table{
			{Name: Ledger, Partition: Key{Name: "delivery", Type: String}, TTLAttribute: "expiresAt"},
			// No TTL: a row leaves when its message is on a queue, and not before.
			{Name: Waiting, Partition: Key{Name: "bucket", Type: String}, Sort: Key{Name: "row", Type: String}},
			// Destinations and their states stay. What pace and breaker count ends: it is read every few seconds, and must not grow to a row for each destination
			// that there ever was. So do the rows of limits that nobody needs.
			{Name: Registry, Partition: Key{Name: "part", Type: String}, Sort: Key{Name: "row", Type: String}, TTLAttribute: "expiresAt"},
		},
		Functions: []Function{
			{
				Name: Router, Timeout: 30 * time.Second, MemoryMB: 512,
				Source: Mapping{Queue: Ingress, BatchSize: size, Window: window, MaximumConcurrency: 100},
				Queues: []QueueAccess{
					{Ingress, []Operation{SendMessage, ChangeMessageVisibility}},
					{IngressDeadLetter, []Operation{SendMessage}},
					{Deliveries, []Operation{SendMessage}},
				},
				Tables: []TableAccess{
					{Registry, []Operation{Query}},
				},
				// Each time that an event is put off is another hop. A registry that cannot be read for hours, or a release that stays rolled back, would
				// else end in dead letters without a reason.
				RecursiveLoop: true,
			},
			{
				Name: Deliverer, Timeout: 60 * time.Second, MemoryMB: 512,
				Source: Mapping{Queue: Deliveries, BatchSize: size, Window: window, MaximumConcurrency: 250},
				Queues: []QueueAccess{
					{Deliveries, []Operation{SendMessage, ChangeMessageVisibility}},
					{DeliveriesSlow, []Operation{SendMessage}},
					{DeliveriesDeadLetter, []Operation{SendMessage}},
					{Ingress, []Operation{SendMessage}}, // events of its own: a destination was disabled
				},
				Tables: []TableAccess{
					{Ledger, []Operation{BatchGetItem, UpdateItem, PartiQLInsert, PartiQLUpdate}},
					{Waiting, []Operation{BatchWriteItem}},
					{Registry, []Operation{GetItem, Query, UpdateItem}},
				},
				Secrets: true,
				// Every retry of a delivery is another hop of the same chain; the schedule and the age limit end it.
				RecursiveLoop: true,
			},
			{
				Name: Waker, Timeout: 50 * time.Second, MemoryMB: 512, Every: time.Minute,
				Queues: []QueueAccess{
					{Deliveries, []Operation{SendMessage}},
				},
				Tables: []TableAccess{
					{Waiting, []Operation{BatchWriteItem, DeleteItem, PartiQLDelete, Query, Scan, UpdateItem}},
					{Registry, []Operation{Query}},
				},
			},
			{
				// Its invocations take as long as the slowest destinations, whatever the profile. It may have as many as the deliverer: where the
				// destination of most deliveries takes its time, this is where most are made.
				Name: SlowLane, As: Deliverer, Timeout: 60 * time.Second, MemoryMB: 512,
				Source: Mapping{Queue: DeliveriesSlow, BatchSize: 10, MaximumConcurrency: 250},
				Queues: []QueueAccess{
					{DeliveriesSlow, []Operation{SendMessage, ChangeMessageVisibility}},
					{Deliveries, []Operation{SendMessage}},
					{DeliveriesDeadLetter, []Operation{SendMessage}},
					{Ingress, []Operation{SendMessage}},
				},
				Tables: []TableAccess{
					{Ledger, []Operation{BatchGetItem, UpdateItem, PartiQLInsert, PartiQLUpdate}},
					{Waiting, []Operation{BatchWriteItem}},
					{Registry, []Operation{GetItem, Query, UpdateItem}},
				},
				Secrets: true, RecursiveLoop: true,
			},
		},
		Limits: Limits{
			ClockSkew:        5 * time.Second,
			LeaseGrace:       10 * time.Second,
			AttemptTimeout:   30 * time.Second,
			SettleHeadroom:   5 * time.Second,
			AnswerHeadroom:   2 * time.Second,
			Horizon:          14 * day,
			LongestPark:      14 * day,
			LongestDelay:     15 * time.Minute,
			MarkCache:        time.Hour,
			LedgerMargin:     28 * day,
			LatencyObjective: time.Minute,
			RegistryAge:      15 * time.Second,
			RegistryStale:    15 * time.Minute,
		},
	}
}

// Publishes is the name under which a function publishes its metrics.
func (f Function) Publishes() FunctionName { return cmp.Or(f.As, f.Name) }

// Queue finds a queue by name.
func (t Topology) Queue(name QueueName) (Queue, bool) {
	for _, q := range t.Queues {
		if q.Name == name {
			return q, true
		}
	}
	return Queue{}, false
}

// Table finds a table by name.
func (t Topology) Table(name TableName) (Table, bool) {
	for _, table := range t.Tables {
		if table.Name == name {
			return table, true
		}
	}
	return Table{}, false
}

// Delivers tells whether a queue holds deliveries to be made: the deliveries queue and the slow lane.
func (n QueueName) Delivers() bool { return n == Deliveries || n == DeliveriesSlow }

// Function finds a function by name.
func (t Topology) Function(name FunctionName) (Function, bool) {
	for _, f := range t.Functions {
		if f.Name == name {
			return f, true
		}
	}
	return Function{}, false
}

// Visibility is the visibility timeout of a queue: what AWS asks for its consumer, 6 × function timeout + batch window; SQS's
// default of 30 s for a queue that no function reads.
// Source: https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-configure.html
func (t Topology) Visibility(name QueueName) time.Duration {
	for _, f := range t.Functions {
		if f.Source.Queue == name {
			return 6*f.Timeout + f.Source.Window
		}
	}
	return 30 * time.Second
}

// Environment names, derived.

// URLVariable is the environment variable that holds a queue's URL: WAYBILL_QUEUE_INGRESS_DLQ_URL.
func (n QueueName) URLVariable() string { return "WAYBILL_QUEUE_" + upper(string(n)) + "_URL" }

// NameVariable is the environment variable that holds a table's physical name: WAYBILL_TABLE_LEDGER.
func (n TableName) NameVariable() string { return "WAYBILL_TABLE_" + upper(string(n)) }

// AliasVariable is the environment variable that holds the ARN of the alias under which a function runs: WAYBILL_FUNCTION_ROUTER. Programs that look
// after a deployed system read it; functions do not know each other.
func (n FunctionName) AliasVariable() string { return "WAYBILL_FUNCTION_" + upper(string(n)) }

// Output is the name of the stack's output that holds the value of an environment variable: QueueIngressDlqUrl for WAYBILL_QUEUE_INGRESS_DLQ_URL,
// because CloudFormation allows letters and digits only.
func Output(variable string) string {
	var name strings.Builder
	for word := range strings.SplitSeq(strings.TrimPrefix(variable, "WAYBILL_"), "_") {
		if word != "" {
			name.WriteString(word[:1] + strings.ToLower(word[1:]))
		}
	}
	return name.String()
}

func upper(s string) string { return strings.ToUpper(strings.ReplaceAll(s, "-", "_")) }

// Environment variables that belong to no queue or table.
const (
	ProfileVariable      = "WAYBILL_PROFILE"           // required: a Profile
	DestinationsVariable = "WAYBILL_DESTINATIONS_FILE" // optional: path of a destinations file that is deployed with the function, instead of those in the registry
	ServiceVariable      = "WAYBILL_SERVICE"           // optional: the dimension Service of metrics, where several deployments share an account
	StageVariable        = "WAYBILL_STAGE"             // of a stack's outputs: dev or prod
	TenantVariable       = "WAYBILL_TENANT"            // optional: the tenant of everything that arrives on the ingress queue, whatever a message says
	EgressAllowVariable  = "WAYBILL_EGRESS_ALLOW"      // optional: CIDRs, comma-separated, that destinations may have besides public addresses
	TraceDaemonVariable  = "AWS_XRAY_DAEMON_ADDRESS"   // set by Lambda where traces are taken
	LogLevelVariable     = "WAYBILL_LOG_LEVEL"         // optional: debug, info, warn, error
)

// Variables lists the environment variables that a function cannot do without, queues first, each in the order of the declaration.
func (f Function) Variables() []string {
	names := []string{ProfileVariable}
	for _, q := range f.Queues {
		names = append(names, q.Queue.URLVariable())
	}
	for _, t := range f.Tables {
		names = append(names, t.Table.NameVariable())
	}
	return append(names, f.takesOfCanary()...)
}
