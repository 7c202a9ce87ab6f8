// Package secrets finds the signing keys of destinations that name them by ARN, in Secrets Manager and in SSM.
//
// # What is stored
//
// Under an ARN lies text: one secret, whsec_…, or several separated by white space while they are rotated; or a JSON object, as the console
// of Secrets Manager writes it, whose values are all such text, whatever their names. All keys sign, in the order in which they are written.
// A member named whsec_ holds what follows it, so that Secrets Manager can generate one: GenerateSecretString with SecretStringTemplate {},
// GenerateStringKey whsec_, ExcludePunctuation and a length of 32 to 84 that is divisible by 4.
// In Secrets Manager it is the version AWSCURRENT that counts: a secret that is to sign still must be in it, as AWSPREVIOUS is not read.
// Bytes (SecretBinary) are refused.
//
// To rotate, store "NEW OLD", give receivers the new secret, and store "NEW" when the last of them has it.
//
// # How old a key can be
//
// Keys are kept per ARN. One that the service gave more than Config.MaxAge ago signs only if the latest try to read it again could not reach
// the service, and until Config.MaxStale. A service that answers is believed: a secret that was deleted, that we may no longer read or that
// holds something else is an error at once. Time is that of the wall clock, because an environment of AWS Lambda stands still between
// invocations.
//
// # What it costs
//
// An environment asks for each ARN that it uses every 4 to 5 minutes, not at all while it is idle, and at most every 15 seconds while there is
// an error. 250 environments that all use one ARN without a pause make one call a second, 2.4 million a month: $12 in Secrets Manager
// ($0.05 per 10,000 calls), nothing for a standard parameter in SSM. SSM gives 40 calls a second to a whole account and region unless higher
// throughput is bought, which is enough for 40 such parameters; Secrets Manager gives 10,000. A longer MaxAge costs less in proportion. A key
// in KMS that is one's own adds $0.03 per 10,000 calls.
//
// # Permissions
//
// secretsmanager:GetSecretValue and ssm:GetParameter on the ARNs, and kms:Decrypt on their keys where these are one's own.
package secrets

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/aws-sdk-go-v2/service/ssm"

	"github.com/waybillhq/waybill/shared/registry"
)

// SecretsManager is what a Resolver uses of *secretsmanager.Client.
type SecretsManager interface {
	GetSecretValue(context.Context, *secretsmanager.GetSecretValueInput, ...func(*secretsmanager.Options)) (*secretsmanager.GetSecretValueOutput, error)
}

// SSM is what a Resolver uses of *ssm.Client.
type SSM interface {
	GetParameter(context.Context, *ssm.GetParameterInput, ...func(*ssm.Options)) (*ssm.GetParameterOutput, error)
}

// Config configures a Resolver. The clients are required, zero means the default everywhere else.
type Config struct {
	// SecretsManager and SSM are asked in the region that an ARN names, whatever their own is: every call sets it among its options.
	SecretsManager SecretsManager
	SSM            SSM

	// MaxAge bounds how long a rotation takes to be seen. Default 5 minutes; at least four times CallTimeout. Half of it doubles the cost.
	MaxAge time.Duration
	// MaxStale is how old a key may grow while its service cannot be reached. Default 1 hour; at least MaxAge. After that its deliveries wait
	// until the service is back.
	MaxStale time.Duration
	// RetryAfter is how long the answer stands after a try that failed: deliveries do not hammer a service that is in trouble, and a person
	// who mends a permission waits that long to see it work. Default 15 seconds; at least CallTimeout.
	RetryAfter time.Duration
	// CallTimeout bounds one call, the SDK's own retries included, and as long again the time for which it waits for its turn. Default 2 seconds.
	CallTimeout time.Duration
	// Concurrency bounds the calls that are under way at once. Default 8.
	Concurrency int
	// MaxCached bounds how many ARNs are kept in memory. Beyond it some are forgotten and asked for again. Default 10,000.
	MaxCached int

	// OnStale hears of every failed try to read again a key that is still known, from the goroutine that tried. It must be quick. Default: nobody.
	OnStale func(Stale)
	// Now is the clock. Default time.Now.
	Now func() time.Time
}

// Stale tells of a key that could not be read again.
type Stale struct {
	ARN    string
	Age    time.Duration // since the service gave it
	Serves bool          // it goes on signing: the service could not be reached, and Age is below Config.MaxStale
	Err    error         // an *Error
}

