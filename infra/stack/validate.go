package stack

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/waybillhq/waybill/infra/runbooks"
	"github.com/waybillhq/waybill/shared/topology"
)

// validate reports all that is wrong at once, each with what to do, and gives the runbooks. It needs neither Node nor CDK.
func (p Props) validate() (map[topology.PageName]runbooks.Runbook, error) {
	v := &violations{}
	v.addError(p.Topology.Validate())
	if p.Stage != Dev && p.Stage != Prod {
		v.add("stage %q: choose %q or %q", p.Stage, Dev, Prod)
	}
	v.wholeSeconds(p.Topology)
	v.code(p)
	v.variables(p)
	v.destinations(p.Destinations)
	v.tenant(p)
	v.egress(p)
	v.logs(p)
	v.senders(p)
	v.secrets(p.Options)
	v.tables(p)
	v.functions(p)
	v.network(p.Network)
	v.alarms(p)
	books := v.readRunbooks(p.Topology)
	return books, errors.Join(v.found...)
}

type violations struct{ found []error }

func (v *violations) add(format string, args ...any) { v.addError(fmt.Errorf(format, args...)) }

func (v *violations) addError(err error) {
	if err != nil {
		v.found = append(v.found, err)
	}
}

func (v *violations) wholeSeconds(t topology.Topology) {
	whole := func(what string, d time.Duration) {
		if d%time.Second != 0 {
			v.add("%s is %v: CloudFormation counts whole seconds", what, d)
		}
	}
	for _, q := range t.Queues {
		whole(fmt.Sprintf("queue %s: retention", q.Name), q.Retention)
	}
	for _, f := range t.Functions {
		whole(fmt.Sprintf("function %s: timeout", f.Name), f.Timeout)
	}
}

// code holds programs and topology to each other, both ways.
func (v *violations) code(p Props) {
	for _, f := range p.programs() {
		path := filepath.Join(p.Code, string(f.Name), bootstrap)
		if info, err := os.Stat(path); err != nil || !info.Mode().IsRegular() {
			v.add("function %s: %s is missing: run `make build`", f.Name, path)
		}
	}
	if _, ok := p.Topology.Function(topology.Preflight); ok {
		v.add("function %s: the function that tries new versions is called so: choose another name", topology.Preflight)
	}
	found, _ := filepath.Glob(filepath.Join(p.Code, "*", bootstrap)) // the pattern is well formed
	for _, path := range found {
		name := filepath.Base(filepath.Dir(path))
		// The canary is built whether or not it is deployed.
		if _, ok := p.Topology.WithCanary().Function(topology.FunctionName(name)); !ok && name != string(topology.Preflight) {
			v.add("%s: the topology has no function %s: declare it there, or delete the folder", path, name)
		}
	}
}

// variables holds that a function which needs a variable gets it.
func (v *violations) variables(p Props) {
	for _, f := range p.Topology.Functions {
		settable := settable(f)
		for _, name := range f.Variables() {
			if !settable[name] {
				v.add("function %s: needs variable %s, which the stack cannot set", f.Name, name)
			}
		}
	}
}

// maxDestinationsBytes keeps function and file together below Lambda's 250 MB, and catches a path that names something else.
const maxDestinationsBytes = 10 << 20

func (v *violations) destinations(path string) {
	if path == "" {
		return
	}
	info, err := os.Stat(path)
	switch {
	case err != nil || !info.Mode().IsRegular():
		v.add("destinations: no file %q: name an existing one, or none for the destinations in the registry", path)
		return
	case info.Size() > maxDestinationsBytes:
		v.add("destinations: %q has %d bytes, at most %d: use the registry", path, info.Size(), maxDestinationsBytes)
		return
	}
	text, err := os.ReadFile(path) //nolint:gosec // the operator names the file
	if err != nil {
		v.add("destinations: %w", err)
		return
	}
	var file struct {
		Destinations *[]json.RawMessage `json:"destinations"`
	}
	if err := json.Unmarshal(text, &file); err != nil || file.Destinations == nil {
		v.add("destinations: %q is no JSON object with a list \"destinations\": try it with `make run ARGS=\"-destinations FILE\"`", path)
	}
}

