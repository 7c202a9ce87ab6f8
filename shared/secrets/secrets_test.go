package secrets_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/smithy-go"

	"github.com/waybillhq/waybill/shared/registry"
	"github.com/waybillhq/waybill/shared/secrets"
)

func TestContent(t *testing.T) {
	one, two, three, four := whsec(1), whsec(2), whsec(3), whsec(4)
	for _, row := range []struct {
		name string
		text string
		keys []string
		err  error
	}{
		{"one secret", one, []string{one}, nil},
		{"with a line end", "\n" + one + "\r\n", []string{one}, nil},
		{"several", one + " " + two + "\n" + three, []string{one, two, three}, nil},
		{"the same twice", one + " " + two + " " + one, []string{one, two}, nil},
		{"as many as can sign", strings.Join([]string{four, three, two, one}, " "), []string{four, three, two, one}, nil},
		{"JSON as the console writes it", `{"new":"` + two + `","old":"` + one + `"}`, []string{two, one}, nil},
		{"JSON with white space", " {\"a\": \"" + two + " " + one + "\"}\n", []string{two, one}, nil},
		{"as Secrets Manager generates one", `{"whsec_":"` + strings.TrimPrefix(one, "whsec_") + `"}`, []string{one}, nil},
		{"generated, and another while it is rotated", `{"whsec_":"` + strings.TrimPrefix(one, "whsec_") + `","new":"` + two + `"}`, []string{one, two}, nil},
		{"generated with its beginning", `{"whsec_":"` + one + `"}`, nil, secrets.ErrContent},
		{"more than can sign", strings.Join([]string{four, three, two, one, whsec(5)}, " "), nil, secrets.ErrContent},
		{"nothing", " \n", nil, secrets.ErrContent},
		{"another text", "hunter2-hunter2", nil, secrets.ErrContent},
		{"a secret and another text", one + " hunter2-hunter2", nil, secrets.ErrContent},
		{"a short key", "whsec_aHVudGVyMg==", nil, secrets.ErrContent},
		{"JSON without values", `{}`, nil, secrets.ErrContent},
		{"JSON with another value", `{"key":"` + one + `","user":"hunter2-hunter2"}`, nil, secrets.ErrContent},
		{"JSON with a list", `{"secrets":["` + one + `"]}`, nil, secrets.ErrContent},
		{"JSON with a member twice", `{"key":"` + one + `","key":"` + two + `"}`, nil, secrets.ErrContent},
		{"half of JSON", `{"key":"` + one, nil, secrets.ErrContent},
		{"bytes", "bytes", nil, secrets.ErrContent},
	} {
		t.Run(row.name, func(t *testing.T) {
			for _, arn := range []string{secretARN, parameterARN} {
				r := resolver(t, newVault(map[string]string{arn: row.text}), secrets.Config{})
				d, err := r.Resolve(t.Context(), destination(t, "crm", arn))
				if !errors.Is(err, row.err) {
					t.Fatalf("got %v, want %v", err, row.err)
				}
				if row.err != nil {
					checkError(t, err, arn)
				} else if got := keys(d); !slices.Equal(got, row.keys) {
					t.Errorf("got %q, want %q", got, row.keys)
				}
			}
		})
	}
}

// checkError sees that an error names the ARN, says what to do, and shows nothing of what is stored.
func checkError(t *testing.T, err error, arn string) {
	t.Helper()
	var typed *secrets.Error
	if !errors.As(err, &typed) || typed.ARN != arn || !strings.Contains(err.Error(), arn) || !strings.Contains(err.Error(), "; ") || len(err.Error()) > 1000 {
		t.Errorf("error %v", err)
	}
	text := fmt.Sprintf("%v %+v %#v %s", err, err, err, slog.AnyValue(err))
	for _, part := range []string{strings.TrimPrefix(whsec(1), "whsec_"), "hunter2", "aHVudGVyMg", "key 0000"} {
		if strings.Contains(text, part) {
			t.Errorf("the error shows what is stored: %s", text)
		}
	}
}

func TestDestinationsWithoutReferencesStayAsTheyAre(t *testing.T) {
	v := newVault(nil)
	r := resolver(t, v, secrets.Config{})
	for _, d := range []*registry.Destination{destination(t, "crm", whsec(1), whsec(2)), {ID: "queue", Type: "sqs"}} {
		if got, err := r.Resolve(t.Context(), d); got != d || err != nil {
			t.Errorf("%s: got another destination, %v", d.ID, err)
		}
	}
	if v.count() != 0 {
		t.Errorf("%d calls", v.count())
	}
}

