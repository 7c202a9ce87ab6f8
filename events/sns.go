package events

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// MaxDepth is how many SNS notifications may be inside one another. Two happen (a topic that forwards to a topic by way of
// a function); the bound keeps one message from costing the work of many.
const MaxDepth = 4

const (
	snsNotification = "Notification"
	snsSubscribe    = "SubscriptionConfirmation"
	snsUnsubscribe  = "UnsubscribeConfirmation"

	snsFix = "send the envelope as SNS writes it"
)

// isSNS fits what SNS itself writes around a message when raw delivery is off.
func isSNS(m *message) bool {
	return m.body.has("TopicArn") && slices.ContainsFunc(m.body.members, func(x member) bool {
		return x.name == "Type" && (isText(x.value, snsNotification) || isText(x.value, snsSubscribe) || isText(x.value, snsUnsubscribe))
	})
}

// openSNS opens the envelope and consults the table again for what is inside, as if that lay on the queue with the
// message attributes that the publisher gave it. SNS's own id, topic and time stand for those of the queue.
func openSNS(m *message) (Decoded, error) {
	if m.depth == MaxDepth {
		return m.refuse(FormSNS, CodeTooDeep, fmt.Sprintf("is an SNS notification inside %d others", MaxDepth), "publish the innermost message directly")
	}
	f := m.findings(FormSNS)
	in, subject := readNotification(m, &f)
	if err := f.err(); err != nil {
		return Decoded{}, err
	}
	inner := message{in: &in, body: readBody(in.Body), depth: m.depth + 1, at: m.at + "Message.", subject: subject}
	decoded, err := inner.open()
	if err != nil {
		return Decoded{}, err
	}
	if decoded.Inner == "" {
		decoded.Inner = decoded.Form
	}
	decoded.Form = FormSNS
	return decoded, nil
}

// readNotification gives the message inside a notification as a queue would. The signature is not checked: who may send to
// the queue is a matter of the queue's policy, and whoever may can send any event anyway.
func readNotification(m *message, f *findings) (in Input, subject string) {
	o := object{f: f, code: CodeBadSNS, fix: snsFix, members: m.body.members}
	if kind := o.text("Type"); kind == snsSubscribe || kind == snsUnsubscribe {
		f.add(CodeSNSConfirmation, "Type", "is "+kind+", which is for people and holds a token that nobody downstream may have",
			"let the queue's owner subscribe it, or visit the SubscribeURL; then delete this message")
		return in, ""
	}
	in = Input{
		MessageID:  o.text("MessageId"),
		QueueARN:   topicARN(o),
		GroupID:    m.in.GroupID,
		SentAt:     m.in.SentAt,
		Body:       o.required("Message"),
		Attributes: snsAttributes(o),
		Tenant:     m.in.Tenant,
	}
	if sentAt := o.text("Timestamp"); isTimestamp(sentAt) {
		in.SentAt, _ = time.Parse(time.RFC3339, sentAt)
	} else if sentAt != "" {
		f.add(CodeBadSNS, "Timestamp", "is not an RFC 3339 timestamp", snsFix)
	}
	if in.MessageID == "" {
		in.MessageID = m.fallbackID(f)
	}
	return in, o.text("Subject")
}

// topicARN reads the source of events that bring none.
func topicARN(o object) string {
	arn := o.required("TopicArn")
	if arn != "" && (!strings.HasPrefix(arn, "arn:") || uriProblem(arn) != "") {
		o.f.add(o.code, o.path+"TopicArn", "is not the ARN of a topic", o.fix)
	}
	return arn
}

// snsAttributes reads the attributes that the publisher gave the message. Values of data type Binary are in base64 there.
func snsAttributes(o object) map[string]Attribute {
	all := o.object("MessageAttributes")
	if len(all.members) == 0 {
		return nil
	}
	attributes := make(map[string]Attribute, len(all.members))
	for i := range all.members {
		if o.f.full() {
			break
		}
		given := &all.members[i]
		name := all.path + plainName(given.name)
		if _, twice := attributes[given.name]; twice {
			o.f.add(CodeDuplicateMember, name, "is there twice", "send each attribute once: two readers could take different ones")
			continue
		}
		if given.value[0] != '{' {
			o.f.add(o.code, name, "is not an object with Type and Value", o.fix)
			continue
		}
		attribute := object{f: o.f, code: o.code, fix: o.fix, path: name + "."}
		attribute.members, _, _ = scanObject(given.value, 0) // already known to be JSON
		attributes[given.name] = snsAttribute(attribute)
	}
	return attributes
}

func snsAttribute(o object) Attribute {
	a := Attribute{DataType: o.required("Type")}
	if a.isBinary() {
		if value := o.value("Value"); value != "" {
			a.BinaryValue = base64Data(o.f, &member{name: o.path + "Value", value: value})
			return a
		}
	}
	a.StringValue = o.required("Value")
	return a
}
