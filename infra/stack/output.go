package stack

import "strings"

// outputID is the name of an output for an environment variable: QueueIngressDlqUrl for WAYBILL_QUEUE_INGRESS_DLQ_URL, because
// CloudFormation allows letters and digits only.
func outputID(variable string) string {
	var id strings.Builder
	for word := range strings.SplitSeq(strings.TrimPrefix(variable, "WAYBILL_"), "_") {
		if word != "" {
			id.WriteString(word[:1] + strings.ToLower(word[1:]))
		}
	}
	return id.String()
}
