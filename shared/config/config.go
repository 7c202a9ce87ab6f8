// Package config reads the configuration of a function from its environment, the only place where Waybill looks at one.
//
// What a function needs is derived from the topology, so that the CDK stack, local mode and this package cannot disagree. A missing or
// impossible setting fails start-up, and the error names every such setting at once.
package config

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"net/url"

	"github.com/waybillhq/waybill/shared/egress"
	"github.com/waybillhq/waybill/shared/topology"
)

// Function is the configuration of one function.
type Function struct {
	Topology         topology.Topology
	Function         topology.Function
	Queues           map[topology.QueueName]string // URLs
	Tables           map[topology.TableName]string // physical names
	DestinationsFile string                        // "" for the destinations in the registry
	Tenant           string                        // of everything on the ingress queue; "" for what messages say
	Service          string                        // of the metrics; "" for the default
	Version          string                        // of the function; "" outside Lambda
	TraceDaemon      string                        // address of the X-Ray daemon; "" where no traces are taken
	CanaryURL        string                        // where the canary listens; "" without a canary, and for the canary itself
	CanarySecret     string                        // ARN of what signs for the canary; "" without one
	EgressAllow      []netip.Prefix
	LogLevel         slog.Level
}

// Lookup finds an environment variable, as os.LookupEnv does.
type Lookup func(name string) (value string, ok bool)

// Load reads the configuration of the named function, in the topology of the profile that the environment names, with the canary if the environment says
// where it listens.
func Load(name topology.FunctionName, lookup Lookup) (Function, error) {
	r := reader{lookup: lookup}
	profile := topology.Profile(r.required(topology.ProfileVariable, "low-latency or high-volume"))
	t := topology.New(profile)
	if name == topology.Canary || r.optional(topology.CanaryURLVariable) != "" {
		t = t.WithCanary()
	}
	if profile != "" {
		if err := t.Validate(); err != nil {
			r.add("%s: %w", topology.ProfileVariable, err)
		}
	}
	return r.function(t, name)
}

// LoadFrom reads the configuration of the named function in the topology t, for a system that is not as any profile declares it. It does not
// validate t.
func LoadFrom(t topology.Topology, name topology.FunctionName, lookup Lookup) (Function, error) {
	r := reader{lookup: lookup}
	return r.function(t, name)
}

func (r *reader) function(t topology.Topology, name topology.FunctionName) (Function, error) {
	fn, ok := t.Function(name)
	if !ok {
		return Function{}, fmt.Errorf("config: function %q is not in the topology", name)
	}
	cfg := Function{
		Topology: t, Function: fn, Queues: map[topology.QueueName]string{}, Tables: map[topology.TableName]string{},
		DestinationsFile: r.optional(topology.DestinationsVariable), Tenant: r.optional(topology.TenantVariable),
		Service: r.optional(topology.ServiceVariable), TraceDaemon: r.optional(topology.TraceDaemonVariable),
		Version: r.optional(topology.VersionVariable),
	}
	for _, q := range fn.Queues {
		cfg.Queues[q.Queue] = r.url(q.Queue.URLVariable(), "the URL of the queue")
	}
	for _, table := range fn.Tables {
		cfg.Tables[table.Table] = r.required(table.Table.NameVariable(), "the name of the table")
	}
	if fn.ServesCanary {
		cfg.CanaryURL = r.url(topology.CanaryURLVariable, "the URL where the canary listens")
	}
	if fn.ServesCanary || fn.Listens {
		cfg.CanarySecret = r.required(topology.CanarySecretVariable, "the ARN of the secret that signs for the canary")
	}
	if text := r.optional(topology.EgressAllowVariable); text != "" {
		var err error
		if cfg.EgressAllow, err = egress.ParseAllow(text); err != nil {
			r.add("%s: %w", topology.EgressAllowVariable, err)
		}
	}
	if text := r.optional(topology.LogLevelVariable); text != "" {
		if err := cfg.LogLevel.UnmarshalText([]byte(text)); err != nil {
			r.add("%s is %q: set it to debug, info, warn or error", topology.LogLevelVariable, text)
		}
	}
	if err := errors.Join(r.problems...); err != nil {
		return Function{}, fmt.Errorf("config: function %s cannot start, its environment needs mending:\n%w", name, err)
	}
	return cfg, nil
}

type reader struct {
	lookup   Lookup
	problems []error
}

func (r *reader) add(format string, args ...any) {
	r.problems = append(r.problems, fmt.Errorf(format, args...))
}

func (r *reader) required(name, meaning string) string {
	value, ok := r.lookup(name)
	if !ok || value == "" {
		r.add("%s is missing: set it to %s", name, meaning)
	}
	return value
}

func (r *reader) optional(name string) string {
	value, _ := r.lookup(name)
	return value
}

func (r *reader) url(name, meaning string) string {
	value := r.required(name, meaning)
	if value == "" {
		return ""
	}
	if u, err := url.Parse(value); err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" {
		r.add("%s is %q, which is no http or https URL: set it to %s", name, value, meaning)
	}
	return value
}
