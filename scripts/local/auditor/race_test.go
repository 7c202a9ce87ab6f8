package auditor

import (
	"testing"

	"github.com/waybillhq/waybill/shared/awslocal/sqs"
	"github.com/waybillhq/waybill/shared/delivery"
	"github.com/waybillhq/waybill/shared/ledger"
	"github.com/waybillhq/waybill/shared/topology"
)

// The queues are read between two readings of the ledger. Whatever a delivery does in between, it is found.
func TestFindsWhatMovesWhileItLooks(t *testing.T) {
	const destination = "fine"
	id := delivery.NewID("default", "/shop", "1", destination)
	waybill := func(state ledger.State, epoch, attempt int) *row {
		return &row{ledger.Item{Delivery: id, State: state, Epoch: epoch, Attempt: attempt, Owner: "o"}}
	}
	type at struct {
		queue          topology.QueueName
		epoch, attempt int
	}
	on := func(epoch, attempt int) []at { return []at{{topology.Deliveries, epoch, attempt}} }
	for name, c := range map[string]struct {
		before *row
		held   []at
		after  *row
		want   State
	}{
		"delivered after the queues were read":        {nil, on(0, 1), waybill(ledger.Delivered, 0, 1), Delivered},
		"delivered before the queues were read":       {nil, nil, waybill(ledger.Delivered, 0, 1), Delivered},
		"claimed, failed, successor sent after":       {waybill(ledger.Claimed, 0, 1), on(0, 1), waybill(ledger.Waiting, 0, 1), Queued},
		"the same, and the claim too":                 {nil, on(0, 1), waybill(ledger.Waiting, 0, 1), Queued},
		"successor made, tried and failed":            {waybill(ledger.Waiting, 0, 1), on(0, 2), waybill(ledger.Waiting, 0, 2), Waiting},
		"dead after the queues were read":             {waybill(ledger.Waiting, 0, 1), on(0, 2), waybill(ledger.Dead, 0, 2), Waiting},
		"dead before the queues were read":            {waybill(ledger.Claimed, 0, 1), []at{{topology.DeliveriesDeadLetter, 1, 1}}, waybill(ledger.Dead, 0, 1), Dead},
		"deleted while it looks, found before":        {waybill(ledger.Delivered, 0, 1), nil, nil, Delivered},
		"nothing moved, nothing is there":             {waybill(ledger.Waiting, 0, 1), nil, waybill(ledger.Waiting, 0, 1), Lost},
		"it went on after what was there was deleted": {waybill(ledger.Claimed, 0, 1), nil, waybill(ledger.Waiting, 0, 1), Lost},
	} {
		t.Run(name, func(t *testing.T) {
			a, err := New(Config{Destinations: []byte(`{"destinations": [{"id": "fine", "tenant": "*"}]}`), ReceiverLog: true})
			if err != nil {
				t.Fatal(err)
			}
			a.OnSend(string(topology.Ingress), sqs.Message{MessageID: "m", Body: `{"specversion":"1.0","id":"1","source":"/shop","type":"t"}`})
			known := a.byID[id]
			known.sent, known.received = true, true
			held := map[string][]sqs.Held{}
			for _, m := range c.held {
				message := delivery.Message{Delivery: id, Destination: destination, Epoch: m.epoch, Attempt: m.attempt}
				body, err := message.Encode(delivery.MaxBytes)
				if err != nil {
					t.Fatal(err)
				}
				held[string(m.queue)] = append(held[string(m.queue)], sqs.Held{Message: sqs.Message{Body: body}})
			}
			reading := func(r *row) reading {
				if r == nil {
					return reading{}
				}
				return reading{rows: map[delivery.ID]*row{id: r}}
			}
			b := a.judge(a.accepted, a.deliveries, reading(c.before), held, reading(c.after))
			if len(b.Rows) != 1 || b.Rows[0].State != c.want {
				t.Errorf("got %+v, want %s", b.Rows, c.want)
			}
		})
	}
}
