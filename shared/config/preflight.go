package config

import (
	"errors"
	"fmt"
	"strings"

	"github.com/waybillhq/waybill/shared/topology"
)

// Preflight is the configuration of the function that tries new versions of another one.
type Preflight struct {
	Tried   topology.Function // the one that is tried
	Version string            // qualified ARN of its new version
}

// LoadPreflight reads it, in the topology of the profile that the environment names. The error names everything that is wrong at once.
func LoadPreflight(lookup Lookup) (Preflight, error) {
	r := reader{lookup: lookup}
	t := topology.New(topology.Profile(r.required(topology.ProfileVariable, "low-latency or high-volume"))).WithCanary()
	p := Preflight{Version: r.required(topology.TriedVersionVariable, "the qualified ARN of the version to try")}
	if p.Version != "" && strings.Count(p.Version, ":") != 7 { // arn:aws:lambda:REGION:ACCOUNT:function:NAME:VERSION
		r.add("%s is %q: set it to the ARN of a version, which ends in its number", topology.TriedVersionVariable, p.Version)
	}
	name := topology.FunctionName(r.required(topology.TriedFunctionVariable, "the name of the function in the topology"))
	var ok bool
	if p.Tried, ok = t.Function(name); !ok && name != "" {
		r.add("%s is %q: the topology has no such function", topology.TriedFunctionVariable, name)
	}
	if err := errors.Join(r.problems...); err != nil {
		return Preflight{}, fmt.Errorf("config: function %s cannot start, its environment needs mending:\n%w", topology.Preflight, err)
	}
	return p, nil
}
