package auditor

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"

	"github.com/waybillhq/waybill/shared/awslocal/dynamodb"
	"github.com/waybillhq/waybill/shared/awslocal/sqs"
	"github.com/waybillhq/waybill/shared/topology"
)

// room is a reading of the waiting room.
type room struct {
	messages   []sqs.Held // as if they lay on the deliveries queue
	unreadable []string
}

// readRoom reads the waiting room from storage, with no code of the waiting room's.
func readRoom(tables *dynamodb.Service) room {
	var r room
	items, err := tables.Items(string(topology.Waiting))
	if err != nil {
		return r // no such table, nothing can wait in it
	}
	for _, item := range items {
		body, held := item["body"].(dynamodb.Binary)
		if !held {
			continue // a mark or a watermark
		}
		message, err := unzip([]byte(body))
		if err != nil {
			r.unreadable = append(r.unreadable, fmt.Sprintf("row %v of the waiting room, bucket %v: %v", item["row"], item["bucket"], err))
			continue
		}
		r.messages = append(r.messages, sqs.Held{Message: sqs.Message{MessageID: fmt.Sprintf("waiting room row %v", item["row"]), Body: message}})
	}
	return r
}

func unzip(b []byte) (string, error) {
	const most = 8 << 20
	gz, err := gzip.NewReader(bytes.NewReader(b))
	if err != nil {
		return "", err
	}
	text, err := io.ReadAll(io.LimitReader(gz, most))
	return string(text), err
}
