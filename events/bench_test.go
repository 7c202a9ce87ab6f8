package events_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/waybillhq/waybill/events"
)

// oneKilobyte is a structured CloudEvent of 1 KiB with the shape of an ordinary order.
func oneKilobyte() string {
	var b strings.Builder
	b.WriteString(`{"specversion":"1.0","id":"9b2f7c1e-0c55-4a11-8f3e-3f0d8d1c7a10","source":"/shop/orders","type":"order.created",` +
		`"time":"2026-11-22T09:59:58.123Z","datacontenttype":"application/json","tenant":"acme","data":{"items":[`)
	for i := 0; b.Len() < 940; i++ {
		fmt.Fprintf(&b, `{"sku":"kettle-%03d","quantity":%d,"price":19.90,"note":"gift"},`, i, i)
	}
	b.WriteString(`{}],"pad":"`)
	b.WriteString(strings.Repeat("x", 1024-b.Len()-3))
	b.WriteString(`"}}`)
	return b.String()
}

// BenchmarkDecode decodes a structured event of 1 KiB; json-map is the price of json.Unmarshal into a map, for comparison.
func BenchmarkDecode(b *testing.B) {
	body := oneKilobyte()
	b.Run("structured", func(b *testing.B) {
		b.SetBytes(int64(len(body)))
		b.ReportAllocs()
		for b.Loop() {
			if _, err := events.Decode(events.Input{Body: body}); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("json-map", func(b *testing.B) {
		b.SetBytes(int64(len(body)))
		b.ReportAllocs()
		for b.Loop() {
			var m map[string]any
			if err := json.Unmarshal([]byte(body), &m); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func BenchmarkAppendJSON(b *testing.B) {
	decoded, err := events.Decode(events.Input{Body: oneKilobyte()})
	if err != nil {
		b.Fatal(err)
	}
	e := &decoded.Events[0]
	var buf []byte
	b.ReportAllocs()
	for b.Loop() {
		if buf, err = e.AppendJSON(buf[:0]); err != nil {
			b.Fatal(err)
		}
	}
}

// TestDecodeAllocations keeps Decode cheap: it runs for each record, and allocations do not depend on the machine.
func TestDecodeAllocations(t *testing.T) {
	body := oneKilobyte()
	if len(body) != 1024 {
		t.Fatalf("the body has %d bytes", len(body))
	}
	allocations := testing.AllocsPerRun(100, func() {
		if _, err := events.Decode(events.Input{Body: body}); err != nil {
			t.Fatal(err)
		}
	})
	if allocations > 8 {
		t.Errorf("%v allocations to decode 1 KiB, want at most 8", allocations)
	}
}
