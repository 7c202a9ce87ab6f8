package events

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"slices"
	"strconv"
)

const (
	s3Source     = "aws:s3"
	s3TestEvent  = "s3:TestEvent"
	s3TypePrefix = "com.amazonaws.s3."

	s3Fix = "send the notification as S3 writes it"
)

// isS3 fits a notification with any record of S3, and the test that S3 sends when a notification is set up.
func isS3(m *message) bool {
	if !m.body.json || m.body.kind != '{' {
		return false
	}
	return isS3Test(m) || slices.ContainsFunc(m.body.members, func(x member) bool {
		return x.name == "Records" && x.value[0] == '[' && mentions(x.value, s3Source) && holdsObject(x.value, isS3Record)
	})
}

func isS3Record(members []member) bool {
	return slices.ContainsFunc(members, func(x member) bool { return x.name == "eventSource" && isText(x.value, s3Source) })
}

func isS3Test(m *message) bool {
	return !m.body.has("Records") && slices.ContainsFunc(m.body.members, func(x member) bool { return x.name == "Event" && isText(x.value, s3TestEvent) })
}

// openS3 makes an event of each record, of all or of none. A test is no event.
func openS3(m *message) (Decoded, error) {
	f := m.findings(FormS3)
	o := object{f: &f, code: CodeBadS3, fix: s3Fix, members: m.body.members}
	if isS3Test(m) {
		o.text("Event") // once only
		if err := f.err(); err != nil {
			return Decoded{}, err
		}
		return Decoded{Form: FormS3, Dropped: 1}, nil
	}
	records := o.value("Records")
	if err := f.err(); err != nil {
		return Decoded{}, err
	}
	elements, more := scanArray(records, 0, MaxBatchEvents)
	if more {
		f.add(CodeBadS3, "Records", fmt.Sprintf("holds more than %d records", MaxBatchEvents), "split it into several messages")
		return Decoded{}, f.err()
	}
	all := make([]Event, 0, len(elements))
	for i, element := range elements {
		if f.full() {
			break
		}
		f.at = m.at + "Records[" + strconv.Itoa(i) + "]."
		if element[0] != '{' {
			f.add(CodeBadS3, "", "is not an object", "put nothing but records of S3 into Records")
			continue
		}
		o.members, _, _ = scanObject(element, 0) // already known to be JSON
		before := len(f.found)
		e := s3Event(o, element)
		if len(f.found) == before { // else the same problem would be reported again, in other words
			m.finish(&e, &f)
		}
		all = append(all, e)
	}
	if err := f.err(); err != nil {
		return Decoded{}, err
	}
	return Decoded{Form: FormS3, Events: all}, nil
}

// s3Event maps a record as the CloudEvents adapter for S3 does, but for the id. That is made of the request's id there,
// which all objects of one DeleteObjects request share.
func s3Event(o object, record string) Event {
	s3 := o.object("s3")
	bucket := s3.object("bucket").required("name")
	object := s3.object("object")
	key, version, sequencer := object.required("key"), object.text("versionId"), object.text("sequencer")

	region, name, eventTime := o.required("awsRegion"), o.required("eventName"), o.text("eventTime")
	if source := o.required("eventSource"); source != "" && source != s3Source {
		o.f.add(o.code, "eventSource", "is "+excerpt(source)+" beside records of "+s3Source, "put nothing but records of S3 into Records")
	}
	e := Event{
		Source:          uriReference(s3Source + "." + region + "." + bucket),
		Type:            s3TypePrefix + name,
		Subject:         key,
		Time:            eventTime,
		DataContentType: contentTypeJSON,
		Extensions:      map[string]string{"region": region},
		Data:            []byte(record),
	}
	if sequencer != "" {
		e.ID = s3ID(bucket, key, name, version, "sequencer", sequencer)
		return e
	}
	request := o.object("responseElements").text("x-amz-request-id")
	if eventTime == "" || request == "" {
		o.f.add(o.code, "s3.object.sequencer", "is missing, and so is eventTime or responseElements.x-amz-request-id: two such events could not be told apart", o.fix)
	}
	e.ID = s3ID(bucket, key, name, version, "request", eventTime, request)
	return e
}

// s3ID is the same whenever S3 sends the same notification again and differs for any two others. The length before each
// part keeps parts from running into each other; the hash keeps keys of 3 KB out of ids.
func s3ID(parts ...string) string {
	h := sha256.New()
	for _, part := range parts {
		_, _ = h.Write(binary.AppendUvarint(nil, uint64(len(part))))
		_, _ = h.Write([]byte(part))
	}
	return hex.EncodeToString(h.Sum(nil))
}

// s3FieldOf is where a record has what becomes a context attribute.
func s3FieldOf(attribute string) string {
	switch attribute {
	case "source":
		return "s3.bucket.name"
	case "type":
		return "eventName"
	case "subject":
		return "s3.object.key"
	case "time":
		return "eventTime"
	case "region":
		return "awsRegion"
	}
	return plainName(attribute)
}
