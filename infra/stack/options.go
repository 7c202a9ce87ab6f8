package stack

import (
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/waybillhq/waybill/shared/topology"
)

// Options are what an operator may choose for a stage. The zero value is complete and is what most want to begin with. The JSON names are
// the keys in cdk.json.
type Options struct {
	// Destinations is the path of a destinations file that is deployed with the functions; they then read that one, and not the
	// registry. "": the registry. The stack checks that it is JSON with a list "destinations"; a function does not start with a file whose
	// entries it cannot read, so try it in local mode first.
	Destinations string `json:"destinations"`
	// Tenant is the tenant of everything that arrives on the ingress queue, whatever a message says. "": what messages say.
	Tenant string `json:"tenant"`
	// EgressAllow are addresses that destinations may have besides public ones, such as the range of a peered network. They are unreachable
	// without a Network.
	EgressAllow []netip.Prefix `json:"egressAllow"`
	// LogLevel is the least that functions log. Metrics are not affected.
	LogLevel slog.Level `json:"logLevel"`
	// LogDays is how long logs are kept, one of the numbers that CloudWatch knows. 0: 14 in dev, 90 in prod.
	LogDays int `json:"logDays"`
	// Senders may put messages on the ingress queue, besides principals of the account whose own policies allow it.
	Senders Senders `json:"senders"`
	// Secrets are the ARNs of the secrets of Secrets Manager and the parameters of SSM that destinations may name; * stands for any
	// text in a name, after its beginning. None: those of the stack's account and region whose name begins with waybill/.
	Secrets []string `json:"secrets"`
	// SecretKeys are the ARNs of customer-managed keys that Secrets are encrypted with. Keys of AWS need no mention.
	SecretKeys []string `json:"secretKeys"`
	// CustomerKey encrypts queues, tables and logs with a KMS key of the stack's own, rotated every year, instead of keys of AWS. Changing
	// it later encrypts what is written from then on.
	CustomerKey bool `json:"customerKey"`
	// Tables says more about single tables. Not mentioned: on demand.
	Tables map[topology.TableName]TableOptions `json:"tables"`
	// Functions says more about single functions.
	Functions map[topology.FunctionName]FunctionOptions `json:"functions"`
	// Network puts the functions that call destinations into a network of their own, so that receivers see fixed addresses. nil: no
	// network, and any of AWS's addresses.
	Network *Network `json:"network"`
	// Canary sends an event a minute through everything, so that somebody is called when nothing gets through. nil: in prod, and not in dev.
	Canary *bool `json:"canary"`
	// Alarms says who is called when a human is needed. In prod somebody must be; in dev nobody is by default, and then there are no alarms, which
	// would cost more than all the rest.
	Alarms Alarms `json:"alarms"`
}

// Alarms are who is called, where what to do can be read, and when to be silent.
type Alarms struct {
	Email []string `json:"email"` // addresses; each is asked by AWS whether it wants this
	HTTPS []string `json:"https"` // URLs, such as those of a pager; each must confirm the subscription
	Slack []Slack  `json:"slack"` // channels of workspaces that Amazon Q Developer in chat applications was let into once, by hand
	// Runbooks is the URL of the folder with the runbooks, for links in alarms. "": those of the public repository.
	Runbooks string `json:"runbooks"`
	Mute     []Mute `json:"mute"` // announced maintenance
}

// Slack is a channel.
type Slack struct {
	Workspace string `json:"workspace"` // its id, T…
	Channel   string `json:"channel"`   // its id, C…
}

// Mute is a time at which nobody is called.
type Mute struct {
	When     string `json:"when"`     // at(2026-12-01T02:00), or cron(0 2 * * SUN) for each Sunday
	For      string `json:"for"`      // an ISO 8601 duration, from PT1M to P15D
	Timezone string `json:"timezone"` // of When; "": UTC
}

// any says whether anybody is called.
func (a Alarms) any() bool { return len(a.Email)+len(a.HTTPS)+len(a.Slack) > 0 }

// runbooks is the folder with the runbooks, a slash at its end.
func (a Alarms) runbooks() string {
	if a.Runbooks == "" {
		return documents
	}
	return strings.TrimSuffix(a.Runbooks, "/") + "/"
}

func (m Mute) timezone() string {
	if m.Timezone == "" {
		return "UTC"
	}
	return m.Timezone
}

// Senders are who may put messages on the ingress queue.
type Senders struct {
	Topics   []string `json:"topics"`   // ARNs of SNS topics, of any account
	Rules    []string `json:"rules"`    // ARNs of EventBridge rules
	Buckets  []Bucket `json:"buckets"`  // S3 buckets that notify of their objects
	Accounts []string `json:"accounts"` // ids of AWS accounts, each of which decides who in it may send
}

// Bucket is an S3 bucket. Its ARN names no account, and a name that is given up can be taken by anyone, so the account is part of it.
type Bucket struct {
	ARN     string `json:"arn"`
	Account string `json:"account"`
}

