package pattern_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/waybillhq/waybill/shared/pattern"
)

// instanceEvent is the sample of the EventBridge documentation as Waybill carries it: detail-type is type, detail is data.
var instanceAttributes = map[string]string{
	"specversion": "1.0",
	"id":          "7bf73129-1428-4cd3-a780-95db273d1602",
	"source":      "aws.ec2",
	"type":        "EC2 Instance State-change Notification",
	"time":        "2017-10-02T16:24:49Z",
	"region":      "us-east-1",
	"account":     "012345679012",
	"empty":       "",
}

const instanceData = `{
	"instance-id": "i-000000aaaaaa00000",
	"state": "running",
	"c-count": 5,
	"d-count": 3,
	"x-limit": 301.8,
	"three-hundred": 300,
	"source-ip": "10.0.0.33",
	"version": "",
	"responseElements": null,
	"ok": true,
	"resources": ["arn:aws:ec2:us-east-1:123456789012:instance/i-0", "arn:aws:ec2:us-east-1:123456789012:volume/v-1"],
	"none": [],
	"nested": {"empty": {}, "deep": {"er": "yes"}},
	"matrix": [[1, 2], [[3]]],
	"employees": [
		{"firstName": "John", "lastName": "Doe"},
		{"firstName": "Anna", "lastName": "Smith", "badge": 7},
		{"firstName": "Peter", "lastName": "Jones"}
	]
}`

