package queue_test

import (
	"strings"
	"testing"
	"time"

	"github.com/waybillhq/waybill/shared/queue"
)

// AWS counts the body, and of each attribute the name, the data type and the value; nothing else.
func TestSize(t *testing.T) {
	tests := map[string]struct {
		give queue.Message
		want int
	}{
		"empty":  {queue.Message{}, 0},
		"bytes":  {queue.Message{Body: "h\u00e9\U0001F600"}, 7},
		"string": {queue.Message{Body: "b", Attributes: map[string]queue.Attribute{"name": {DataType: "String", String: "value"}}}, 1 + 4 + 6 + 5},
		"binary": {queue.Message{Attributes: map[string]queue.Attribute{"n": {DataType: "Binary.gif", Binary: []byte{1, 2, 3}}}}, 1 + 10 + 3},
		"two": {queue.Message{Attributes: map[string]queue.Attribute{
			"a": {DataType: "Number", String: "1"}, "b": {DataType: "Number.int", String: "22"},
		}}, 1 + 6 + 1 + 1 + 10 + 2},
		"free of size quotas": {queue.Message{Group: "g", Deduplication: "d", Delay: time.Second, Trace: strings.Repeat("t", 500)}, 0},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if got := tt.give.Size(); got != tt.want {
				t.Errorf("size = %d, want %d", got, tt.want)
			}
		})
	}
}
