package program

import (
	"context"
	"fmt"
	"maps"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awssqs "github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"

	"github.com/waybillhq/waybill/events"
	"github.com/waybillhq/waybill/events/samples"
)

// message is a sample as this program sends it: of our tenant, whatever tenant the sample is of.
type message struct {
	name string
	form string // the envelope; for an SNS notification with what it carries
	in   events.Input
}

// messages are all samples that a producer could send, of our tenant.
func messages() ([]message, error) {
	var all []message
	for _, s := range samples.Valid() {
		if !s.Sendable() {
			continue
		}
		m, err := ofOurTenant(s)
		if err != nil {
			return nil, err
		}
		all = append(all, m)
	}
	return all, nil
}

// ofOurTenant changes the tenant of a sample, wherever it stands. The error says that an event would be of another one; then it must not be sent.
func ofOurTenant(s samples.Sample) (message, error) {
	in := s.Input()
	in.GroupID = Tenant
	in.Attributes = maps.Clone(in.Attributes)
	for _, e := range s.Want.Events {
		for _, quote := range []string{`"`, `\"`, `\\\"`} { // plain, inside an SNS notification, inside one inside another
			for _, colon := range []string{":", ": "} {
				in.Body = strings.ReplaceAll(in.Body, quote+"tenant"+quote+colon+quote+e.Tenant+quote, quote+"tenant"+quote+colon+quote+Tenant+quote)
			}
		}
		in.Body = strings.ReplaceAll(in.Body, `"ce-tenant": {"Type": "String", "Value": "`+e.Tenant+`"}`, `"ce-tenant": {"Type": "String", "Value": "`+Tenant+`"}`)
	}
	for name, a := range in.Attributes {
		if name == "ce-tenant" || name == "ce_tenant" {
			a.StringValue = Tenant
			in.Attributes[name] = a
		}
	}
	m := message{name: s.Name, form: string(s.Want.Form), in: in}
	if s.Want.Inner != "" {
		m.form += " with " + string(s.Want.Inner)
	}
	_, err := m.events()
	return m, err
}

// events are those that the message holds. The error says that one of them is not of our tenant.
func (m *message) events() ([]events.Event, error) {
	decoded, err := events.Decode(m.in)
	if err != nil {
		return nil, fmt.Errorf("sample %s: %w", m.name, err)
	}
	for i := range decoded.Events {
		if tenant := decoded.Events[i].Tenant(); tenant != Tenant {
			return nil, fmt.Errorf("sample %s: an event would be of the tenant %s", m.name, tenant)
		}
	}
	return decoded.Events, nil
}

// send puts a message on the ingress queue. From then on it is known what its events are called.
func (s *session) send(ctx context.Context, m *message, queue string, arn string) error {
	in := &awssqs.SendMessageInput{
		QueueUrl: &queue, MessageBody: &m.in.Body, MessageGroupId: aws.String(m.in.GroupID), MessageAttributes: map[string]types.MessageAttributeValue{},
	}
	for name, a := range m.in.Attributes {
		value := types.MessageAttributeValue{DataType: aws.String(a.DataType), BinaryValue: a.BinaryValue}
		if a.StringValue != "" {
			value.StringValue = aws.String(a.StringValue)
		}
		in.MessageAttributes[name] = value
	}
	// A call that has begun is finished: otherwise nobody would know what was sent.
	begun, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
	defer cancel()
	out, err := s.queuesAPI.SendMessage(begun, in)
	if err != nil {
		return fmt.Errorf("sample %s: %w", m.name, err)
	}
	m.in.MessageID, m.in.QueueARN, m.in.SentAt = aws.ToString(out.MessageId), arn, time.Now()
	return nil
}

// structured is an event that is no sample: its id says which run it is of.
func (s *session) structured(name string) message {
	body := fmt.Sprintf(`{"specversion":"1.0","id":"%s-%s","source":"/waybill/smoke","type":"waybill.smoke","tenant":"%s","data":{"amount": 19.90}}`, s.run, name, Tenant)
	return message{name: name, form: string(events.FormCloudEvent), in: events.Input{Body: body, GroupID: Tenant}}
}
