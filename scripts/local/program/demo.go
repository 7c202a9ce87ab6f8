package program

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awssqs "github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"

	"github.com/waybillhq/waybill/events/samples"
	"github.com/waybillhq/waybill/scripts/local/receiver"
	"github.com/waybillhq/waybill/shared/signing"
)

// demo is the receiver that misbehaves on purpose and the destinations that point at it.
type demo struct {
	*receiver.Receiver
	listener net.Listener
	baseURL  string
	file     []byte
}

// newDemo makes the demo receiver on a free port of the loopback interface. It answers from start to Close.
func newDemo(speed int, onReceived func(receiver.Request)) (*demo, error) {
	secret := newSecret()
	key, err := signing.ParseKey(secret)
	if err != nil {
		return nil, err
	}
	d := &demo{Receiver: receiver.New(receiver.Options{
		Keys: []signing.Key{key}, SlowFor: 700 * time.Millisecond, FlakyTries: 2, RetryAfter: 2 * time.Second, OnReceived: onReceived,
	})}
	if d.listener, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		return nil, fmt.Errorf("the demo receiver finds no free port: %w", err)
	}
	d.baseURL = "http://" + d.listener.Addr().String()
	if d.file, err = destinations(d.baseURL, secret, speed); err != nil {
		return nil, errors.Join(err, d.listener.Close())
	}
	return d, nil
}

func (d *demo) start() { go func() { _ = d.Serve(d.listener) }() }

// Close ends the receiver, started or not.
func (d *demo) Close() error {
	err := d.Receiver.Close()
	_ = d.listener.Close() // has happened if it was started
	return err
}

// newSecret draws a Standard Webhooks secret.
func newSecret() string {
	key := make([]byte, 32)
	_, _ = rand.Read(key) // never fails
	return "whsec_" + base64.StdEncoding.EncodeToString(key)
}

// Ids of the demo's destinations that are not those of a behaviour.
const (
	late   = "late"   // throttled, and told to wait for longer than a queue can delay
	paused = "paused" // fine, and paused by the operator before the first event
)

// lateWait is what a queue cannot delay, jitter included.
const lateWait = 20 * time.Minute

// destinations writes the demo's destinations file: each kind of receiver wants some of the sample events.
func destinations(base, secret string, speed int) ([]byte, error) {
	type object = map[string]any
	pick := func(conditions ...any) object { return object{"type": conditions} }
	destination := func(id, path string, pattern object, waits ...string) object {
		return object{
			"id": id, "tenant": "*", "type": "webhook", "pattern": pattern, "retry": object{"schedule": waits},
			"webhook": object{"url": base + "/" + path, "secrets": []string{secret}, "timeout": "1s"},
		}
	}
	slow := destination(receiver.Slow, receiver.Slow, pick(object{"prefix": "feed."}), "1s", "2s")
	slow["ledger"] = "relaxed"
	all := []object{
		destination(receiver.Fine, receiver.Fine, pick(object{"anything-but": []string{"till.opened"}}), "1s", "5s", "1m"),
		slow,
		destination(receiver.Flaky, receiver.Flaky, pick(object{"prefix": "order."}), "1s", "2s", "4s"),
		destination(receiver.Hanging, receiver.Hanging, pick("payment.failed"), "1s", "2s"),
		destination(receiver.Throttled, receiver.Throttled, pick(object{"prefix": "stock."}), "1s", "2s", "4s"),
		destination(receiver.Rejecting, receiver.Rejecting, pick("scan.taken"), "1s", "2s"),
		destination(receiver.Gone, receiver.Gone, pick("order.paid"), "1s", "2s"),
		destination(paused, receiver.Fine+"/"+paused, pick("order.created"), "1s", "2s"),
	}
	if speed > 1 {
		wait := (lateWait / time.Duration(speed)).Round(time.Millisecond).String()
		all = append(all, destination(late, receiver.Throttled+"/"+late, pick("payment.settled"), wait))
	}
	return json.Marshal(object{"destinations": all})
}

// invalidSamples are the bad messages that the demo sends beside all good ones.
var invalidSamples = map[string]bool{"missing-id": true, "base64-padding": true, "torn": true}

// sendSamples sends all good sample messages and some bad ones, and after a while one of the good ones again, as producers do after a
// time-out. It returns early when ctx ends.
func sendSamples(ctx context.Context, cfg aws.Config, queueURL string) error {
	client := awssqs.NewFromConfig(cfg)
	var again samples.Sample
	for _, s := range append(samples.Valid(), samples.Invalid()...) {
		if !s.Sendable() || !s.Valid && !invalidSamples[s.Name] {
			continue
		}
		if err := sendSample(ctx, client, queueURL, s); err != nil {
			return err
		}
		if s.Name == "cloudevent" {
			again = s
		}
	}
	// By then no attempt for it is under way that the second copy would have to wait for.
	timer := time.NewTimer(1500 * time.Millisecond)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return nil
	case <-timer.C:
		return sendSample(ctx, client, queueURL, again)
	}
}

func sendSample(ctx context.Context, client *awssqs.Client, queueURL string, s samples.Sample) error {
	in := &awssqs.SendMessageInput{QueueUrl: &queueURL, MessageBody: &s.Body, MessageAttributes: map[string]types.MessageAttributeValue{}}
	if s.GroupID != "" {
		in.MessageGroupId = &s.GroupID
	}
	for name, a := range s.Attributes {
		value := types.MessageAttributeValue{DataType: aws.String(a.DataType), BinaryValue: a.BinaryValue}
		if a.StringValue != "" {
			value.StringValue = aws.String(a.StringValue)
		}
		in.MessageAttributes[name] = value
	}
	if _, err := client.SendMessage(ctx, in); err != nil {
		return fmt.Errorf("sample %s: %w", s.Name, err)
	}
	return nil
}