func TestKeysOfSeveralReferences(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := newVault(map[string]string{secretARN: whsec(1) + " " + whsec(2), parameterARN: whsec(2) + " " + whsec(3)})
		v.latency = func() time.Duration { return time.Second }
		r := resolver(t, v, secrets.Config{})
		began := time.Now()
		given := destination(t, "crm", parameterARN, whsec(4), secretARN)
		d, err := r.Resolve(t.Context(), given)
		if err != nil {
			t.Fatal(err)
		}
		if want := []string{whsec(2), whsec(3), whsec(4), whsec(1)}; !slices.Equal(keys(d), want) {
			t.Errorf("keys %q, want %q: in order, each once", keys(d), want)
		}
		if took := time.Since(began); took != time.Second {
			t.Errorf("took %v: the references are to be asked for at once", took)
		}
		if v.regions[secretARN] != "eu-west-1" || v.regions[parameterARN] != "ap-south-1" {
			t.Errorf("asked in the regions %v", v.regions)
		}
		if d.Webhook.URL != given.Webhook.URL || given.Webhook.Secrets[0].ARN() != parameterARN {
			t.Error("the copy has another URL, or the destination itself was changed")
		}
		_, err = r.Resolve(t.Context(), destination(t, "crm", parameterARN, whsec(4), secretARN, whsec(5)))
		if !errors.Is(err, secrets.ErrTooMany) || !strings.Contains(err.Error(), "crm") || !strings.Contains(err.Error(), "5") {
			t.Errorf("five keys: %v", err)
		}
		text := fmt.Sprintf("%v %+v %#v %v", r, r, r, d.Webhook.Secrets)
		for _, part := range []string{"key 0000", "whsec_", "107 101 121 32"} {
			if strings.Contains(text, part) {
				t.Errorf("keys show: %s", text)
			}
		}
	})
}

func TestTheCopyIsTheSameWhileNothingChanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := newVault(map[string]string{secretARN: whsec(1)})
		r := resolver(t, v, secrets.Config{})
		d := destination(t, "crm", secretARN)
		resolve := func() *registry.Destination {
			t.Helper()
			got, err := r.Resolve(t.Context(), d)
			if err != nil {
				t.Fatal(err)
			}
			return got
		}
		first := resolve()
		for range 10 {
			time.Sleep(2 * time.Minute)
			if resolve() != first {
				t.Fatal("another copy, although nothing changed")
			}
		}
		if n := v.count(); n < 4 || n > 6 {
			t.Errorf("%d calls in 20 minutes", n)
		}
		v.set(secretARN, whsec(2))
		time.Sleep(5 * time.Minute)
		second := resolve()
		if second == first || keys(second)[0] != whsec(2) {
			t.Error("the same copy, although the key has changed")
		}
		d = destination(t, "crm", secretARN)
		if resolve() == second {
			t.Error("the same copy, although the destination has changed")
		}
	})
}

func TestOneCallForAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := newVault(map[string]string{secretARN: whsec(1)})
		v.latency = func() time.Duration { return time.Second }
		r := resolver(t, v, secrets.Config{})
		d := destination(t, "crm", secretARN)
		all := func() (waited int) {
			var mu sync.Mutex
			var wg sync.WaitGroup
			for range 100 {
				wg.Go(func() {
					began := time.Now()
					if _, err := r.Resolve(t.Context(), d); err != nil {
						t.Error(err)
					}
					if time.Since(began) > 0 {
						mu.Lock()
						waited++
						mu.Unlock()
					}
				})
			}
			wg.Wait()
			return waited
		}
		if waited := all(); waited != 100 || v.count() != 1 {
			t.Errorf("at first %d waited for %d calls, want 100 and 1", waited, v.count())
		}
		time.Sleep(298500 * time.Millisecond) // past the latest time to refresh, before MaxAge
		if waited := all(); waited != 1 || v.count() != 2 {
			t.Errorf("at the refresh %d waited, %d calls; want 1, the others take what is there", waited, v.count())
		}
		time.Sleep(50 * time.Minute) // the environment was idle
		v.set(secretARN, whsec(2))
		if waited := all(); waited != 100 || v.count() != 3 {
			t.Errorf("after a pause %d waited, %d calls; want 100, because the key is old", waited, v.count())
		}
		if d, _ := r.Resolve(t.Context(), d); keys(d)[0] != whsec(2) {
			t.Error("an old key")
		}
	})
}