func TestMatch(t *testing.T) {
	for _, test := range []struct {
		name, pattern string
		want          bool
	}{
		// Exact values.
		{"attribute", `{"source": ["aws.ec2"]}`, true},
		{"attribute, other case", `{"source": ["AWS.EC2"]}`, false},
		{"one of several", `{"source": ["aws.s3", "aws.ec2"]}`, true},
		{"every field must fit", `{"source": ["aws.ec2"], "region": ["eu-west-1"]}`, false},
		{"missing attribute", `{"subject": ["x"]}`, false},
		{"attribute and payload", `{"source": ["aws.ec2"], "data": {"state": ["running"]}}`, true},
		{"payload does not fit", `{"source": ["aws.ec2"], "data": {"state": ["stopped"]}}`, false},
		{"number", `{"data": {"c-count": [5]}}`, true},
		{"number by its text", `{"data": {"three-hundred": [300.0]}}`, false},
		{"number in scientific form", `{"data": {"three-hundred": [3.0e2]}}`, false},
		{"number is no string", `{"data": {"three-hundred": ["300"]}}`, false},
		{"string is no number", `{"data": {"state": [300, "running"]}}`, true},
		{"boolean", `{"data": {"ok": [true]}}`, true},
		{"boolean is no string", `{"data": {"ok": ["true"]}}`, false},
		{"null", `{"data": {"responseElements": [null]}}`, true},
		{"null is not the empty string", `{"data": {"responseElements": [""]}}`, false},
		{"null is not absence", `{"data": {"not-there": [null]}}`, false},
		{"empty string", `{"data": {"version": [""]}}`, true},
		{"empty string is not null", `{"data": {"version": [null]}}`, false},
		{"empty attribute", `{"empty": [""]}`, true},
		{"nested", `{"data": {"nested": {"deep": {"er": ["yes"]}}}}`, true},
		{"nested below a string", `{"data": {"state": {"deep": ["running"]}}}`, false},
		{"object is no leaf", `{"data": {"nested": ["yes"]}}`, false},

		// Prefix and suffix.
		{"prefix", `{"time": [{"prefix": "2017-10-02"}]}`, true},
		{"prefix, other", `{"time": [{"prefix": "2018"}]}`, false},
		{"prefix, whole value", `{"source": [{"prefix": "aws.ec2"}]}`, true},
		{"prefix, longer than the value", `{"source": [{"prefix": "aws.ec2.x"}]}`, false},
		{"prefix, empty", `{"source": [{"prefix": ""}]}`, true},
		{"prefix, empty, no field", `{"subject": [{"prefix": ""}]}`, false},
		{"prefix of a number", `{"data": {"x-limit": [{"prefix": "30"}]}}`, false},
		{"suffix", `{"source": [{"suffix": "ec2"}]}`, true},
		{"suffix, other", `{"source": [{"suffix": "s3"}]}`, false},
		{"suffix of null", `{"data": {"responseElements": [{"suffix": ""}]}}`, false},

		// Anything but.
		{"anything-but", `{"data": {"state": [{"anything-but": "initializing"}]}}`, true},
		{"anything-but, hit", `{"data": {"state": [{"anything-but": "running"}]}}`, false},
		{"anything-but number", `{"data": {"x-limit": [{"anything-but": 123}]}}`, true},
		{"anything-but number, hit", `{"data": {"x-limit": [{"anything-but": 301.8}]}}`, false},
		{"anything-but number by its text", `{"data": {"three-hundred": [{"anything-but": 300.0}]}}`, true},
		{"anything-but list", `{"data": {"state": [{"anything-but": ["stopped", "overloaded"]}]}}`, true},
		{"anything-but list, hit", `{"data": {"state": [{"anything-but": ["stopped", "running"]}]}}`, false},
		{"anything-but list of numbers", `{"data": {"x-limit": [{"anything-but": [100, 200, 300]}]}}`, true},
		{"anything-but on another kind", `{"data": {"ok": [{"anything-but": "true"}], "responseElements": [{"anything-but": "x"}]}}`, true},
		{"anything-but needs the field", `{"data": {"not-there": [{"anything-but": "x"}]}}`, false},
		{"anything-but on an attribute", `{"region": [{"anything-but": ["us-east-1"]}]}`, false},

		// Exists.
		{"exists", `{"data": {"c-count": [{"exists": true}]}}`, true},
		{"exists, not there", `{"data": {"not-there": [{"exists": true}]}}`, false},
		{"absent", `{"data": {"not-there": [{"exists": false}]}}`, true},
		{"absent, but there", `{"data": {"c-count": [{"exists": false}]}}`, false},
		{"null exists", `{"data": {"responseElements": [{"exists": true}]}}`, true},
		{"an object is no leaf", `{"data": {"nested": [{"exists": true}]}}`, false},
		{"an object is absent", `{"data": {"nested": [{"exists": false}]}}`, true},
		{"an empty array is absent", `{"data": {"none": [{"exists": false}]}}`, true},
		{"absent below an empty array", `{"data": {"none": {"x": [{"exists": false}]}}}`, true},
		{"absent below a string", `{"data": {"state": {"x": [{"exists": false}]}}}`, true},
		{"absent below what is not there", `{"data": {"not": {"there": [{"exists": false}]}}}`, true},
		{"attribute exists", `{"region": [{"exists": true}], "subject": [{"exists": false}]}`, true},
		{"absent or a value", `{"data": {"not-there": [{"exists": false}, "x"], "state": [{"exists": false}, "running"]}}`, true},

		// Arrays.
		{"any element", `{"data": {"resources": [{"prefix": "arn:aws:ec2:us-east-1:123456789012:volume/"}]}}`, true},
		{"no element", `{"data": {"resources": ["arn"]}}`, false},
		{"anything-but fits another element", `{"data": {"resources": [{"anything-but": "arn:aws:ec2:us-east-1:123456789012:volume/v-1"}]}}`, true},
		{"arrays in arrays", `{"data": {"matrix": [3]}}`, true},
		{"object in an array", `{"data": {"employees": {"firstName": ["Anna"]}}}`, true},
		{"fields of one element", `{"data": {"employees": {"firstName": ["Anna"], "lastName": ["Smith"]}}}`, true},
		{"fields of two elements", `{"data": {"employees": {"firstName": ["Anna"], "lastName": ["Jones"]}}}`, false},
		{"absent in the element that fits", `{"data": {"employees": {"firstName": ["Peter"], "badge": [{"exists": false}]}}}`, true},
		{"present in the element that fits", `{"data": {"employees": {"firstName": ["Anna"], "badge": [{"exists": false}]}}}`, false},
		{"absent must hold for every element", `{"data": {"employees": {"badge": [{"exists": false}]}}}`, false},
		{"absent in every element", `{"data": {"employees": {"phone": [{"exists": false}]}}}`, true},

		// Everything.
		{"empty pattern", `{}`, true},
		{"no pattern", ``, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			p, err := pattern.Parse(json.RawMessage(test.pattern))
			if err != nil {
				t.Fatal(err)
			}
			event := pattern.NewEvent(maps.All(instanceAttributes), []byte(instanceData))
			if got := p.Match(event); got != test.want {
				t.Errorf("%s: got %v, want %v", test.pattern, got, test.want)
			}
		})
	}
}

