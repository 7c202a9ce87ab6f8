package events_test

import (
	"errors"
	"fmt"

	"github.com/waybillhq/waybill/events"
)

// A message from the queue becomes events; the payload keeps its bytes.
func ExampleDecode() {
	decoded, err := events.Decode(events.Input{
		MessageID: "6f1c0c2e",
		QueueARN:  "arn:aws:sqs:eu-west-1:000000000000:ingress",
		GroupID:   "acme",
		Body:      `{"specversion":"1.0","id":"A-1001","source":"/shop/orders","type":"order.created","data":{"total": 19.90}}`,
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, e := range decoded.Events {
		fmt.Println(decoded.Form, e.ID, e.Type, e.Tenant(), string(e.Data))
	}
	// Output: cloudevents A-1001 order.created acme {"total": 19.90}
}

// Plain JSON needs no envelope; event-id makes it count once however often it is sent.
func ExampleDecode_plainJSON() {
	decoded, err := events.Decode(events.Input{
		MessageID: "6f1c0c2e",
		QueueARN:  "arn:aws:sqs:eu-west-1:000000000000:ingress",
		Body:      `{"order": 77}`,
		Attributes: map[string]events.Attribute{
			"event-id":   {DataType: "String", StringValue: "order-77-paid"},
			"event-type": {DataType: "String", StringValue: "order.paid"},
		},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	for name, value := range decoded.Events[0].Attributes() {
		fmt.Printf("%s: %s\n", name, value)
	}
	// Output:
	// specversion: 1.0
	// id: order-77-paid
	// source: arn:aws:sqs:eu-west-1:000000000000:ingress
	// type: order.paid
	// datacontenttype: application/json
	// tenant: default
}

// A refusal names the field and the fix, for people and for programs.
func ExampleInvalidError() {
	_, err := events.Decode(events.Input{Body: `{"specversion":"1.0","id":"A-1001","type":"order.created"}`})
	fmt.Println(err)
	var invalid *events.InvalidError
	if errors.As(err, &invalid) {
		fmt.Println(invalid.Code, invalid.Field)
	}
	// Output:
	// invalid event (cloudevents): bad-cloudevent: source is missing: add a URI-reference that names the producer, such as "/orders"
	// bad-cloudevent source
}

// A producer in Go prints what it sends, and learns before sending that it will be accepted.
func ExampleEvent_AppendJSON() {
	e := events.Event{ID: "A-1001", Source: "/shop/orders", Type: "order.created", DataContentType: "application/json", Data: []byte(`{"total": 19.90}`)}
	body, err := e.AppendJSON(nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(string(body))
	// Output: {"specversion":"1.0","id":"A-1001","source":"/shop/orders","type":"order.created","datacontenttype":"application/json","data":{"total": 19.90}}
}
