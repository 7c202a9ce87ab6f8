package pattern_test

import (
	"encoding/json"
	"fmt"
	"maps"

	"github.com/waybillhq/waybill/shared/pattern"
)

func Example() {
	wanted, err := pattern.Parse(json.RawMessage(`{"type": [{"prefix": "order."}], "data": {"total": [{"exists": true}]}}`))
	if err != nil {
		fmt.Println(err)
		return
	}
	event := pattern.NewEvent(
		maps.All(map[string]string{"id": "1", "source": "/shop", "type": "order.paid"}),
		[]byte(`{"total": 12.50}`),
	)
	fmt.Println(wanted.Match(event))
	// Output: true
}

func ExampleParse_problems() {
	_, err := pattern.Parse(json.RawMessage(`{"type": [{"wildcard": "order.*"}], "source": "/shop"}`))
	fmt.Println(err)
	// Output:
	// pattern.type[0].wildcard: unknown operator "wildcard"; known here: anything-but, exists, prefix, suffix
	// pattern.source: must be an array of alternatives, is a string; write the value in brackets: […]
}
