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
	"client":      "192.0.2.7",
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
	"file": "dir/bin/photo.PNG",
	"city": "münchen",
	"stars": "a*b\\c",
	"digits": "5",
	"ip6": "2001:DB8::7",
	"mapped": "::ffff:10.0.0.33",
	"zoned": "fe80::1%eth0",
	"prefix": "p",
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

		// Ignoring case.
		{"equals-ignore-case", `{"source": [{"equals-ignore-case": "AWS.ec2"}]}`, true},
		{"equals-ignore-case, other", `{"source": [{"equals-ignore-case": "AWS.ec"}]}`, false},
		{"equals-ignore-case, empty", `{"empty": [{"equals-ignore-case": ""}]}`, true},
		{"equals-ignore-case of a boolean", `{"data": {"ok": [{"equals-ignore-case": "TRUE"}]}}`, false},
		{"prefix ignoring case", `{"type": [{"prefix": {"equals-ignore-case": "ec2 iNST"}}]}`, true},
		{"prefix ignoring case, other", `{"type": [{"prefix": {"equals-ignore-case": "ec2i"}}]}`, false},
		{"prefix ignoring case, longer than the value", `{"source": [{"prefix": {"equals-ignore-case": "aws.ec2.x"}}]}`, false},
		{"suffix ignoring case", `{"data": {"file": [{"suffix": {"equals-ignore-case": ".png"}}]}}`, true},
		{"suffix ignoring case, other", `{"data": {"file": [{"suffix": {"equals-ignore-case": ".pn"}}]}}`, false},
		{"suffix ignoring case, longer than the value", `{"source": [{"suffix": {"equals-ignore-case": "x.aws.ec2"}}]}`, false},
		{"case of other alphabets", `{"data": {"city": [{"equals-ignore-case": "MÜNCHEN"}]}}`, true},
		{"prefix in another alphabet", `{"data": {"city": [{"prefix": {"equals-ignore-case": "MÜ"}}]}}`, true},
		{"suffix in another alphabet", `{"data": {"city": [{"suffix": {"equals-ignore-case": "ÜNCHEN"}}]}}`, true},

		// Anything but, nested.
		{"anything-but prefix", `{"data": {"state": [{"anything-but": {"prefix": "init"}}]}}`, true},
		{"anything-but prefix, hit", `{"data": {"state": [{"anything-but": {"prefix": "run"}}]}}`, false},
		{"anything-but prefixes", `{"data": {"state": [{"anything-but": {"prefix": ["init", "error"]}}]}}`, true},
		{"anything-but prefixes, hit", `{"data": {"state": [{"anything-but": {"prefix": ["init", "run"]}}]}}`, false},
		{"anything-but suffix", `{"data": {"file": [{"anything-but": {"suffix": ".txt"}}]}}`, true},
		{"anything-but suffixes, hit", `{"data": {"file": [{"anything-but": {"suffix": [".txt", ".PNG"]}}]}}`, false},
		{"anything-but ignoring case", `{"data": {"state": [{"anything-but": {"equals-ignore-case": "INITIALIZING"}}]}}`, true},
		{"anything-but ignoring case, hit", `{"data": {"state": [{"anything-but": {"equals-ignore-case": ["initializing", "RUNNING"]}}]}}`, false},
		{"anything-but wildcard", `{"data": {"file": [{"anything-but": {"wildcard": "*/lib/*"}}]}}`, true},
		{"anything-but wildcards, hit", `{"data": {"file": [{"anything-but": {"wildcard": ["*/lib/*", "*/b*/*"]}}]}}`, false},
		{"anything-but prefix on another kind", `{"data": {"c-count": [{"anything-but": {"prefix": "5"}}], "responseElements": [{"anything-but": {"wildcard": "*"}}]}}`, true},
		{"anything-but prefix needs the field", `{"data": {"not-there": [{"anything-but": {"prefix": "x"}}]}}`, false},
		{"anything-but prefix fits another element", `{"data": {"employees": {"firstName": [{"anything-but": {"prefix": ["J", "A"]}}]}}}`, true},

		// Wildcards.
		{"wildcard", `{"data": {"file": [{"wildcard": "dir/*.PNG"}]}}`, true},
		{"wildcard, case", `{"data": {"file": [{"wildcard": "dir/*.png"}]}}`, false},
		{"wildcard, nothing between", `{"source": [{"wildcard": "aws*.ec2"}]}`, true},
		{"wildcard, no overlap", `{"source": [{"wildcard": "aws.e*ec2"}]}`, false},
		{"wildcard, whole value", `{"source": [{"wildcard": "aws.ec2"}]}`, true},
		{"wildcard, whole value only", `{"source": [{"wildcard": "aws.ec"}]}`, false},
		{"wildcard, anything", `{"source": [{"wildcard": "*"}], "empty": [{"wildcard": "*"}]}`, true},
		{"wildcard, not absence", `{"subject": [{"wildcard": "*"}]}`, false},
		{"wildcard, several", `{"type": [{"wildcard": "*Inst*e*change*"}]}`, true},
		{"wildcard, order", `{"type": [{"wildcard": "*change*Inst*"}]}`, false},
		{"wildcard, middle twice", `{"data": {"file": [{"wildcard": "dir/*/*/*"}]}}`, false},
		{"wildcard, documented", `{"data": {"resources": [{"wildcard": "arn:aws:ec2:us-east-1:*:volume/*"}]}}`, true},
		{"wildcard, asterisk", `{"data": {"stars": [{"wildcard": "a\\*b*"}]}}`, true},
		{"wildcard, asterisk only", `{"data": {"state": [{"wildcard": "\\*"}]}}`, false},
		{"wildcard, backslash", `{"data": {"stars": [{"wildcard": "*\\\\c"}]}}`, true},
		{"wildcard of a number", `{"data": {"c-count": [{"wildcard": "*"}]}}`, false},

		// Numbers by value.
		{"numeric range", `{"data": {"c-count": [{"numeric": [">", 0, "<=", 5]}]}}`, true},
		{"numeric below", `{"data": {"d-count": [{"numeric": ["<", 10]}]}}`, true},
		{"numeric equal, other form", `{"data": {"x-limit": [{"numeric": ["=", 3.018e2]}]}}`, true},
		{"numeric equal, other", `{"data": {"x-limit": [{"numeric": ["=", 301.800001]}]}}`, false},
		{"numeric above, not equal", `{"data": {"c-count": [{"numeric": [">", 5]}]}}`, false},
		{"numeric at least", `{"data": {"c-count": [{"numeric": [">=", 5]}]}}`, true},
		{"numeric range, open above", `{"data": {"c-count": [{"numeric": [">=", 0, "<", 5]}]}}`, false},
		{"numeric on a string", `{"data": {"digits": [{"numeric": [">", 0]}]}}`, false},
		{"numeric on null", `{"data": {"responseElements": [{"numeric": ["<=", 0]}]}}`, false},
		{"numeric in arrays", `{"data": {"matrix": [{"numeric": [">", 2]}]}}`, true},
		{"numeric, documented all", `{"time": [{"prefix": "2017-10-02"}], "data": {"state": [{"anything-but": "initializing"}], "c-count": [{"numeric": [">", 0, "<=", 5]}],
			"d-count": [{"numeric": ["<", 10]}], "x-limit": [{"anything-but": [100, 200, 300]}], "source-ip": [{"cidr": "10.0.0.0/8"}]}}`, true},

		// Addresses.
		{"cidr", `{"data": {"source-ip": [{"cidr": "10.0.0.0/24"}]}}`, true},
		{"cidr, other", `{"data": {"source-ip": [{"cidr": "10.0.1.0/24"}]}}`, false},
		{"cidr, one address", `{"data": {"source-ip": [{"cidr": "10.0.0.33/32"}]}}`, true},
		{"cidr, everything", `{"data": {"source-ip": [{"cidr": "0.0.0.0/0"}]}}`, true},
		{"cidr, other family", `{"data": {"source-ip": [{"cidr": "::/0"}]}}`, false},
		{"cidr of IPv6", `{"data": {"ip6": [{"cidr": "2001:db8::/32"}]}}`, true},
		{"cidr of IPv6, other", `{"data": {"ip6": [{"cidr": "2001:db9::/32"}]}}`, false},
		{"cidr of an IPv4 address in IPv6 form", `{"data": {"mapped": [{"cidr": "10.0.0.0/8"}]}}`, true},
		{"cidr of an IPv4 address in IPv6 form, as such", `{"data": {"mapped": [{"cidr": "::ffff:0:0/96"}]}}`, true},
		{"cidr with a zone", `{"data": {"zoned": [{"cidr": "fe80::/10"}]}}`, false},
		{"cidr of a word", `{"data": {"state": [{"cidr": "0.0.0.0/0"}]}}`, false},
		{"cidr of an attribute", `{"client": [{"cidr": "192.0.2.0/24"}]}`, true},

		// Or.
		{"or", `{"data": {"$or": [{"c-count": [{"numeric": [">", 5]}]}, {"d-count": [{"numeric": ["<", 10]}]}, {"x-limit": [{"numeric": ["=", 1]}]}]}}`, true},
		{"or, none", `{"data": {"$or": [{"c-count": [{"numeric": [">", 5]}]}, {"d-count": [{"numeric": [">", 10]}]}]}}`, false},
		{"or of attributes", `{"$or": [{"source": ["aws.s3"]}, {"region": ["us-east-1"]}]}`, true},
		{"or and beside it", `{"source": ["aws.s3"], "$or": [{"account": ["012345679012"]}, {"region": ["us-east-1"]}]}`, false},
		{"or across attributes and payload", `{"source": ["aws.ec2"], "$or": [{"account": ["x"]}, {"data": {"state": ["running"]}}]}`, true},
		{"or with and inside", `{"$or": [{"source": ["aws.ec2"], "account": ["x"]}, {"source": ["aws.s3"], "region": ["us-east-1"]}]}`, false},
		{"or in or", `{"$or": [{"source": ["x"]}, {"region": ["us-east-1"], "$or": [{"account": ["x"]}, {"id": [{"prefix": "7bf"}]}]}]}`, true},
		{"parallel ors", `{"$or": [{"source": ["x"]}, {"region": ["us-east-1"]}], "data": {"$or": [{"state": ["x"]}, {"c-count": [6]}]}}`, false},
		{"or below a field", `{"data": {"nested": {"deep": {"$or": [{"er": ["no"]}, {"er": ["yes"]}]}}}}`, true},
		{"or in one element", `{"data": {"employees": {"badge": [7], "$or": [{"firstName": ["John"]}, {"lastName": ["Jones"]}]}}}`, false},
		{"or in one element, fits", `{"data": {"employees": {"badge": [7], "$or": [{"firstName": ["Anna"]}, {"lastName": ["Jones"]}]}}}`, true},
		{"or meets and in one element", `{"data": {"employees": {"badge": [7]}}, "$or": [{"data": {"employees": {"firstName": ["John"]}}}, {"source": ["x"]}]}`, false},
		{"or of absences, each in every element", `{"data": {"employees": {"$or": [{"badge": [{"exists": false}]}, {"lastName": [{"exists": false}]}]}}}`, false},
		{"names of operators are fields outside or", `{"data": {"prefix": ["p"]}}`, true},

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
		{`{"type": [{"regex": "a*"}]}`, "pattern.type[0].regex", `unknown operator "regex"; known here: anything-but, cidr, equals-ignore-case, exists, numeric, prefix, suffix, wildcard`},
		{`{"type": ["x", {"exactly": "x"}]}`, "pattern.type[1].exactly", "unknown operator"},
		{`{"type": [{"prefix": {"suffix": "x"}}]}`, "pattern.type[0].prefix.suffix", `unknown operator "suffix"; known here: equals-ignore-case`},
		{`{"type": [{"suffix": {"wildcard": "x"}}]}`, "pattern.type[0].suffix.wildcard", "unknown operator"},
		{`{"type": [{"anything-but": {"exists": true}}]}`, "pattern.type[0].anything-but.exists", "known here: equals-ignore-case, prefix, suffix, wildcard"},
		{`{"data": {"a": [{"anything-but": {"numeric": [">", 1]}}]}}`, "pattern.data.a[0].anything-but.numeric", "unknown operator"},
		{`{"type": [{"anything-but": {"prefix": {"equals-ignore-case": "x"}}}]}`, "pattern.type[0].anything-but.prefix", "needs a string, is an object"},

		// Operators on strings.
		{`{"type": [{"prefix": ["a", "b"]}]}`, "pattern.type[0].prefix", "only anything-but takes a list"},
		{`{"type": [{"equals-ignore-case": ["a", "b"]}]}`, "pattern.type[0].equals-ignore-case", "only anything-but takes a list"},
		{`{"type": [{"equals-ignore-case": 1}]}`, "pattern.type[0].equals-ignore-case", "needs a string, is a number"},
		{`{"type": [{"prefix": {"equals-ignore-case": null}}]}`, "pattern.type[0].prefix.equals-ignore-case", "needs a string, is null"},
		{`{"type": [{"prefix": {"equals-ignore-case": ["a"]}}]}`, "pattern.type[0].prefix.equals-ignore-case", "needs a string, is an array"},
		{`{"type": [{"prefix": {}}]}`, "pattern.type[0].prefix", "exactly one operator, holds 0"},
		{`{"type": [{"wildcard": true}]}`, "pattern.type[0].wildcard", "needs a string, is a boolean"},
		{`{"type": [{"wildcard": "a**b"}]}`, "pattern.type[0].wildcard", `two asterisks in a row at byte 1`},
		{`{"type": [{"wildcard": "a\\*b***"}]}`, "pattern.type[0].wildcard", `two asterisks in a row at byte 4`},
		{`{"type": [{"wildcard": "a\\b"}]}`, "pattern.type[0].wildcard", `backslash at byte 1`},
		{`{"type": [{"wildcard": "ab\\"}]}`, "pattern.type[0].wildcard", `backslash at byte 2`},
		{`{"type": [{"anything-but": {"wildcard": ["a*", "**"]}}]}`, "pattern.type[0].anything-but.wildcard[1]", "two asterisks"},
		{`{"type": [{"anything-but": {"prefix": ""}}]}`, "pattern.type[0].anything-but.prefix", "exclude every string"},
		{`{"type": [{"anything-but": {"suffix": ["a", ""]}}]}`, "pattern.type[0].anything-but.suffix[1]", "exclude every string"},
		{`{"type": [{"anything-but": {"prefix": []}}]}`, "pattern.type[0].anything-but.prefix", "list is empty"},
		{`{"type": [{"anything-but": {"equals-ignore-case": ["a", 1]}}]}`, "pattern.type[0].anything-but.equals-ignore-case[1]", "needs a string, is a number"},
		{`{"type": [{"anything-but": {"wildcard": 5}}]}`, "pattern.type[0].anything-but.wildcard", "needs a string, is a number"},
		{`{"type": [{"anything-but": {"prefix": "a", "suffix": "b"}}]}`, "pattern.type[0].anything-but", "exactly one operator, holds 2"},

		// Addresses.
		{`{"data": {"ip": [{"cidr": 10}]}}`, "pattern.data.ip[0].cidr", "needs a string, is a number"},
		{`{"data": {"ip": [{"cidr": "10.0.0.0"}]}}`, "pattern.data.ip[0].cidr", `write it as "10.0.0.0/24"`},
		{`{"data": {"ip": [{"cidr": "10.0.0.0/33"}]}}`, "pattern.data.ip[0].cidr", "is not a block of addresses"},
		{`{"data": {"ip": [{"cidr": "10.0.0/8"}]}}`, "pattern.data.ip[0].cidr", "is not a block of addresses"},
		{`{"data": {"ip": [{"cidr": "010.0.0.0/8"}]}}`, "pattern.data.ip[0].cidr", "is not a block of addresses"},
		{`{"data": {"ip": [{"cidr": "10.0.0.0/-1"}]}}`, "pattern.data.ip[0].cidr", "is not a block of addresses"},
		{`{"data": {"ip": [{"cidr": "example.com/8"}]}}`, "pattern.data.ip[0].cidr", "is not a block of addresses"},
		{`{"data": {"ip": [{"cidr": "fe80::%eth0/64"}]}}`, "pattern.data.ip[0].cidr", "is not a block of addresses"},
		{`{"data": {"ip": [{"cidr": "2001:db8::/129"}]}}`, "pattern.data.ip[0].cidr", "is not a block of addresses"},
		{`{"data": {"ip": [{"cidr": "10.0.0.5/24"}]}}`, "pattern.data.ip[0].cidr", `has bits set after its prefix; write "10.0.0.0/24"`},
		{`{"data": {"ip": [{"cidr": "2001:db8::1/64"}]}}`, "pattern.data.ip[0].cidr", `write "2001:db8::/64"`},

		// Numbers.
		{`{"type": [{"numeric": [">", 1]}]}`, "pattern.type[0].numeric", "compares numbers, and attributes are strings"},
		{`{"data": {"n": [{"numeric": 5}]}}`, "pattern.data.n[0].numeric", `needs an array, is a number; write [">", 0]`},
		{`{"data": {"n": [{"numeric": {">": 5}}]}}`, "pattern.data.n[0].numeric", "needs an array, is an object"},
		{`{"data": {"n": [{"numeric": []}]}}`, "pattern.data.n[0].numeric", "holds 0"},
		{`{"data": {"n": [{"numeric": [">"]}]}}`, "pattern.data.n[0].numeric", "holds 1"},
		{`{"data": {"n": [{"numeric": [">", 0, "<"]}]}}`, "pattern.data.n[0].numeric", "holds 3"},
		{`{"data": {"n": [{"numeric": [">", 0, "<", 5, "=", 3]}]}}`, "pattern.data.n[0].numeric", "holds 6"},
		{`{"data": {"n": [{"numeric": ["!=", 0]}]}}`, "pattern.data.n[0].numeric[0]", "use one of = < <= > >="},
		{`{"data": {"n": [{"numeric": ["==", 0]}]}}`, "pattern.data.n[0].numeric[0]", "is not a comparison"},
		{`{"data": {"n": [{"numeric": [0, ">"]}]}}`, "pattern.data.n[0].numeric[0]", "is not a comparison"},
		{`{"data": {"n": [{"numeric": [">", "0"]}]}}`, "pattern.data.n[0].numeric[1]", "needs a number, is a string"},
		{`{"data": {"n": [{"numeric": ["<", null]}]}}`, "pattern.data.n[0].numeric[1]", "needs a number, is null"},
		{`{"data": {"n": [{"numeric": ["<", 5, ">", 0]}]}}`, "pattern.data.n[0].numeric[0]", "a range names its lower bound first"},
		{`{"data": {"n": [{"numeric": ["=", 5, "<", 9]}]}}`, "pattern.data.n[0].numeric[0]", "use one of > >="},
		{`{"data": {"n": [{"numeric": [">", 5, ">", 9]}]}}`, "pattern.data.n[0].numeric[2]", "use one of < <="},
		{`{"data": {"n": [{"numeric": [">", 5, "<", true]}]}}`, "pattern.data.n[0].numeric[3]", "needs a number, is a boolean"},
		{`{"data": {"n": [{"numeric": [">", 5, "<", 4]}]}}`, "pattern.data.n[0].numeric", "the first bound must be less than the second"},
		{`{"data": {"n": [{"numeric": [">=", 5, "<=", 5.0]}]}}`, "pattern.data.n[0].numeric", `a single number is ["=", …]`},
		{`{"data": {"n": [{"numeric": [">", 0, "<", 0.000001]}]}}`, "pattern.data.n[0].numeric", "the first bound must be less"},
		{`{"data": {"n": [{"numeric": [">", 5000000000.000001]}]}}`, "pattern.data.n[0].numeric[1]", "use -5e9 to 5e9"},
		{`{"data": {"n": [{"numeric": ["<", -5.1e9]}]}}`, "pattern.data.n[0].numeric[1]", "use -5e9 to 5e9"},
		{`{"data": {"n": [{"numeric": ["=", 1e99999999999999999999]}]}}`, "pattern.data.n[0].numeric[1]", "use -5e9 to 5e9"},
		{`{"data": {"n": [{"numeric": ["=", 0.1234567]}]}}`, "pattern.data.n[0].numeric[1]", "more than six decimals"},
		{`{"data": {"n": [{"numeric": ["=", 1e-7]}]}}`, "pattern.data.n[0].numeric[1]", "more than six decimals"},

		// Or.
		{`{"$or": {"type": ["a"]}}`, "pattern.$or", "must be an array of objects, is an object"},
		{`{"$or": "a"}`, "pattern.$or", "must be an array of objects"},
		{`{"$or": []}`, "pattern.$or", "needs at least 2 objects, holds 0"},
		{`{"data": {"$or": [{"a": ["b"]}]}}`, "pattern.data.$or", "needs at least 2 objects, holds 1"},
		{`{"$or": [{"type": ["a"]}, ["b"]]}`, "pattern.$or[1]", "must be an object of fields, is an array"},
		{`{"$or": [{"type": ["a"]}, {}]}`, "pattern.$or[1]", "the object is empty"},
		{`{"$or": [{"type": ["a"]}, {"source": "b"}]}`, "pattern.$or[1].source", "must be an array of alternatives"},
		{`{"$or": [{"type": ["a"]}, {"Source": ["b"]}]}`, "pattern.$or[1].Source", `write "source"`},
		{`{"$or": [{"type": ["a"]}, {"detail": {"a": ["b"]}}]}`, "pattern.$or[1].detail", `write "data"`},
		{`{"$or": [{"type": ["a"], "type": ["b"]}, {"id": ["c"]}]}`, "pattern.$or[0].type", "appears twice"},
		{`{"$or": [{"type": ["a"]}, {"id": ["c"]}], "$or": [{"type": ["a"]}, {"id": ["c"]}]}`, "pattern.$or", "appears twice"},
		{`{"$or": [{"type": [{"numeric": [">", 1]}]}, {"id": [5]}]}`, "pattern.$or[1].id[0]", `write "5"`},
		{`{"data": {"$or": [{"prefix": ["a"]}, {"b": ["b"]}]}}`, "pattern.data.$or[0].prefix", `"prefix" cannot be the name of a field inside $or`},
		{`{"data": {"$or": [{"a": {"regex": ["a"]}}, {"b": ["b"]}]}}`, "pattern.data.$or[0].a.regex", "cannot be the name of a field"},
		{`{"type": [{"$or": ["a", "b"]}]}`, "pattern.type[0].$or", "unknown operator"},
		{`{"type": ["a"], "$or": [{"type": ["b"]}, {"id": ["c"]}]}`, "pattern.$or[0].type", "stands on the same field as pattern.type"},
		{`{"$or": [{"id": ["c"]}, {"type": ["b"]}], "type": ["a"]}`, "pattern.type", "stands on the same field as pattern.$or[1].type"},
		{`{"data": {"a": {"b": [1]}}, "$or": [{"data": {"a": {"c": [1]}}}, {"data": {"a": {"b": [1]}}}]}`, "pattern.$or[1].data.a.b", "stands on the same field as pattern.data.a.b"},
		{`{"data": {"a": {"b": [1]}}, "$or": [{"data": {"a": {"c": [1]}}}, {"data": {"a": [1]}}]}`, "pattern.$or[1].data.a", "stands on the same field as pattern.data.a.b"},
		{`{"$or": [{"data": [1]}, {"type": ["a"]}], "data": {"a": [1]}}`, "pattern.data.a", "stands on the same field as pattern.$or[0].data"},
		{`{"data": {"$or": [{"a": [1]}, {"b": [1], "$or": [{"c": [1]}, {"b": [2]}]}]}}`, "pattern.data.$or[1].$or[1].b", "stands on the same field as pattern.data.$or[1].b"},
		{manyOrs(10, 10, 10, 2), "pattern.data.d.$or", "brings the combinations of all $or to 2000; use at most 1000"},
		{wideOr(), "pattern.data", "comes to more than 65536 conditions"},

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
	text := `{"type": [{"regex": "x"}, []], "source": "s", "data": {"a": [], "b": {"c": [{"prefix": 1}]}}}`
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
		`pattern.type[0].regex @ "reg`,
		`pattern.type[1] @ []],`,
		`pattern.source @ "s",`,
		`pattern.data.a @ [], `,
		`pattern.data.b.c[0].prefix @ 1}]}`,
	}
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// manyOrs gives a pattern with a $or of each of these lengths.
func manyOrs(lengths ...int) string {
	var members []string
	for i, n := range lengths {
		var objects []string
		for j := range n {
			objects = append(objects, fmt.Sprintf(`{"x%d": [1]}`, j))
		}
		members = append(members, fmt.Sprintf(`"%c": {"$or": [%s]}`, 'a'+i, strings.Join(objects, ", ")))
	}
	return `{"data": {` + strings.Join(members, ", ") + `}}`
}