func TestNilAndZeroPatternFitEverything(t *testing.T) {
	event := pattern.NewEvent(nil, nil)
	if !(*pattern.Pattern)(nil).Match(event) || !new(pattern.Pattern).Match(event) {
		t.Error("a pattern that asks for nothing refused an event")
	}
}

func TestPayloads(t *testing.T) {
	for _, test := range []struct {
		name, pattern, data string
		want                bool
	}{
		{"string", `{"data": ["hello"]}`, `"hello"`, true},
		{"number", `{"data": [1.0]}`, `1.0`, true},
		{"number beyond 2^53 by its text", `{"data": {"n": [9007199254740993]}}`, `{"n": 9007199254740993}`, true},
		{"its neighbour", `{"data": {"n": [9007199254740993]}}`, `{"n": 9007199254740992}`, false},
		{"array", `{"data": {"a": [1]}}`, `[{"a": 2}, {"a": 1}]`, true},
		{"escapes", `{"data": {"a\u0062": ["\u00e9"]}}`, `{"ab": "é"}`, true},
		{"repeated member, last counts", `{"data": {"a": [2]}}`, `{"a": 1, "a": 2}`, true},
		{"repeated member, first does not", `{"data": {"a": [1]}}`, `{"a": 1, "a": 2}`, false},
		{"null exists", `{"data": [{"exists": true}]}`, `null`, true},
		{"none", `{"data": [{"exists": true}]}`, ``, false},
		{"none, absence asked", `{"data": {"a": [{"exists": false}]}}`, ``, true},
		{"text has no fields", `{"data": [{"exists": true}]}`, `hello`, false},
		{"text, absence asked", `{"data": {"a": [{"exists": false}]}}`, `hello`, true},
		{"two documents are not JSON", `{"data": {"a": [1]}}`, `{"a": 1} {"a": 1}`, false},
		{"cut off", `{"data": {"a": [1]}}`, `{"a": 1`, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			p, err := pattern.Parse(json.RawMessage(test.pattern))
			if err != nil {
				t.Fatal(err)
			}
			if got := p.Match(pattern.NewEvent(nil, []byte(test.data))); got != test.want {
				t.Errorf("%s on %s: got %v", test.pattern, test.data, got)
			}
		})
	}
}

