package secrets_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/waybillhq/waybill/shared/secrets"
)

// TestKeysAreNeverTooOld lets many deliveries sign through days of rotations, outages, slow calls and pauses. Whatever happens, a key that
// signs was the stored one at some time within MaxAge, or within MaxStale if the service could not be reached in between.
func TestKeysAreNeverTooOld(t *testing.T) {
	const (
		maxAge, maxStale = 5 * time.Minute, time.Hour
		length           = 24 * time.Hour
	)
	for seed := range uint64(8) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				random := rand.New(rand.NewPCG(seed, 1))
				v := newVault(map[string]string{secretARN: whsec(0)})
				slow := rand.New(rand.NewPCG(seed, 2))
				v.latency = func() time.Duration { return time.Duration(slow.Int64N(int64(3 * time.Second))) } // some exceed the deadline
				r := resolver(t, v, secrets.Config{MaxAge: maxAge, MaxStale: maxStale})
				d := destination(t, "crm", secretARN)

				var mu sync.Mutex
				replaced := map[string]time.Time{} // when a key was last the stored one; zero: it still is
				began := time.Now()
				var wg sync.WaitGroup
				wg.Go(func() { // a person rotates
					for n := 1; time.Since(began) < length; n++ {
						time.Sleep(time.Duration(random.Int64N(int64(time.Hour))))
						mu.Lock()
						replaced[whsec(n-1)] = time.Now()
						v.set(secretARN, whsec(n))
						mu.Unlock()
					}
				})
				wg.Go(func() { // the service comes and goes
					weather := rand.New(rand.NewPCG(seed, 3))
					for time.Since(began) < length {
						time.Sleep(time.Duration(weather.Int64N(int64(3 * time.Hour))))
						v.fail(errors.New("connection reset"))
						time.Sleep(time.Duration(weather.Int64N(int64(2 * time.Hour))))
						v.fail(nil)
					}
				})
				for worker := range 4 {
					pace := rand.New(rand.NewPCG(seed, uint64(10+worker)))
					wg.Go(func() {
						for time.Since(began) < length {
							pause := 10 * time.Second
							if pace.IntN(200) == 0 {
								pause = 2 * time.Hour
							}
							time.Sleep(time.Duration(pace.Int64N(int64(pause))))
							asked := time.Now()
							got, err := r.Resolve(t.Context(), d)
							if took := time.Since(asked); took > 4*time.Second {
								t.Errorf("took %v", took)
							}
							mu.Lock()
							if err != nil {
								if !errors.Is(err, secrets.ErrUnavailable) || !v.troubled() {
									t.Errorf("got %v", err)
								}
							} else if at := replaced[keys(got)[0]]; !at.IsZero() {
								limit := maxAge
								if v.troubled() {
									limit = maxStale
								}
								if age := time.Since(at); age > limit {
									t.Errorf("after %v a key signs that was replaced %v ago, with a limit of %v", time.Since(began), age, limit)
								}
							}
							mu.Unlock()
						}
					})
				}
				wg.Wait()
				// Four workers could make thousands of calls; one a refresh or a failure is what the cache allows.
				if most := int(length/(15*time.Second)) + int(length/(3*time.Minute)); v.count() > most {
					t.Errorf("%d calls, more than %d", v.count(), most)
				}
			})
		})
	}
}