// maxTenantBytes is what an event's tenant may have.
const maxTenantBytes = 128

func (v *violations) tenant(p Props) {
	if len(p.Tenant) > maxTenantBytes {
		v.add("tenant: has %d bytes, at most %d", len(p.Tenant), maxTenantBytes)
	}
	if p.Tenant == canaryTenant {
		v.add("tenant: %q is the tenant of Waybill's own canary, whose events are nobody else's: choose another", p.Tenant)
	}
	if strings.ContainsFunc(p.Tenant, func(r rune) bool { return r <= ' ' || r > '~' }) {
		v.add("tenant: %q: use printable ASCII without spaces", p.Tenant)
	}
}

// maxEgressBytes leaves the other variables of a function, of which Lambda takes 4 KB altogether, what they need.
const maxEgressBytes = 1024

func (v *violations) egress(p Props) {
	if text := egressText(p.EgressAllow); len(text) > maxEgressBytes {
		v.add("egressAllow: %d ranges make %d bytes, at most %d, because Lambda bounds what a function is told by its environment: allow fewer and wider ranges",
			len(p.EgressAllow), len(text), maxEgressBytes)
	}
	forbidden := [...]struct{ prefix, holds string }{
		{"127.0.0.0/8", "the runtime of Lambda"}, {"::1/128", "the runtime of Lambda"},
		{"169.254.0.0/16", "AWS's own services beside the function"}, {"fe80::/10", "AWS's own services beside the function"},
	}
	for _, prefix := range p.EgressAllow {
		switch {
		case !prefix.IsValid() || prefix.Addr().Is4In6() || prefix != prefix.Masked():
			v.add("egressAllow: %s: write a range without bits after its length, such as 10.1.0.0/16", prefix)
			continue
		case p.Network == nil:
			v.add("egressAllow: %s: addresses that are not public can be reached only with a network: set network, or allow none", prefix)
		}
		for _, f := range forbidden {
			if prefix.Overlaps(netip.MustParsePrefix(f.prefix)) {
				v.add("egressAllow: %s: holds %s, which belongs to %s: allow only the ranges of your receivers", prefix, f.prefix, f.holds)
			}
		}
	}
}

func (v *violations) logs(p Props) {
	if _, ok := retention(p.logDays()); !ok {
		v.add("logDays: %d: CloudWatch keeps logs for one of %v days", p.LogDays, retentionDays())
	}
}

// Forms of ARNs. Those of senders and keys name one resource; those of secrets may end in a pattern.
var (
	accountForm = regexp.MustCompile(`^[0-9]{12}$`)
	topicForm   = regexp.MustCompile(`^arn:aws[a-z-]*:sns:[a-z0-9-]+:[0-9]{12}:[A-Za-z0-9_-]{1,256}$`)
	ruleForm    = regexp.MustCompile(`^arn:aws[a-z-]*:events:[a-z0-9-]+:[0-9]{12}:rule/[A-Za-z0-9._/-]{1,320}$`)
	bucketForm  = regexp.MustCompile(`^arn:aws[a-z-]*:s3:::[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$`)
	keyForm     = regexp.MustCompile(`^arn:aws[a-z-]*:kms:[a-z0-9-]+:[0-9]{12}:key/[A-Za-z0-9-]+$`)
	secretForm  = regexp.MustCompile(`^arn:aws[a-z-]*:secretsmanager:[a-z0-9-]+:[0-9]{12}:secret:[A-Za-z0-9/_+=.@-][A-Za-z0-9/_+=.@?*-]*$`)
	suffixForm  = regexp.MustCompile(`(\*|-\?{6}|-[A-Za-z0-9]{6})$`)
	paramForm   = regexp.MustCompile(`^arn:aws[a-z-]*:ssm:[a-z0-9-]+:[0-9]{12}:parameter/[A-Za-z0-9_.-][A-Za-z0-9_./?*-]*$`)
	addressForm = regexp.MustCompile(`^eipalloc-[0-9a-f]+$`)
)