// wideOr gives a pattern with few combinations of very many conditions.
func wideOr() string {
	var fields []string
	for i := range 400 {
		fields = append(fields, fmt.Sprintf(`"f%d": [1]`, i))
	}
	return strings.Replace(manyOrs(10, 10, 10), `{"data": {`, `{"data": {`+strings.Join(fields, ", ")+", ", 1)
}

func TestOrMayMakeAThousandCombinations(t *testing.T) {
	p, err := pattern.Parse(json.RawMessage(manyOrs(10, 10, 10)))
	if err != nil {
		t.Fatal(err)
	}
	for data, want := range map[string]bool{
		`{"a": {"x0": 1}, "b": {"x9": 1}, "c": {"x5": 1}}`:  true,
		`{"a": {"x9": 1}, "b": {"x9": 1}, "c": {"x9": 1}}`:  true,
		`{"a": {"x9": 1}, "b": {"x9": 1}, "c": {"x10": 1}}`: false,
	} {
		if got := p.Match(pattern.NewEvent(nil, []byte(data))); got != want {
			t.Errorf("%s: got %v", data, got)
		}
	}
}

// TestEveryReservedNameIsRefusedInsideOr: EventBridge reads a pattern with one differently, so none may pass.
func TestEveryReservedNameIsRefusedInsideOr(t *testing.T) {
	for _, name := range pattern.Reserved() {
		text := fmt.Sprintf(`{"data": {"$or": [{%q: ["a"]}, {"b": ["b"]}]}}`, name)
		if _, err := pattern.Parse(json.RawMessage(text)); !errors.Is(err, pattern.ErrInvalid) {
			t.Errorf("%s: %v", text, err)
		}
		text = fmt.Sprintf(`{"data": {%q: ["a"]}}`, name)
		if _, err := pattern.Parse(json.RawMessage(text)); err != nil {
			t.Errorf("%s: %v", text, err)
		}
	}
}