// TestAgeCountsFromTheQuestion: the answer to a slow call may be as old as the call.
func TestAgeCountsFromTheQuestion(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := newVault(map[string]string{secretARN: whsec(1)})
		v.latency = func() time.Duration { return 1900 * time.Millisecond } // the key is read in the middle
		r := resolver(t, v, secrets.Config{})
		d := destination(t, "crm", secretARN)
		time.AfterFunc(time.Second, func() { v.set(secretARN, whsec(2)) })
		if _, err := r.Resolve(t.Context(), d); err != nil {
			t.Fatal(err)
		}
		time.Sleep(298 * time.Second) // 299.9 s after the question
		var wg sync.WaitGroup
		wg.Go(func() { _, _ = r.Resolve(t.Context(), d) })
		time.Sleep(1500 * time.Millisecond) // while that is under way
		if got, err := r.Resolve(t.Context(), d); err != nil || keys(got)[0] != whsec(2) {
			t.Errorf("a key signs that was replaced more than five minutes ago: %v", err)
		}
		wg.Wait()
	})
}

func TestOutage(t *testing.T) {
	for _, row := range []struct {
		name string
		down func(*vault)
		up   func(*vault)
	}{
		{"unreachable", func(v *vault) { v.fail(errors.New("dial tcp: connection refused")) }, func(v *vault) { v.fail(nil) }},
		{"throttled", func(v *vault) { v.fail(refusal("ThrottlingException")) }, func(v *vault) { v.fail(nil) }},
		{"broken inside", func(v *vault) { v.fail(refusal("InternalServiceError")) }, func(v *vault) { v.fail(nil) }},
		{"silent", func(v *vault) { v.latency = func() time.Duration { return -1 } }, func(v *vault) { v.latency = func() time.Duration { return 0 } }},
	} {
		t.Run(row.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				v := newVault(map[string]string{secretARN: whsec(1)})
				var stale []secrets.Stale
				r := resolver(t, v, secrets.Config{OnStale: func(s secrets.Stale) { stale = append(stale, s) }})
				d := destination(t, "crm", secretARN)
				if _, err := r.Resolve(t.Context(), d); err != nil {
					t.Fatal(err)
				}
				given := time.Now()
				row.down(v)
				v.set(secretARN, whsec(2))
				for time.Since(given) < 58*time.Minute {
					time.Sleep(time.Second)
					if got, err := r.Resolve(t.Context(), d); err != nil || keys(got)[0] != whsec(1) {
						t.Fatalf("after %v: %v", time.Since(given), err)
					}
				}
				if len(stale) == 0 || len(stale) > 4*60 || v.count() != len(stale)+1 {
					t.Errorf("%d warnings, %d calls; want one warning a failed call, and no more than four calls a minute", len(stale), v.count())
				}
				if last := stale[len(stale)-1]; !last.Serves || last.Age < 57*time.Minute || last.ARN != secretARN || !errors.Is(last.Err, secrets.ErrUnavailable) {
					t.Errorf("the last warning is %+v", last)
				}
				time.Sleep(time.Until(given.Add(time.Hour)))
				_, err := r.Resolve(t.Context(), d)
				if !errors.Is(err, secrets.ErrUnavailable) {
					t.Errorf("after an hour: %v", err)
				}
				checkError(t, err, secretARN)
				row.up(v)
				time.Sleep(15 * time.Second)
				if got, err := r.Resolve(t.Context(), d); err != nil || keys(got)[0] != whsec(2) {
					t.Errorf("after the outage: %v", err)
				}
				if last := stale[len(stale)-1]; last.Serves {
					t.Errorf("after an hour the warning is %+v", last)
				}
			})
		})
	}
}

