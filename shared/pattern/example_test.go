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
	_, err := pattern.Parse(json.RawMessage(`{"type": [{"regex": "order.*"}], "source": "/shop"}`))
	fmt.Println(err)
	// Output:
	// pattern.type[0].regex: unknown operator "regex"; known here: anything-but, cidr, equals-ignore-case, exists, numeric, prefix, suffix, wildcard
	// pattern.source: must be an array of alternatives, is a string; write the value in brackets: […]
}

func ExampleIndex() {
	var patterns []*pattern.Pattern
	for _, text := range []string{
		`{"type": ["order.paid"], "data": {"total": [{"numeric": [">=", 100]}]}}`,
		`{"type": ["order.paid"], "data": {"total": [{"numeric": ["<", 100]}]}}`,
		`{"$or": [{"type": [{"wildcard": "order.*"}]}, {"source": ["/shop"]}]}`,
	} {
		p, err := pattern.Parse(json.RawMessage(text))
		if err != nil {
			fmt.Println(err)
			return
		}
		patterns = append(patterns, p)
	}
	index := pattern.NewIndex(patterns)
	paid := maps.All(map[string]string{"id": "1", "source": "/shop", "type": "order.paid"})
	fmt.Println(index.Match(pattern.NewEvent(paid, []byte(`{"total": 12.50}`))))
	// Output: [1 2]
}
