package program

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"

	"github.com/aws/aws-sdk-go-v2/service/eventbridge"
	"github.com/aws/aws-sdk-go-v2/service/eventbridge/types"

	"github.com/waybillhq/waybill/shared/pattern"
)

// sampleDetail is the payload that the cases are about. The rest of the event is the sample of EventBridge's documentation.
const sampleDetail = `{
	"instance-id": "i-000000aaaaaa00000", "state": "running", "c-count": 5, "d-count": 3, "x-limit": 301.8, "three-hundred": 300,
	"source-ip": "10.0.0.33", "ip6": "2001:db8::7", "version": "", "responseElements": null, "ok": true, "file": "dir/bin/photo.PNG",
	"stars": "a*b", "digits": "5", "volumes": ["vol-1", "vol-2"], "none": [], "nested": {"deep": {"er": "yes"}}, "matrix": [[1, 2], [[3]]],
	"employees": [{"firstName": "John", "lastName": "Doe"}, {"firstName": "Anna", "lastName": "Smith", "badge": 7}]
}`

// sampleAttributes are those members of the sample that are attributes of a CloudEvent, by their names there.
func sampleAttributes() map[string]string {
	return map[string]string{
		"id": "7bf73129-1428-4cd3-a780-95db273d1602", "type": "EC2 Instance State-change Notification", "source": "aws.ec2",
		"account": "012345679012", "time": "2017-10-02T16:24:49Z", "region": "us-east-1",
	}
}

// sampleEvent is the whole sample, as TestEventPattern wants it.
func sampleEvent() string {
	members := map[string]any{"version": "0", "resources": []string{}, "detail": json.RawMessage(sampleDetail)}
	for name, value := range sampleAttributes() {
		members[bridgeName(name)] = value
	}
	event, err := json.Marshal(members)
	if err != nil {
		panic(err) // the sample is part of the program
	}
	return string(event)
}

// bridgeName is what EventBridge calls a member that we know by another name.
func bridgeName(name string) string {
	switch name {
	case "type":
		return "detail-type"
	case "data":
		return "detail"
	}
	return name
}

// patternCases are patterns in our names, each about something that is easily got wrong. That ours and EventBridge's verdict agree is the check; which
// verdict that is, shared/pattern's own tests say.
func patternCases() []string {
	return []string{
		// Exact values.
		`{"source": ["aws.ec2"]}`, `{"source": ["AWS.EC2"]}`, `{"source": ["aws.s3", "aws.ec2"], "region": ["eu-west-1"]}`, `{"type": [{"prefix": "EC2 "}]}`,
		`{"data": {"c-count": [5]}}`, `{"data": {"three-hundred": [300.0]}}`, `{"data": {"three-hundred": [3.0e2]}}`, `{"data": {"three-hundred": ["300"]}}`,
		`{"data": {"ok": [true]}}`, `{"data": {"ok": ["true"]}}`, `{"data": {"responseElements": [null]}}`, `{"data": {"responseElements": [""]}}`,
		`{"data": {"not-there": [null]}}`, `{"data": {"version": [""]}}`, `{"data": {"nested": {"deep": {"er": ["yes"]}}}}`, `{"data": {"nested": ["yes"]}}`,
		// Texts.
		`{"data": {"file": [{"suffix": ".PNG"}]}}`, `{"data": {"file": [{"suffix": {"equals-ignore-case": ".png"}}]}}`,
		`{"data": {"file": [{"prefix": {"equals-ignore-case": "DIR/"}}]}}`, `{"data": {"x-limit": [{"prefix": "30"}]}}`,
		`{"data": {"state": [{"equals-ignore-case": "RUNNING"}]}}`, `{"data": {"file": [{"wildcard": "dir/*.PNG"}]}}`, `{"data": {"file": [{"wildcard": "dir/*.png"}]}}`,
		`{"data": {"stars": [{"wildcard": "a\\*b"}]}}`, `{"data": {"state": [{"wildcard": "\\*"}]}}`,
		// Anything but.
		`{"data": {"state": [{"anything-but": "initializing"}]}}`, `{"data": {"state": [{"anything-but": ["stopped", "running"]}]}}`,
		`{"data": {"x-limit": [{"anything-but": [100, 200, 300]}]}}`, `{"data": {"three-hundred": [{"anything-but": 300.0}]}}`,
		`{"data": {"not-there": [{"anything-but": "x"}]}}`, `{"data": {"responseElements": [{"anything-but": "x"}]}}`,
		`{"data": {"volumes": [{"anything-but": "vol-1"}]}}`, `{"data": {"state": [{"anything-but": {"prefix": "run"}}]}}`,
		`{"data": {"state": [{"anything-but": {"prefix": ["init", "err"]}}]}}`, `{"data": {"file": [{"anything-but": {"suffix": [".txt", ".PNG"]}}]}}`,
		`{"data": {"state": [{"anything-but": {"equals-ignore-case": ["initializing", "RUNNING"]}}]}}`, `{"data": {"file": [{"anything-but": {"wildcard": "*/bin/*"}}]}}`,
		// Existence.
		`{"data": {"c-count": [{"exists": true}]}}`, `{"data": {"c-count": [{"exists": false}]}}`, `{"data": {"not-there": [{"exists": false}]}}`,
		`{"data": {"responseElements": [{"exists": true}]}}`, `{"data": {"nested": [{"exists": true}]}}`, `{"data": {"nested": [{"exists": false}]}}`,
		`{"data": {"none": [{"exists": false}]}}`, `{"data": {"state": {"x": [{"exists": false}]}}}`, `{"data": {"not-there": [{"exists": false}, "x"]}}`,
		// Arrays.
		`{"data": {"volumes": ["vol-2"]}}`, `{"data": {"matrix": [3]}}`, `{"data": {"employees": {"firstName": ["Anna"], "lastName": ["Smith"]}}}`,
		`{"data": {"employees": {"firstName": ["Anna"], "lastName": ["Doe"]}}}`, `{"data": {"employees": {"firstName": ["John"], "badge": [{"exists": false}]}}}`,
		`{"data": {"employees": {"badge": [{"exists": false}]}}}`,
		// Numbers and addresses.
		`{"data": {"c-count": [{"numeric": [">", 0, "<=", 5]}]}}`, `{"data": {"c-count": [{"numeric": [">", 5]}]}}`, `{"data": {"x-limit": [{"numeric": ["=", 3.018e2]}]}}`,
		`{"data": {"digits": [{"numeric": [">", 0]}]}}`, `{"data": {"matrix": [{"numeric": [">", 2]}]}}`,
		`{"data": {"source-ip": [{"cidr": "10.0.0.0/24"}]}}`, `{"data": {"source-ip": [{"cidr": "10.0.1.0/24"}]}}`, `{"data": {"ip6": [{"cidr": "2001:db8::/32"}]}}`,
		// Or.
		`{"data": {"$or": [{"c-count": [{"numeric": [">", 5]}]}, {"d-count": [{"numeric": ["<", 10]}]}]}}`,
		`{"data": {"$or": [{"c-count": [{"numeric": [">", 5]}]}, {"d-count": [{"numeric": [">", 10]}]}]}}`,
		`{"data": {"employees": {"badge": [7], "$or": [{"firstName": ["John"]}, {"lastName": ["Doe"]}]}}}`,
		// Not permitted.
		`{"data": {"state": "running"}}`, `{"data": {"state": []}}`, `{"data": {"state": [{"prefx": "run"}]}}`, `{"data": {"c-count": [{"numeric": ["<", 5, ">", 0]}]}}`,
		`{"data": {"c-count": [{"numeric": [">", 5000000001]}]}}`, `{"data": {"source-ip": [{"cidr": "10.0.0.0/33"}]}}`, `{"data": {"state": [{"exists": "yes"}]}}`,
		`{"data": {"state": [{"prefix": "a", "suffix": "b"}]}}`,
	}
}

