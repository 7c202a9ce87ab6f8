package webhook

import (
	"fmt"
	"testing"

	"github.com/waybillhq/waybill/shared/registry"
)

func hookOf(t *testing.T, url, secret string) *registry.Webhook {
	t.Helper()
	document := fmt.Sprintf(`{"destinations":[{"id":"a","tenant":"*","type":"webhook","webhook":{"url":%q,"secrets":[%q]}}]}`, url, secret)
	set, err := registry.Parse([]byte(document), registry.Options{})
	if err != nil {
		t.Fatal(err)
	}
	d, _ := set.Lookup("a")
	return d.Webhook
}

// What is prepared once must not outlive what it was prepared from.
func TestTargetsFollowTheirDestination(t *testing.T) {
	const one, other = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"
	var known targets
	of := func(hook *registry.Webhook) *target {
		t.Helper()
		made, err := known.of(hook)
		if err != nil {
			t.Fatal(err)
		}
		return made
	}
	hook := hookOf(t, "http://127.0.0.1/a", one)
	first := of(hook)
	if of(hook) != first {
		t.Error("the same destination is prepared twice")
	}
	changed := *hookOf(t, "http://127.0.0.1/b", one)
	hook.URL = changed.URL
	if second := of(hook); second == first || second.url.Path != "/b" {
		t.Error("a new URL is not used")
	}
	second := of(hook)
	hook.Secrets = hookOf(t, "http://127.0.0.1/b", other).Secrets
	if third := of(hook); third == second || string(third.secrets[0]) != string(hook.Secrets[0].Key()) {
		t.Error("a new key is not used")
	}
	third := of(hook)
	hook.Secrets = append(hook.Secrets, hookOf(t, "http://127.0.0.1/b", one).Secrets...)
	if fourth := of(hook); fourth == third || len(fourth.keys) != 2 {
		t.Error("an added key is not used")
	}
	hook.Secrets = nil
	if _, err := known.of(hook); err == nil {
		t.Error("a destination without keys is not refused")
	}
}

func TestTargetsAreBounded(t *testing.T) {
	var known targets
	hook := hookOf(t, "http://127.0.0.1/a", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
	for range 2*maxTargets + 1 {
		one := *hook
		if _, err := known.of(&one); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(known.known); n == 0 || n > maxTargets {
		t.Errorf("%d destinations are remembered, at most %d should be", n, maxTargets)
	}
}
