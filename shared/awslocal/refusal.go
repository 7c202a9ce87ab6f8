package awslocal

import (
	"cmp"
	"encoding/json"
	"maps"
	"net/http"

	"github.com/waybillhq/waybill/shared/awslocal/wire"
)

// coral is the namespace of errors that belong to no service.
const coral = "com.amazon.coral.service"

// writeError sends a refusal in AWS JSON. SQS's codes of old go into a header, where SDKs look for them.
func writeError(w http.ResponseWriter, s service, refused *wire.Error) {
	namespace := cmp.Or(s.namespace, coral)
	switch refused.Code {
	case "SerializationException", "UnknownOperationException", "InternalFailure", "AccessDeniedException":
		namespace = coral
	}
	document := map[string]any{}
	maps.Copy(document, refused.Fields)
	document["__type"] = namespace + "#" + refused.Code
	document["message"] = refused.Message
	body, err := json.Marshal(document)
	if err != nil { // a field that JSON cannot hold: the code is what matters
		body, _ = json.Marshal(map[string]string{"__type": namespace + "#" + refused.Code, "message": refused.Message})
	}
	if s.Service != nil && s.Name() == "sqs" {
		w.Header().Set("x-amzn-query-error", queryCode(refused)+";"+fault(refused))
	}
	writeJSON(w, s, cmp.Or(refused.Status, http.StatusBadRequest), body)
}

// queryCode is the code that the Query protocol shows.
func queryCode(refused *wire.Error) string { return cmp.Or(refused.QueryCode, refused.Code) }

// fault says in the protocols' words whose fault it was.
func fault(refused *wire.Error) string {
	if refused.Status >= http.StatusInternalServerError {
		return "Receiver"
	}
	return "Sender"
}