// each checks a list whose entries all have one form, once each.
func (v *violations) each(option string, entries []string, form *regexp.Regexp, example string) {
	for i, entry := range entries {
		switch {
		case !form.MatchString(entry):
			v.add("%s: %q: write it as in %s", option, entry, example)
		case slices.Contains(entries[:i], entry):
			v.add("%s: %q: is there twice: once is enough", option, entry)
		}
	}
}

func (v *violations) senders(p Props) {
	s := p.Senders
	v.each("senders.topics", s.Topics, topicForm, "arn:aws:sns:eu-west-1:123456789012:orders")
	v.each("senders.rules", s.Rules, ruleForm, "arn:aws:events:eu-west-1:123456789012:rule/orders")
	v.each("senders.accounts", s.Accounts, accountForm, "123456789012")
	arns, accounts := []string{}, []string{}
	for _, b := range s.Buckets {
		arns = append(arns, b.ARN)
		if !accountForm.MatchString(b.Account) {
			accounts = append(accounts, b.Account)
		}
	}
	v.each("senders.buckets, arn", arns, bucketForm, "arn:aws:s3:::my-bucket")
	v.each("senders.buckets, account", accounts, accountForm, "123456789012, the owner of the bucket")
	if _, ok := p.Topology.Queue(topology.Ingress); !ok && s.any() {
		v.add("senders: the topology has no queue %s that they could send to: name no senders", topology.Ingress)
	}
	v.senderPolicy(s)
}

// Bounds of the policy of a queue.
// Source: https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/quotas-policies.html
const (
	maxPolicyBytes      = 8_192
	maxPolicyConditions = 10
	maxPolicyPrincipals = 50

	statementBytes = 350 // of one without what it lists: its words, and the ARN of the queue
	rootBytes      = 45  // of an account as a principal
)

// senderPolicy holds that the policy of the ingress queue stays within them. The first statement is the one that refuses what does not come by TLS.
func (v *violations) senderPolicy(s Senders) {
	bytes, conditions, principals := statementBytes, 1, 1
	statement := func(listed []string, keys, callers int) {
		bytes, conditions, principals = bytes+statementBytes, conditions+keys, principals+callers
		for _, entry := range listed {
			bytes += len(entry) + len(`"",`)
		}
	}
	if len(s.Topics) > 0 {
		statement(s.Topics, 1, 1)
	}
	if len(s.Rules) > 0 {
		statement(s.Rules, 1, 1)
	}
	for _, owner := range s.owners() {
		statement(s.bucketsOf(owner), 2, 1)
	}
	if n := len(s.Accounts); n > 0 {
		statement(nil, 0, n)
		bytes += n * rootBytes
	}
	if conditions > maxPolicyConditions {
		v.add("senders.buckets: are of %d accounts, which takes %d conditions in the policy of the queue, at most %d: let the buckets of some of them notify a topic, "+
			"and name that one", len(s.owners()), conditions, maxPolicyConditions)
	}
	if principals > maxPolicyPrincipals {
		v.add("senders.accounts: %d accounts and the services make %d principals in the policy of the queue, at most %d: let some of them publish to a topic, and name "+
			"that one", len(s.Accounts), principals, maxPolicyPrincipals)
	}
	if bytes > maxPolicyBytes {
		v.add("senders: all of them make about %d bytes in the policy of the queue, at most %d: let some of them publish to a topic, and name that one", bytes, maxPolicyBytes)
	}
}

func (v *violations) secrets(o Options) {
	for i, arn := range o.Secrets {
		switch {
		case slices.Contains(o.Secrets[:i], arn):
			v.add("secrets: %q: is there twice: once is enough", arn)
		case paramForm.MatchString(arn):
		case !secretForm.MatchString(arn):
			v.add("secrets: %q: write it as in arn:aws:secretsmanager:eu-west-1:123456789012:secret:hooks/* or "+
				"arn:aws:ssm:eu-west-1:123456789012:parameter/hooks/*, with * only after the beginning of the name", arn)
		case !suffixForm.MatchString(arn):
			v.add("secrets: %q: matches nothing, because Secrets Manager adds a hyphen and six characters to the name: end it with -?????? or with *", arn)
		}
	}
	v.each("secretKeys", o.SecretKeys, keyForm, "arn:aws:kms:eu-west-1:123456789012:key/1234abcd-12ab-34cd-56ef-1234567890ab")
}