func TestAnOutageDelaysOnlyTheOneWhoTries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := newVault(map[string]string{secretARN: whsec(1)})
		r := resolver(t, v, secrets.Config{})
		d := destination(t, "crm", secretARN)
		if _, err := r.Resolve(t.Context(), d); err != nil {
			t.Fatal(err)
		}
		time.Sleep(4 * time.Minute)
		v.latency = func() time.Duration { return -1 }
		var waited atomic.Int64
		resolve := func() {
			began := time.Now()
			if _, err := r.Resolve(t.Context(), d); err != nil {
				t.Error(err)
			}
			waited.Add(int64(time.Since(began)))
		}
		var wg sync.WaitGroup
		for began := time.Now(); time.Since(began) < 17*time.Minute; time.Sleep(time.Second) {
			for range 5 {
				wg.Go(resolve)
			}
			synctest.Wait()
		}
		wg.Wait()
		if tries, total := v.count()-1, time.Duration(waited.Load()); tries < 50 || total.Seconds() != float64(2*tries) {
			t.Errorf("all waited %v together for %d tries of 2s", total, tries)
		}
	})
}

// TestAnswersAreBelieved: a service that answers is no outage.
func TestAnswersAreBelieved(t *testing.T) {
	for _, row := range []struct {
		name   string
		become func(*vault)
		err    error
		detail string
	}{
		{"deleted", func(v *vault) { v.set(secretARN, "") }, secrets.ErrNotFound, "ResourceNotFoundException"},
		{"scheduled for deletion", func(v *vault) { v.fail(refusal("InvalidRequestException")) }, secrets.ErrNotFound, "InvalidRequestException"},
		{"denied", func(v *vault) { v.fail(refusal("AccessDeniedException")) }, secrets.ErrDenied, "AccessDeniedException: who may not do what"},
		{"denied by KMS", func(v *vault) { v.fail(refusal("DecryptionFailure")) }, secrets.ErrDenied, "DecryptionFailure"},
		{"other content", func(v *vault) { v.set(secretARN, "hunter2") }, secrets.ErrContent, "whsec_"},
	} {
		t.Run(row.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				v := newVault(map[string]string{secretARN: whsec(1)})
				var stale []secrets.Stale
				r := resolver(t, v, secrets.Config{OnStale: func(s secrets.Stale) { stale = append(stale, s) }})
				d := destination(t, "crm", secretARN)
				if _, err := r.Resolve(t.Context(), d); err != nil {
					t.Fatal(err)
				}
				row.become(v)
				time.Sleep(5 * time.Minute)
				for range 14 { // a hot destination
					_, err := r.Resolve(t.Context(), d)
					if !errors.Is(err, row.err) || !strings.Contains(err.Error(), row.detail) {
						t.Fatalf("got %v", err)
					}
					checkError(t, err, secretARN)
					time.Sleep(time.Second)
				}
				if v.count() != 2 || len(stale) != 1 || stale[0].Serves {
					t.Errorf("%d calls, want 2; warnings %+v", v.count(), stale)
				}
				v.fail(errors.New("connection refused")) // what was good before the answer must not come back
				time.Sleep(15 * time.Second)
				if _, err := r.Resolve(t.Context(), d); !errors.Is(err, secrets.ErrUnavailable) || len(stale) != 1 {
					t.Errorf("got %v; warnings %+v: there is nothing that could be stale", err, stale)
				}
				v.fail(nil)
				v.set(secretARN, whsec(2))
				time.Sleep(15 * time.Second)
				if got, err := r.Resolve(t.Context(), d); err != nil || keys(got)[0] != whsec(2) {
					t.Errorf("after it was mended: %v", err)
				}
			})
		})
	}
}

func TestCallsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := newVault(nil)
		v.latency = func() time.Duration { return -1 }
		r := resolver(t, v, secrets.Config{})
		var wg sync.WaitGroup
		for i := range 100 {
			wg.Go(func() {
				began := time.Now()
				_, err := r.Resolve(t.Context(), destination(t, "crm", fmt.Sprintf("arn:aws:ssm:eu-west-1:123456789012:parameter/hook/%d", i)))
				if took := time.Since(began); !errors.Is(err, secrets.ErrUnavailable) || took < 2*time.Second || took > 4*time.Second {
					t.Errorf("%v after %v", err, took)
				}
			})
		}
		wg.Wait()
		if v.most != 8 {
			t.Errorf("%d calls at once, want 8", v.most)
		}
	})
}

