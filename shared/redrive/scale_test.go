package redrive_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awssqs "github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"

	local "github.com/waybillhq/waybill/shared/awslocal/sqs"
	"github.com/waybillhq/waybill/shared/redrive"
	"github.com/waybillhq/waybill/shared/topology"
)

// direct calls the queues without the wire, which is what takes the time when there are many messages.
type direct struct{ service *local.Service }

func (d direct) queue(url string) *local.Queue {
	q, ok := d.service.Queue(url[strings.LastIndex(url, "/")+1:])
	if !ok {
		panic("no queue at " + url)
	}
	return q
}

// ReceiveMessage gives out messages.
func (d direct) ReceiveMessage(ctx context.Context, in *awssqs.ReceiveMessageInput, _ ...func(*awssqs.Options)) (*awssqs.ReceiveMessageOutput, error) {
	got, err := d.queue(*in.QueueUrl).Receive(ctx, local.ReceiveOptions{
		Max: int(in.MaxNumberOfMessages), Wait: time.Duration(in.WaitTimeSeconds) * time.Second, Visibility: aws.Duration(time.Duration(in.VisibilityTimeout) * time.Second),
	})
	out := &awssqs.ReceiveMessageOutput{}
	for _, m := range got {
		out.Messages = append(out.Messages, types.Message{MessageId: &m.MessageID, ReceiptHandle: &m.ReceiptHandle, Body: &m.Body, Attributes: m.Attributes})
	}
	return out, err
}

// SendMessageBatch sends messages without attributes.
func (d direct) SendMessageBatch(_ context.Context, in *awssqs.SendMessageBatchInput, _ ...func(*awssqs.Options)) (*awssqs.SendMessageBatchOutput, error) {
	out := &awssqs.SendMessageBatchOutput{}
	for _, e := range in.Entries {
		if _, err := d.queue(*in.QueueUrl).Send(local.Outgoing{Body: *e.MessageBody, GroupID: aws.ToString(e.MessageGroupId)}); err != nil {
			return nil, err
		}
		out.Successful = append(out.Successful, types.SendMessageBatchResultEntry{Id: e.Id})
	}
	return out, nil
}

// DeleteMessageBatch deletes messages.
func (d direct) DeleteMessageBatch(_ context.Context, in *awssqs.DeleteMessageBatchInput, _ ...func(*awssqs.Options)) (*awssqs.DeleteMessageBatchOutput, error) {
	out := &awssqs.DeleteMessageBatchOutput{}
	for _, e := range in.Entries {
		if err := d.queue(*in.QueueUrl).Delete(*e.ReceiptHandle); err != nil {
			return nil, err
		}
		out.Successful = append(out.Successful, types.DeleteMessageBatchResultEntry{Id: e.Id})
	}
	return out, nil
}

// ChangeMessageVisibilityBatch hides messages, or shows them.
func (d direct) ChangeMessageVisibilityBatch(_ context.Context, in *awssqs.ChangeMessageVisibilityBatchInput, _ ...func(*awssqs.Options)) (*awssqs.ChangeMessageVisibilityBatchOutput, error) {
	out := &awssqs.ChangeMessageVisibilityBatchOutput{}
	for _, e := range in.Entries {
		if err := d.queue(*in.QueueUrl).ChangeVisibility(*e.ReceiptHandle, time.Duration(e.VisibilityTimeout)*time.Second); err != nil {
			return nil, err
		}
		out.Successful = append(out.Successful, types.ChangeMessageVisibilityBatchResultEntry{Id: e.Id})
	}
	return out, nil
}

// GetQueueAttributes tells what there is.
func (d direct) GetQueueAttributes(_ context.Context, in *awssqs.GetQueueAttributesInput, _ ...func(*awssqs.Options)) (*awssqs.GetQueueAttributesOutput, error) {
	a, err := d.queue(*in.QueueUrl).Attributes("All")
	return &awssqs.GetQueueAttributesOutput{Attributes: a}, err
}

// TestMoreThan120000: a queue that holds more than SQS lets anybody receive, at the real size. An interrupted move, a dry run and a second move together move each letter that matches once, agree on how many there are, and leave everything else as it was.
func TestMoreThan120000(t *testing.T) {
	if testing.Short() {
		t.Skip("takes seconds")
	}
	synctest.Test(t, func(t *testing.T) {
		const n, every = (local.DefaultMaxInFlight + 2000) / shrink, 5 // each fifth stays, and one of them is not ours
		arrived := map[string]int{}
		service := local.New(local.Options{Seed: 1, MaxInFlight: local.DefaultMaxInFlight / shrink, OnSend: func(queue string, m local.Message) {
			if queue == string(topology.Deliveries) {
				arrived[m.Body]++
			}
		}})
		var queues [2]*local.Queue
		for i, name := range []topology.QueueName{topology.DeliveriesDeadLetter, topology.Deliveries} {
			var err error
			if queues[i], err = service.CreateQueue(string(name), nil); err != nil {
				t.Fatal(err)
			}
		}
		crm, erp := dead{event: "EVENT", reason: "-"}.build(t), dead{event: "EVENT", reason: "-", destination: "erp"}.build(t)
		stay := map[string]bool{}
		for i := range n {
			m := crm
			if i%every == 0 {
				m = erp
			}
			m.Body = strings.Replace(m.Body, "EVENT", fmt.Sprint(i), 1)
			stay[m.Body] = i%every == 0
			if i == n/2 {
				m.Body = "not ours"
			}
			if _, err := queues[0].Send(local.Outgoing{Body: m.Body, GroupID: m.Group}); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(time.Second)
		cfg := redrive.Config{
			SQS: direct{service}, From: topology.DeliveriesDeadLetter, FromURL: queues[0].URL(), ToURL: queues[1].URL(), Rate: redrive.MaxRate,
			Window: redrive.DefaultWindow / shrink, Filter: redrive.Filter{Destinations: []string{"crm"}},
		}
		ctx, interrupt := context.WithTimeout(t.Context(), time.Minute/shrink)
		defer interrupt()
		first, err := run(ctx, t, cfg)
		if !errors.Is(err, context.DeadlineExceeded) || first.Moved < 54*redrive.MaxRate/shrink || first.Moved > 60*redrive.MaxRate/shrink || first.Stuck > 0 {
			t.Fatalf("%v, %+v", err, first)
		}
		cfg.DryRun = true
		dry, err := run(t.Context(), t, cfg)
		if d := queues[0].Depth(); err != nil || !dry.Complete || d.Visible != n-first.Moved || d.Visible != d.Total() {
			t.Errorf("%v, %+v, %+v", err, dry, d)
		}
		cfg.DryRun = false
		second, err := run(t.Context(), t, cfg)
		if err != nil || !second.Complete || second.Moved != dry.Matched || second.Looked != dry.Looked || second.Unreadable != 1 {
			t.Errorf("%v, %+v\ndry run %+v", err, second, dry)
		}
		for body, copies := range arrived {
			if copies != 1 || stay[body] {
				t.Fatalf("sent %d times: %s", copies, body)
			}
		}
		left := queues[0].Snapshot()
		for _, h := range left {
			if !stay[h.Body] && h.Body != "not ours" {
				t.Fatalf("left: %s", h.Body)
			}
		}
		d := queues[0].Depth()
		if moved := first.Moved + second.Moved; len(arrived) != moved || moved+len(left) != n || len(left) != n/every || d.Visible != len(left) {
			t.Errorf("%d arrived, %d moved, %d left, %+v", len(arrived), moved, len(left), d)
		}
	})
}