// Bounds of DynamoDB.
// Source: https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/ServiceQuotas.html
const (
	maxUnits       = 40_000 // per table, unless AWS raises it
	minWarmRead    = 12_000 // what any table on demand has
	minWarmWrite   = 4_000
	minUtilization = 20
	maxUtilization = 90
)

func (v *violations) tables(p Props) {
	for _, name := range slices.Sorted(maps.Keys(p.Tables)) {
		if _, ok := p.Topology.Table(name); !ok {
			v.add("tables: there is no table %s: name one of %v", name, tableNames(p.Topology))
		}
		options := p.Tables[name]
		if provisioned := options.Provisioned; provisioned != nil {
			v.units(fmt.Sprintf("tables.%s.provisioned.read", name), provisioned.Read)
			v.units(fmt.Sprintf("tables.%s.provisioned.write", name), provisioned.Write)
			if u := provisioned.utilization(); u < minUtilization || u > maxUtilization {
				v.add("tables.%s.provisioned.utilization: %d, must be between %d and %d percent", name, u, minUtilization, maxUtilization)
			}
		}
		if warm := options.Warm; warm != nil && (warm.Read < minWarmRead || warm.Write < minWarmWrite) {
			v.add("tables.%s.warm: read %d and write %d, must be at least %d and %d, which every table has from the start: leave it out",
				name, warm.Read, warm.Write, minWarmRead, minWarmWrite)
		}
	}
}

func (v *violations) units(what string, r Range) {
	if r.Min < 1 || r.Max < r.Min || r.Max > maxUnits {
		v.add("%s: from %d to %d, must begin at 1 or more and end at %d or less, not below its beginning", what, r.Min, r.Max, maxUnits)
	}
}

func tableNames(t topology.Topology) []topology.TableName {
	var names []topology.TableName
	for _, table := range t.Tables {
		names = append(names, table.Name)
	}
	return names
}

// Bounds of Lambda's event pollers for SQS.
// Source: https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-scaling.html
const (
	minPollers      = 2
	maxLeastPollers = 200
	maxPollers      = 2000
)

func (v *violations) functions(p Props) {
	for _, name := range slices.Sorted(maps.Keys(p.Functions)) {
		f, ok := p.Topology.Function(name)
		if !ok {
			v.add("functions: there is no function %s: name one of %v", name, functionNames(p.Topology))
			continue
		}
		options := p.Functions[name]
		if f.Source.Queue == "" && (options.Pollers != nil || options.MaximumConcurrency != 0) {
			v.add("functions.%s: no queue feeds it: leave out maximumConcurrency and pollers", name)
			continue
		}
		if options.MaximumConcurrency != 0 && options.Pollers != nil {
			v.add("functions.%s: maximumConcurrency and pollers exclude each other: choose one", name)
		}
		if pollers := options.Pollers; pollers != nil && (pollers.Min < minPollers || pollers.Min > maxLeastPollers || pollers.Max < pollers.Min || pollers.Max > maxPollers) {
			v.add("functions.%s.pollers: from %d to %d, must begin between %d and %d and end at %d or less, not below its beginning",
				name, pollers.Min, pollers.Max, minPollers, maxLeastPollers, maxPollers)
		}
		if asked, reserved := p.concurrency(f), options.ReservedConcurrency; reserved < 0 || (reserved != 0 && reserved < asked) {
			v.add("functions.%s.reservedConcurrency: %d, must be at least the %d that its source can ask for: calls beyond it are refused, and each "+
				"refusal counts as a receive of the message", name, reserved, asked)
		}
	}
}

func functionNames(t topology.Topology) []topology.FunctionName {
	var names []topology.FunctionName
	for _, f := range t.Functions {
		names = append(names, f.Name)
	}
	return names
}

