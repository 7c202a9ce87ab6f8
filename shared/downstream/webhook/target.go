package webhook

import (
	"bytes"
	"net/url"
	"sync"

	"github.com/waybillhq/waybill/shared/downstream"
	"github.com/waybillhq/waybill/shared/registry"
	"github.com/waybillhq/waybill/shared/signing"
)

// target is what all requests to a destination have in common. It is never
// changed.
type target struct {
	url  *url.URL
	keys []signing.Key

	text    string // the URL as it was parsed
	secrets [][]byte
}

// maxTargets bounds what is remembered. Beyond it everything is forgotten once:
// destinations that are not in use any more are not kept for ever.
const maxTargets = 4096

// targets remembers the target of each destination: parsing a URL and keying an
// HMAC cost more than signing a small body. It is safe for concurrent use.
type targets struct {
	mu    sync.Mutex
	known map[*registry.Webhook]*target
}

// of gives the target of a destination. The error is a *refusal.
func (t *targets) of(hook *registry.Webhook) (*target, error) {
	t.mu.Lock()
	known := t.known[hook]
	t.mu.Unlock()
	if known.fits(hook) {
		return known, nil
	}
	made, err := newTarget(hook)
	if err != nil {
		return nil, err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.known) >= maxTargets || t.known == nil {
		t.known = map[*registry.Webhook]*target{}
	}
	t.known[hook] = made
	return made, nil
}

// fits tells whether the destination is still as it was.
func (t *target) fits(hook *registry.Webhook) bool {
	if t == nil || t.text != hook.URL || len(t.secrets) != len(hook.Secrets) {
		return false
	}
	for i, s := range hook.Secrets {
		if !bytes.Equal(t.secrets[i], s.Key()) {
			return false
		}
	}
	return true
}

func newTarget(hook *registry.Webhook) (*target, error) {
	address, err := parseURL(hook.URL)
	if err != nil {
		return nil, err
	}
	// An unsigned request is never sent.
	if len(hook.Secrets) == 0 {
		return nil, refuse(downstream.ReasonBadConfiguration, "the destination has no signing secret")
	}
	t := &target{url: address, text: hook.URL}
	for _, secret := range hook.Secrets {
		raw := bytes.Clone(secret.Key())
		key, err := signing.SharedKey(raw)
		if err != nil {
			return nil, refuse(downstream.ReasonBadConfiguration, err.Error())
		}
		t.keys, t.secrets = append(t.keys, key), append(t.secrets, raw)
	}
	return t, nil
}

func parseURL(text string) (*url.URL, error) {
	address, err := url.Parse(text)
	switch {
	case err != nil:
		return nil, refuse(downstream.ReasonBadConfiguration, "the URL cannot be parsed")
	case address.Scheme != "https" && address.Scheme != "http":
		return nil, refuse(downstream.ReasonBadConfiguration, "the URL's scheme is not https or http")
	case address.Hostname() == "":
		return nil, refuse(downstream.ReasonBadConfiguration, "the URL has no host")
	case address.User != nil:
		return nil, refuse(downstream.ReasonBadConfiguration, "the URL contains credentials; set an authorization header instead")
	}
	return address, nil
}