// TableOptions say more about a table.
type TableOptions struct {
	// Provisioned pays for capacity, about 2.4 times cheaper than on demand where 70 % of it are used. nil: on demand.
	Provisioned *Provisioned `json:"provisioned"`
	// Warm keeps the table ready for a load that it has not seen yet. AWS charges for raising it, and it cannot be lowered. nil: what
	// the table has grown to.
	Warm *Throughput `json:"warm"`
}

// Provisioned is a capacity that follows the load between bounds.
type Provisioned struct {
	Read  Range `json:"read"`  // read units
	Write Range `json:"write"` // write units
	// Utilization is the share of the capacity, in percent, that scaling aims at. 0: 70.
	Utilization int `json:"utilization"`
}

// Range is a least and a most.
type Range struct {
	Min int `json:"min"`
	Max int `json:"max"`
}

// Throughput is in units per second.
type Throughput struct {
	Read  int `json:"read"`
	Write int `json:"write"`
}

// FunctionOptions say more about a function.
type FunctionOptions struct {
	// MaximumConcurrency is how many batches the function is given at a time. 0: what the topology says.
	MaximumConcurrency int `json:"maximumConcurrency"`
	// ReservedConcurrency is the function's share of the account's concurrency, at least what its source can ask for. 0: in prod
	// two more than that, for a release's and a person's own calls; in dev none is reserved.
	ReservedConcurrency int `json:"reservedConcurrency"`
	// Pollers read the queue by a number that is paid for by the hour and takes a burst at once, instead of growing by 300 batches a
	// minute. They take the place of MaximumConcurrency. nil: Lambda's own.
	Pollers *Pollers `json:"pollers"`
}

// Pollers are how many event pollers read a queue, each with up to ten batches at a time.
type Pollers struct {
	Min int `json:"min"` // 2–200
	Max int `json:"max"` // 2–2,000
}

// Network is a VPC with two zones, and one NAT gateway or two. Requests to DynamoDB do not go through them.
type Network struct {
	// CIDR is its range of private addresses, from /16 to /26. The zero value: 10.0.0.0/24. It matters only to networks that you peer with it.
	CIDR netip.Prefix `json:"cidr"`
	// Gateways is 1, or 2 for one in each zone, which lets deliveries go on when a zone fails. Each has one address. 0: 1.
	Gateways int `json:"gateways"`
	// Allocations are the ids of elastic IP addresses that you have already, one for each gateway. None: the stack makes them.
	Allocations []string `json:"allocations"`
}

const (
	utilization = 70 // percent

	// batchesPerPoller is what AWS says of a provisioned poller of SQS.
	// Source: https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-scaling.html
	batchesPerPoller = 10

	// spareConcurrency is reserved beyond what a source can ask for: one for the call by which a release tries its new version, and one
	// for a person's.
	spareConcurrency = 2
)

func (n Network) cidr() netip.Prefix {
	if n.CIDR == (netip.Prefix{}) {
		return netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 0, 0, 0}), 24)
	}
	return n.CIDR
}

func (n Network) gateways() int { return max(n.Gateways, 1) }

func (p Provisioned) utilization() int {
	if p.Utilization == 0 {
		return utilization
	}
	return p.Utilization
}

// logDays is how long logs are kept.
func (p Props) logDays() int {
	if p.LogDays == 0 {
		return p.Stage.settings().logDays
	}
	return p.LogDays
}

// effective is the topology with what the options change in it. The given one stays as it is.
func (p Props) effective() topology.Topology {
	t := p.Topology
	if p.canary() {
		t = t.WithCanary()
	}
	t.Functions = slices.Clone(t.Functions)
	for i := range t.Functions {
		f := &t.Functions[i]
		options := p.Functions[f.Name]
		if options.MaximumConcurrency != 0 {
			f.Source.MaximumConcurrency = options.MaximumConcurrency
		}
		if options.Pollers != nil {
			f.Source.MaximumConcurrency = 0 // AWS takes one or the other
		}
	}
	return t
}

// concurrency is how many runs of a function its source can ask for at a time; 0: nobody knows.
func (p Props) concurrency(f topology.Function) int {
	if pollers := p.Functions[f.Name].Pollers; pollers != nil {
		return batchesPerPoller * pollers.Max
	}
	if f.Every != 0 {
		return 1
	}
	return f.Source.MaximumConcurrency
}

// reserved is the concurrency that is reserved for a function; 0: none.
func (p Props) reserved(f topology.Function) int {
	asked := p.concurrency(f)
	switch given := p.Functions[f.Name].ReservedConcurrency; {
	case given != 0:
		return given
	case asked != 0 && p.Stage.settings().reserve:
		return asked + spareConcurrency
	}
	return 0
}

// readsDestinations says whether a function reads destinations, from a file or the registry.
func readsDestinations(f topology.Function) bool {
	return slices.ContainsFunc(f.Tables, func(a topology.TableAccess) bool { return a.Table == topology.Registry })
}

// callsDestinations says whether a function calls destinations, which nobody can do without their secrets.
func callsDestinations(f topology.Function) bool { return f.Secrets }

// seconds is what CloudFormation is told. Props.validate has seen that these are whole ones.
func seconds(d time.Duration) float64 { return d.Seconds() }