// Bounds of the network. Each of its two zones has two subnets, and AWS makes none smaller than /28.
const (
	maxNetworkBits = 26
	minNetworkBits = 16
	maxGateways    = 2
)

func (v *violations) network(n *Network) {
	if n == nil {
		return
	}
	if cidr := n.cidr(); !cidr.IsValid() || !cidr.Addr().Is4() || !cidr.Addr().IsPrivate() || cidr != cidr.Masked() || cidr.Bits() < minNetworkBits || cidr.Bits() > maxNetworkBits {
		v.add("network.cidr: %s: choose a range of private IPv4 addresses from /%d to /%d, such as 10.0.0.0/24", cidr, minNetworkBits, maxNetworkBits)
	}
	if n.Gateways < 0 || n.Gateways > maxGateways {
		v.add("network.gateways: %d: choose 1, or %d for one in each zone", n.Gateways, maxGateways)
	}
	v.each("network.allocations", n.Allocations, addressForm, "eipalloc-0123456789abcdef0")
	if given := len(n.Allocations); given != 0 && given != n.gateways() {
		v.add("network.allocations: %d for %d gateways: name one for each, or none", given, n.gateways())
	}
}

// Forms of what an alarm is sent to, and of when it is not.
var (
	emailForm     = regexp.MustCompile(`^[^@\s]+@[^@\s]+\.[^@\s.]+$`)
	httpsForm     = regexp.MustCompile(`^https://[A-Za-z0-9.-]+(:[0-9]+)?(/[^\s]*)?$`)
	workspaceForm = regexp.MustCompile(`^T[A-Z0-9]{8,}$`)
	channelForm   = regexp.MustCompile(`^[CG][A-Z0-9]{8,}$`)
	whenForm      = regexp.MustCompile(`^(at\([0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}\)|cron\([0-9*,-]+ [0-9*,-]+ [0-9*,-]+ [A-Z0-9*,-]+ [A-Z0-9*,-]+\))$`)
	lengthForm    = regexp.MustCompile(`^P(([1-9]|1[0-5])D)?(T([0-9]{1,3}H)?([0-9]{1,4}M)?)?$`)
	timezoneForm  = regexp.MustCompile(`^[A-Za-z]+([/_+-][A-Za-z0-9]+)*$`)
)

func (v *violations) alarms(p Props) {
	a := p.Alarms
	if p.Stage == Prod && !a.any() {
		v.add("alarms: in prod somebody must be called: give alarms.email, alarms.https or alarms.slack, or on the command line -c alarmEmail=oncall@example.com")
	}
	v.each("alarms.email", a.Email, emailForm, "oncall@example.com")
	v.each("alarms.https", a.HTTPS, httpsForm, "https://pager.example.com/waybill")
	channels := make([]string, len(a.Slack))
	for i, s := range a.Slack {
		channels[i] = s.Channel
		if !workspaceForm.MatchString(s.Workspace) {
			v.add("alarms.slack, workspace: %q: write its id, as in T0123ABCD", s.Workspace)
		}
	}
	v.each("alarms.slack, channel", channels, channelForm, "C0123ABCD")
	if a.Runbooks != "" && !httpsForm.MatchString(a.Runbooks) {
		v.add("alarms.runbooks: %q: write the URL of a folder, as in %s", a.Runbooks, documents)
	}
	for _, m := range a.Mute {
		if !whenForm.MatchString(m.When) {
			v.add("alarms.mute, when: %q: write at(2026-12-01T02:00) for once, or cron(0 2 * * SUN) for each Sunday", m.When)
		}
		if !lengthForm.MatchString(m.For) || strings.HasSuffix(m.For, "P") || strings.HasSuffix(m.For, "T") {
			v.add("alarms.mute, for: %q: write a duration of at most 15 days, as in PT2H or P1DT12H", m.For)
		}
		if !timezoneForm.MatchString(m.timezone()) {
			v.add("alarms.mute, timezone: %q: write its name, as in Europe/Berlin", m.Timezone)
		}
	}
}
