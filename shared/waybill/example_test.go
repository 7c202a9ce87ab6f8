package waybill_test

import (
	"fmt"

	"github.com/waybillhq/waybill/shared/queue"
	"github.com/waybillhq/waybill/shared/waybill"
)

func ExampleAttach() {
	m := queue.Message{Body: "not an event", Attributes: map[string]queue.Attribute{"team": {DataType: "String", String: "crm"}}}
	m, complete := waybill.Attach(m, waybill.Note{Reason: "bad-cloudevent", Detail: "attribute \"source\" is missing", EventID: "4711"})
	fmt.Println(complete, m.Body, m.Attributes["team"].String)
	fmt.Println(m.Attributes[waybill.Attribute].String)

	body, attributes, note, err := waybill.Detach(m.Body, m.Attributes)
	fmt.Println(body, len(attributes), note.Reason, err)
	// Output:
	// true not an event crm
	// {"v":1,"reason":"bad-cloudevent","detail":"attribute \"source\" is missing","eventId":"4711"}
	// not an event 1 bad-cloudevent <nil>
}
