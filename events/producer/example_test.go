package producer_test

import (
	"errors"
	"fmt"
	"time"

	"github.com/waybillhq/waybill/events"
	"github.com/waybillhq/waybill/events/producer"
)

// One event, from what happened to what SendMessage takes.
func Example() {
	order := struct {
		Order int     `json:"order"`
		Total float64 `json:"total"`
	}{77, 19.90}
	e, err := producer.New("/shop/orders", "order.paid",
		producer.ID("order-77-paid"),
		producer.Tenant("acme"),
		producer.At(time.Date(2026, time.November, 22, 10, 0, 0, 0, time.UTC)),
		producer.JSON(order),
	)
	if err != nil {
		fmt.Println(err)
		return
	}
	m, err := producer.NewMessage(e)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println("MessageGroupId:", m.GroupID)
	fmt.Println("MessageBody:", m.Body)
	// Output:
	// MessageGroupId: acme
	// MessageBody: {"specversion":"1.0","id":"order-77-paid","source":"/shop/orders","type":"order.paid","time":"2026-11-22T10:00:00Z","datacontenttype":"application/json","tenant":"acme","data":{"order":77,"total":19.9}}
}

// Many events: each batch is one SendMessageBatch. With the AWS SDK an entry becomes
//
//	types.SendMessageBatchRequestEntry{Id: &entry.ID, MessageBody: &entry.Body, MessageGroupId: &entry.GroupID}
func ExampleBatches() {
	var list []events.Event
	for n := range 24 {
		e, err := producer.New("/shop/stock", "stock.counted", producer.ID(fmt.Sprintf("shelf-%d", n)), producer.JSON(n))
		if err != nil {
			fmt.Println(err)
			return
		}
		list = append(list, e)
	}
	batches, err := producer.Batches(list)
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, batch := range batches {
		fmt.Printf("%d entries, %s to %s\n", len(batch), batch[0].ID, batch[len(batch)-1].ID)
	}
	// Output:
	// 10 entries, 0 to 9
	// 10 entries, 10 to 19
	// 4 entries, 20 to 23
}

// What Waybill would refuse is found before it is sent, with the event, the field and the fix.
func ExampleNew_refused() {
	_, err := producer.New("shop orders", "order.created", producer.ID("A-1001"))
	fmt.Println(err)
	var invalid *events.InvalidError
	if errors.As(err, &invalid) {
		fmt.Println(invalid.Code, invalid.Field)
	}
	// Output:
	// event "A-1001": invalid event (cloudevents): bad-cloudevent: source is not a URI-reference: byte 4 may not stand in one: percent-encode what RFC 3986 does not allow in a URI-reference
	// bad-cloudevent source
}

// An event can also be written as a plain value; NewMessage and Batches check it all the same.
func ExampleNewMessage() {
	_, err := producer.NewMessage(events.Event{ID: "A-1001", Source: "/shop/orders"})
	fmt.Println(err)
	// Output: event "A-1001": invalid event (cloudevents): bad-cloudevent: type is missing: add the kind of event, such as "com.example.order.created"
}