// Verdicts on an event by a pattern.
const (
	fits    = "fits"
	fitsNot = "does not fit"
	refuses = "refused"
)

// patterns compares our verdicts with EventBridge's own.
func (s *session) patterns(ctx context.Context) {
	s.tell(ctx, "patterns", func(ctx context.Context) verdict {
		if s.local {
			return skipped("the local system has no EventBridge that could be asked")
		}
		event := sampleEvent()
		var differ []string
		for _, ours := range patternCases() {
			got, err := s.bridgeVerdict(ctx, ours, event)
			if err != nil {
				return unanswered(err)
			}
			if want := verdictOf(ours); got != want {
				differ = append(differ, fmt.Sprintf("%s: %s, EventBridge says %s", ours, want, got))
			}
		}
		if len(differ) > 0 {
			return failed(fmt.Sprintf("the same verdict on all %d patterns", len(patternCases())), list(differ),
				"patterns of this form match other events than they would as rules of EventBridge: look at destinations that use it, and report it")
		}
		return holds("the same verdict as EventBridge's on all %d", len(patternCases()))
	})
}

// verdictOf is ours.
func verdictOf(text string) string {
	p, err := pattern.Parse(json.RawMessage(text))
	switch {
	case err != nil:
		return refuses
	case p.Match(pattern.NewEvent(maps.All(sampleAttributes()), []byte(sampleDetail))):
		return fits
	}
	return fitsNot
}

// bridgeVerdict is EventBridge's.
func (s *session) bridgeVerdict(ctx context.Context, ours, event string) (string, error) {
	var members, renamed = map[string]json.RawMessage{}, map[string]json.RawMessage{}
	if err := json.Unmarshal([]byte(ours), &members); err != nil {
		return "", fmt.Errorf("case %s: %w", ours, err)
	}
	for name, value := range members {
		renamed[bridgeName(name)] = value
	}
	theirs, err := json.Marshal(renamed)
	if err != nil {
		return "", err
	}
	text := string(theirs)
	out, err := s.busesAPI.TestEventPattern(ctx, &eventbridge.TestEventPatternInput{EventPattern: &text, Event: &event})
	var invalid *types.InvalidEventPatternException
	switch {
	case errors.As(err, &invalid):
		return refuses, nil
	case err != nil:
		return "", err
	case out.Result:
		return fits, nil
	}
	return fitsNot, nil
}