// TestWildcardsReadAValueOnce takes what a matcher that goes back and tries again would not finish in a lifetime.
func TestWildcardsReadAValueOnce(t *testing.T) {
	text := fmt.Sprintf(`{"data": [{"wildcard": "%sb"}]}`, strings.Repeat("*a", 4000))
	p, err := pattern.Parse(json.RawMessage(text))
	if err != nil {
		t.Fatal(err)
	}
	if p.Match(pattern.NewEvent(nil, []byte(`"`+strings.Repeat("a", 1<<20)+`"`))) {
		t.Error("fits")
	}
	if !p.Match(pattern.NewEvent(nil, []byte(`"`+strings.Repeat("a", 1<<20)+`b"`))) {
		t.Error("does not fit")
	}
}

func TestRefusedNumbersAreNotExpanded(t *testing.T) {
	p, err := pattern.Parse(json.RawMessage(`{"data": [{"numeric": [">=", 0]}]}`))
	if err != nil {
		t.Fatal(err)
	}
	for data, want := range map[string]bool{
		`1e999999999999`: false, `-1e999999999999`: false, `1e-999999999999`: true, `-0`: true, `0e999999999999`: true, `-1e-999999999`: true,
		`5e9`: true, `5000000000.0000009`: true, `5000000000.000001`: false, `-0.000001`: false, `0.00000000001e20`: true, `0.00000000001e21`: false,
	} {
		if got := p.Match(pattern.NewEvent(nil, []byte(data))); got != want {
			t.Errorf("%s: got %v", data, got)
		}
	}
}