func TestParseRefuses(t *testing.T) {
	for _, test := range []struct{ pattern, path, says string }{
		{`{"type": [{"wildcard": "a*"}]}`, "pattern.type[0].wildcard", `unknown operator "wildcard"; known here: anything-but, exists, prefix, suffix`},
		{`{"type": ["x", {"numeric": [">", 1]}]}`, "pattern.type[1].numeric", "unknown operator"},
		{`{"data": {"ip": [{"cidr": "10.0.0.0/8"}]}}`, "pattern.data.ip[0].cidr", "unknown operator"},
		{`{"type": [{"equals-ignore-case": "x"}]}`, "pattern.type[0].equals-ignore-case", "unknown operator"},
		{`{"type": [{"prefix": {"equals-ignore-case": "x"}}]}`, "pattern.type[0].prefix.equals-ignore-case", "unknown operator"},
		{`{"type": [{"anything-but": {"prefix": "x"}}]}`, "pattern.type[0].anything-but.prefix", "unknown operator"},
		{`{"$or": [{"type": ["a"]}, {"source": ["b"]}]}`, "pattern.$or", "unknown operator"},
		{`{"data": {"$or": [{"a": ["a"]}, {"b": ["b"]}]}}`, "pattern.data.$or", "unknown operator"},
		{`{"type": "order"}`, "pattern.type", "must be an array"},
		{`{"type": null}`, "pattern.type", "must be an array of alternatives, is null"},
		{`{"data": 3}`, "pattern.data", "must be an array"},
		{`{"data": {"state": {"prefix": "x"}}}`, "pattern.data.state.prefix", `put the operator into the field's array: [{"prefix": …}]`},
		{`{"type": {"prefix": "x"}}`, "pattern.type", `put the operator into an array: [{"prefix": …}]`},
		{`{"type": {"sub": ["x"]}}`, "pattern.type", `only "data" has fields`},
		{`{"type": []}`, "pattern.type", "empty"},
		{`{"data": {}}`, "pattern.data", "empty"},
		{`{"data": {"a": {"b": {}}}}`, "pattern.data.a.b", "empty"},
		{`{"type": [["x"]]}`, "pattern.type[0]", "cannot be an array"},
		{`{"type": [{}]}`, "pattern.type[0]", "exactly one operator, holds 0"},
		{`{"type": [{"prefix": "a", "suffix": "b"}]}`, "pattern.type[0]", "exactly one operator, holds 2"},
		{`{"type": [{"prefix": 1}]}`, "pattern.type[0].prefix", "needs a string, is a number"},
		{`{"type": [{"suffix": null}]}`, "pattern.type[0].suffix", "needs a string, is null"},
		{`{"type": [{"suffix": ["x"]}]}`, "pattern.type[0].suffix", "needs a string, is an array"},
		{`{"type": [{"exists": "true"}]}`, "pattern.type[0].exists", "needs true or false"},
		{`{"type": [{"anything-but": []}]}`, "pattern.type[0].anything-but", "list is empty"},
		{`{"type": [{"anything-but": null}]}`, "pattern.type[0].anything-but", "needs a string, a number"},
		{`{"data": {"a": [{"anything-but": ["x", 1]}]}}`, "pattern.data.a[0].anything-but[1]", "mixes"},
		{`{"data": {"a": [{"anything-but": [true]}]}}`, "pattern.data.a[0].anything-but[0]", "needs a string, a number"},
		{`{"sequence": [5]}`, "pattern.sequence[0]", `never equal a number; write "5"`},
		{`{"flag": [true]}`, "pattern.flag[0]", `write "true"`},
		{`{"flag": [null]}`, "pattern.flag[0]", `{"exists": false}`},
		{`{"flag": [{"anything-but": 5}]}`, "pattern.flag[0].anything-but", `write "5"`},
		{`{"detail-type": ["x"]}`, "pattern.detail-type", `write "type"`},
		{`{"detail": {"state": ["x"]}}`, "pattern.detail", `write "data"`},
		{`{"Type": ["x"]}`, "pattern.Type", `write "type"`},
		{`{"a b": ["x"]}`, `pattern["a b"]`, "not the name of a CloudEvents attribute"},
		{`{"type": ["a"], "type": ["b"]}`, "pattern.type", "appears twice"},
		{`{"data": {"a": ["a"], "\u0061": ["b"]}}`, "pattern.data.a", "appears twice"},
		{`{"type": [{"prefix": "a", "prefix": "b"}]}`, "pattern.type[0].prefix", "appears twice"},
		{`[]`, "pattern", "must be an object"},
		{`null`, "pattern", "leave it out to receive every event"},
		{`{"type": ["x"]`, "pattern", "unexpected end"},
		{`{"type": ["x"],}`, "pattern", "comma"},
		{`{"data": ` + strings.Repeat(`{"a":`, 40) + `["x"]` + strings.Repeat("}", 41), "pattern", "levels deep"},
		{`{"type": ["` + strings.Repeat("x", pattern.MaxBytes) + `"]}`, "pattern", "at most 16384 bytes"},
	} {
		_, err := pattern.Parse(json.RawMessage(test.pattern))
		var refusal *pattern.Error
		if !errors.As(err, &refusal) || !errors.Is(err, pattern.ErrInvalid) {
			t.Errorf("%.60s: error %v, want a *pattern.Error", test.pattern, err)
			continue
		}
		if !slices.ContainsFunc(refusal.Problems, func(p pattern.Problem) bool {
			return p.Path == test.path && strings.Contains(p.String(), test.says)
		}) {
			t.Errorf("%.60s:\n got %v\nwant %s: …%s…", test.pattern, err, test.path, test.says)
		}
	}
}

func TestParseReportsEveryProblemInOrder(t *testing.T) {
	text := `{"type": [{"wildcard": "x"}, []], "source": "s", "data": {"a": [], "b": {"c": [{"prefix": 1}]}}}`
	_, err := pattern.Parse(json.RawMessage(text))
	var refusal *pattern.Error
	if !errors.As(err, &refusal) {
		t.Fatal(err)
	}
	var got []string
	for _, p := range refusal.Problems {
		got = append(got, fmt.Sprintf("%s @ %.4s", p.Path, text[p.Offset:]))
	}
	want := []string{
		`pattern.type[0].wildcard @ "wil`,
		`pattern.type[1] @ []],`,
		`pattern.source @ "s",`,
		`pattern.data.a @ [], `,
		`pattern.data.b.c[0].prefix @ 1}]}`,
	}
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}
