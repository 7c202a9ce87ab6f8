package registry

import (
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"time"

	"github.com/waybillhq/waybill/shared/pattern"
	"github.com/waybillhq/waybill/shared/retry"
)

// The canary is the one destination that stands in no file: its deliveries show that the whole of Waybill works. No file can have its id or its tenant, and
// whatever source and type say that an event is the canary's, it is nobody else's.
const (
	CanaryID     = "waybill.canary" // no id that a file can have
	CanaryTenant = "waybill.canary"
	CanarySource = "/waybill/canary"
	CanaryType   = "waybill.canary"
)

// CanaryLife is how long a delivery to the canary is of use. After five minutes its absence has been noticed, and what arrives then tells nothing any more.
const CanaryLife = 5 * time.Minute

// CanaryTimeout bounds an attempt at the canary.
const CanaryTimeout = 10 * time.Second

// IsCanary tells whether an event of that source and type is the canary's, whatever tenant it names.
func IsCanary(source, eventType string) bool {
	return source == CanarySource && eventType == CanaryType
}

// NewCanary gives the canary's destination, where it listens and with what is signed for it: an ARN, or the secret itself for a loopback address. Its
// deliveries are dropped when they have outlived CanaryLife, before their attempts are used up.
func NewCanary(endpoint, secret string) (*Destination, error) {
	at, err := url.Parse(endpoint)
	if err != nil || at.Host == "" || at.Scheme != "https" && (at.Scheme != "http" || !isLoopback(at.Hostname())) {
		return nil, errors.New("the canary's URL must be an https URL, or an http URL of a loopback address")
	}
	key, message, fix := readSecret(secret, mayHoldSecrets(endpoint))
	if message != "" {
		return nil, fmt.Errorf("the canary's secret %s; %s", message, fix)
	}
	wanted, err := pattern.Parse(fmt.Appendf(nil, `{"source":[%q],"type":[%q]}`, CanarySource, CanaryType))
	if err != nil {
		return nil, err
	}
	// The last of these would be later than CanaryLife, so that no delivery is given up.
	waits, err := retry.Steps(5*time.Second, 30*time.Second, time.Minute, 2*time.Minute, 4*time.Minute)
	if err != nil {
		return nil, err
	}
	return &Destination{
		ID: CanaryID, Tenant: CanaryTenant, Type: TypeWebhook, Pattern: wanted, Life: CanaryLife,
		Webhook: &Webhook{URL: endpoint, Secrets: []Secret{key}, Timeout: CanaryTimeout},
		Retry:   waits,
	}, nil
}

// WithCanary gives the set with the canary's destination after its own; nil: the set itself. The set stays as it is.
func (s *Set) WithCanary(canary *Destination) *Set {
	if canary == nil {
		return s
	}
	with := *s
	with.ordered = append(slices.Clip(s.ordered), canary)
	with.byID, with.tenants = maps.Clone(s.byID), maps.Clone(s.tenants)
	if with.byID == nil {
		with.byID, with.tenants = map[string]*Destination{}, map[string]*group{}
	}
	with.byID[canary.ID] = canary
	with.tenants[canary.Tenant] = &group{[]int{len(s.ordered)}, pattern.NewIndex([]*pattern.Pattern{canary.Pattern})}
	return &with
}