func (c Config) withDefaults() (Config, error) {
	c.MaxAge, c.MaxStale = cmp.Or(c.MaxAge, 5*time.Minute), cmp.Or(c.MaxStale, time.Hour)
	c.RetryAfter, c.CallTimeout = cmp.Or(c.RetryAfter, 15*time.Second), cmp.Or(c.CallTimeout, 2*time.Second)
	c.Concurrency, c.MaxCached = cmp.Or(c.Concurrency, 8), cmp.Or(c.MaxCached, registry.MaxDestinations)
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.OnStale == nil {
		c.OnStale = func(Stale) {}
	}
	var problems []error
	for _, check := range []struct {
		broken  bool
		problem string
	}{
		{c.SecretsManager == nil, "Config.SecretsManager is missing: give a *secretsmanager.Client"},
		{c.SSM == nil, "Config.SSM is missing: give an *ssm.Client"},
		{c.CallTimeout < 0 || c.Concurrency < 0 || c.MaxCached < 0, "Config.Concurrency, Config.MaxCached or Config.CallTimeout is negative: leave it out for the default"},
		{c.RetryAfter < c.CallTimeout, fmt.Sprintf("Config.RetryAfter is %v: use at least CallTimeout, %v", c.RetryAfter, c.CallTimeout)},
		{c.MaxAge < 4*c.CallTimeout, fmt.Sprintf("Config.MaxAge is %v: use at least four times CallTimeout, %v", c.MaxAge, 4*c.CallTimeout)},
		{c.MaxStale < c.MaxAge, fmt.Sprintf("Config.MaxStale is %v: use at least MaxAge, %v", c.MaxStale, c.MaxAge)},
	} {
		if check.broken {
			problems = append(problems, errors.New("secrets: "+check.problem))
		}
	}
	return c, errors.Join(problems...)
}

// Resolver finds the keys of destinations. It is safe for concurrent use and needs no closing.
type Resolver struct {
	cfg   Config
	turns chan struct{} // holds one token per call under way

	mu       sync.Mutex
	entries  map[string]*entry   // by ARN
	resolved map[string]resolved // by destination id
}

// resolved is what Resolve gave last for a destination.
type resolved struct {
	from  *registry.Destination
	rings []*keyring
	to    *registry.Destination
}

// New gives a Resolver that knows nothing yet. The error names every problem of the configuration.
func New(cfg Config) (*Resolver, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	return &Resolver{
		cfg: cfg, turns: make(chan struct{}, cfg.Concurrency), entries: map[string]*entry{}, resolved: map[string]resolved{},
	}, nil
}

// String keeps fmt from looking into the cache.
func (r *Resolver) String() string { return "secrets.Resolver" }

// GoString keeps fmt from looking into the cache.
func (r *Resolver) GoString() string { return r.String() }

// Resolve gives the destination with keys in place of ARNs: d itself where it names none, else a copy with all keys that lie under them, in
// order, each once. The copy is the same pointer as before as long as d is and no key has changed.
//
// Every error is an *Error and a fault of ours, which a person or time can mend: the delivery is to be tried later, never to be given up for it.
// It takes no longer than twice Config.CallTimeout, or until ctx ends.
func (r *Resolver) Resolve(ctx context.Context, d *registry.Destination) (*registry.Destination, error) {
	if d.Webhook == nil || !slices.ContainsFunc(d.Webhook.Secrets, isReference) {
		return d, nil
	}
	rings, err := r.rings(ctx, d.Webhook.Secrets)
	if err != nil {
		return nil, err
	}
	return r.copy(d, rings)
}

func isReference(s registry.Secret) bool { return s.ARN() != "" }

// rings gives the keys under every ARN among the secrets, nil for those that are keys themselves. What has to be asked for is asked for at once.
func (r *Resolver) rings(ctx context.Context, secrets []registry.Secret) ([]*keyring, error) {
	rings, waits := make([]*keyring, len(secrets)), make([]<-chan struct{}, len(secrets))
	var failed error
	for i, s := range secrets {
		if isReference(s) {
			var err error
			rings[i], waits[i], err = r.look(ctx, s.ARN())
			failed = cmp.Or(failed, err)
		}
	}
	for i, s := range secrets {
		for waits[i] != nil && failed == nil {
			select {
			case <-waits[i]:
				rings[i], waits[i], failed = r.look(ctx, s.ARN())
			case <-ctx.Done():
				failed = &Error{ARN: s.ARN(), Kind: ErrUnavailable, Detail: "the caller did not wait for the answer", cause: ctx.Err()}
			}
		}
	}
	return rings, failed
}

// copy gives the destination with these keys, the one that was given before if it still fits.
func (r *Resolver) copy(d *registry.Destination, rings []*keyring) (*registry.Destination, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if last := r.resolved[d.ID]; last.from == d && slices.Equal(last.rings, rings) {
		return last.to, nil
	}
	var keys []registry.Secret
	for i, s := range d.Webhook.Secrets {
		if rings[i] == nil {
			keys = appendNew(keys, s)
			continue
		}
		keys = appendNew(keys, rings[i].keys...)
	}
	if len(keys) > registry.MaxSecrets {
		return nil, &Error{Destination: d.ID, Kind: ErrTooMany, Detail: fmt.Sprintf("%d different ones", len(keys))}
	}
	if _, known := r.resolved[d.ID]; !known && len(r.resolved) >= r.cfg.MaxCached {
		clear(r.resolved)
	}
	to := d.WithSecrets(keys)
	r.resolved[d.ID] = resolved{d, rings, to}
	return to, nil
}

// appendNew appends the keys that are not there yet.
func appendNew(keys []registry.Secret, more ...registry.Secret) []registry.Secret {
	for _, s := range more {
		if !slices.ContainsFunc(keys, func(k registry.Secret) bool { return equal(k, s) }) {
			keys = append(keys, s)
		}
	}
	return keys
}

func equal(a, b registry.Secret) bool { return bytes.Equal(a.Key(), b.Key()) }
