package delivery_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/waybillhq/waybill/events"
	"github.com/waybillhq/waybill/shared/delivery"
)

// BenchmarkMessage encodes and decodes a delivery message of 1 KiB; json-map is what encoding/json takes for the same text into a map.
func BenchmarkMessage(b *testing.B) {
	m := delivery.Message{
		Delivery: delivery.NewID("default", "/shop", "9b2f7c1e-0c55-4a11-8f3e-3f0d8d1c7a10", "crm"), Destination: "crm", Attempt: 1, AcceptedAt: time.Now(),
		Event: events.Event{
			ID: "9b2f7c1e-0c55-4a11-8f3e-3f0d8d1c7a10", Source: "/shop", Type: "order.created", Time: "2026-11-22T09:59:58.123Z", DataContentType: "application/json",
			Extensions: map[string]string{"tenant": "default"},
			Data:       []byte(`{"items":[` + strings.TrimSuffix(strings.Repeat(`{"sku":"kettle-001","quantity":1,"price":19.90,"note":"gift"},`, 15), ",") + `]}`),
		},
	}
	body, err := m.Encode(delivery.MaxBytes)
	if err != nil {
		b.Fatal(err)
	}
	for name, work := range map[string]func() error{
		"encode":   func() error { _, err := m.Encode(delivery.MaxBytes); return err },
		"decode":   func() error { _, err := delivery.Decode(body); return err },
		"json-map": func() error { var m map[string]any; return json.Unmarshal([]byte(body), &m) },
	} {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(body)))
			b.ReportAllocs()
			for b.Loop() {
				if err := work(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
