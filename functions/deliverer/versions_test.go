package deliverer_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/waybillhq/waybill/shared/batch"
	"github.com/waybillhq/waybill/shared/delivery"
	"github.com/waybillhq/waybill/shared/delivery/samples"
	"github.com/waybillhq/waybill/shared/ledger"
	"github.com/waybillhq/waybill/shared/outcome"
	"github.com/waybillhq/waybill/shared/queue"
)

// Messages of every version that this release knows are worked on to their end; those of the next one are put off and nothing else is done, so that they are
// there when the release that wrote them is back.
func TestMessagesOfEveryVersion(t *testing.T) {
	for _, s := range samples.All() {
		t.Run(s.Name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				time.Sleep(time.Until(time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC))) // what was due is due
				w := newWorld(t)
				ctx, cancel := context.WithTimeout(t.Context(), 58*time.Second)
				defer cancel()
				got := w.d.Deliver(ctx, []batch.Record{{MessageID: "a", Body: s.Body, ReceiveCount: 1}})[0]
				sent, letters := len(w.deliveries.sent), len(w.deadLetters.sent)
				rows := w.store.Harness().Rows(t)
				if s.Version > delivery.Version {
					if o := want(t, got, outcome.Deferred); o.Delay <= 0 || o.Delay > queue.MaxDelay {
						t.Errorf("put off by %v", o.Delay)
					}
					if len(rows)+sent+letters+len(w.calls)+len(w.room.held) != 0 {
						t.Errorf("%d rows, %d messages, %d dead letters, %d calls", len(rows), sent, letters, len(w.calls))
					}
					return
				}
				want(t, got, outcome.Acknowledged)
				m, err := delivery.Decode(s.Body)
				if err != nil {
					t.Fatal(err)
				}
				state, calls := ledger.Delivered, 1
				if strings.HasSuffix(s.Name, "-outcome") { // the attempt was made; the ledger learns of it
					state, calls = ledger.Dead, 0
				}
				if row := rows[m.Delivery]; row.State != state || len(w.calls) != calls || sent+letters != 0 {
					t.Errorf("%d calls, %d messages, %d dead letters, waybill %+v", len(w.calls), sent, letters, row)
				}
				if calls == 1 && fmt.Sprint(*w.calls[0].Event) != fmt.Sprint(m.Event) {
					t.Errorf("delivered %+v, want %+v", *w.calls[0].Event, m.Event)
				}
			})
		})
	}
}