func TestACallerMayLeave(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := newVault(map[string]string{secretARN: whsec(1)})
		v.latency = func() time.Duration { return time.Second }
		r := resolver(t, v, secrets.Config{})
		d := destination(t, "crm", secretARN)
		ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
		defer cancel()
		var other sync.WaitGroup
		other.Go(func() {
			time.Sleep(100 * time.Millisecond)
			if _, err := r.Resolve(t.Context(), d); err != nil {
				t.Error(err)
			}
		})
		if _, err := r.Resolve(ctx, d); !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, secrets.ErrUnavailable) {
			t.Errorf("got %v", err)
		}
		other.Wait()
		if v.count() != 1 {
			t.Errorf("%d calls, want 1 that goes on without its first caller", v.count())
		}
	})
}

func TestAClockThatIsSetBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := newVault(map[string]string{secretARN: whsec(1)})
		var offset time.Duration
		r := resolver(t, v, secrets.Config{Now: func() time.Time { return time.Now().Add(offset) }})
		d := destination(t, "crm", secretARN)
		if _, err := r.Resolve(t.Context(), d); err != nil {
			t.Fatal(err)
		}
		offset = -24 * time.Hour
		v.set(secretARN, whsec(2))
		if got, err := r.Resolve(t.Context(), d); err != nil || keys(got)[0] != whsec(2) {
			t.Errorf("a key that was given in the future is trusted: %v", err)
		}
	})
}

func TestTheCacheIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		values := map[string]string{}
		for i := range 100 {
			values[fmt.Sprintf("arn:aws:ssm:eu-west-1:123456789012:parameter/hook/%d", i)] = whsec(i)
		}
		v := newVault(values)
		r := resolver(t, v, secrets.Config{MaxCached: 10})
		for arn, text := range values {
			got, err := r.Resolve(t.Context(), destination(t, "d"+arn[len(arn)-1:], arn))
			if err != nil || keys(got)[0] != text {
				t.Fatal(err)
			}
		}
		before := v.count()
		for arn := range values {
			if _, err := r.Resolve(t.Context(), destination(t, "crm", arn)); err != nil {
				t.Fatal(err)
			}
		}
		if again := v.count() - before; again < 90 || again == 0 {
			t.Errorf("%d of 100 were asked for again, want 90 or more", again)
		}
	})
}

func TestConfigIsChecked(t *testing.T) {
	_, err := secrets.New(secrets.Config{MaxAge: time.Second, MaxStale: time.Millisecond, RetryAfter: 1, Concurrency: -1})
	for _, want := range []string{"SecretsManager", "SSM", "MaxAge", "MaxStale", "RetryAfter", "Concurrency"} {
		if err == nil || !strings.Contains(err.Error(), "Config."+want) {
			t.Errorf("%v does not name %s", err, want)
		}
	}
}

// TestUnreadableAnswersAreNotQuoted: the SDK's own error holds the beginning of an answer that it could not read.
func TestUnreadableAnswersAreNotQuoted(t *testing.T) {
	v := newVault(nil)
	v.err = &smithy.OperationError{Err: &smithy.DeserializationError{Err: errors.New("near " + whsec(1)), Snapshot: []byte(whsec(1))}}
	_, err := resolver(t, v, secrets.Config{}).Resolve(t.Context(), destination(t, "crm", secretARN))
	if !errors.Is(err, secrets.ErrUnavailable) {
		t.Errorf("got %v", err)
	}
	checkError(t, err, secretARN)
}

// FuzzContent stores anything. Either it gives keys that can sign, or an error that repeats nothing of it.
func FuzzContent(f *testing.F) {
	for _, seed := range []string{whsec(1) + " " + whsec(2), `{"hunter2":"` + whsec(1) + `"}`, "hunter2", `{"a":{"hunter2":1}}`, `{"hunter2`, "whsec_hunter2=", "\xff"} {
		f.Add(seed)
	}
	d := destination(f, "crm", parameterARN)
	f.Fuzz(func(t *testing.T, text string) {
		v := newVault(map[string]string{parameterARN: text})
		v.latency = func() time.Duration { return 0 }
		got, err := resolver(t, v, secrets.Config{}).Resolve(t.Context(), d)
		if err != nil {
			if !errors.Is(err, secrets.ErrContent) {
				t.Errorf("got %v", err)
			}
			checkError(t, err, parameterARN)
			return
		}
		all := keys(got)
		if slices.Sort(all); len(all) == 0 || len(all) > registry.MaxSecrets || len(slices.Compact(all)) != len(got.Webhook.Secrets) {
			t.Errorf("%d keys, or one twice", len(got.Webhook.Secrets))
		}
	})
}
