package picture_test

import (
	"encoding/xml"
	"errors"
	"io"
	"os"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/waybillhq/waybill/scripts/dashboard/picture"
)

// fixture is a stack of one queue and one function. Its titles and names are not what a stack would choose.
const fixture = `{"Resources": {
	"queueA1": {"Type": "AWS::SQS::Queue", "Metadata": {"aws:cdk:path": "waybill/queue-ingress/Resource"}},
	"functionB2": {"Type": "AWS::Lambda::Function", "Metadata": {"aws:cdk:path": "waybill/function-router/function/Resource"}},
	"logsC3": {"Type": "AWS::Logs::LogGroup", "Metadata": {"aws:cdk:path": "waybill/function-router/logs/Resource"}},
	"pageD4": {"Type": "AWS::CloudWatch::CompositeAlarm", "Metadata": {"aws:cdk:path": "waybill/alarms/page-function-errors"}},
	"ruleE5": {"Type": "AWS::CloudWatch::InsightRule", "Properties": {"RuleName": "waybill-failing", "RuleBody": {"Fn::Join": ["", [
		"{\"Contribution\":{\"Filters\":[{\"In\":[\"attempt failed\"],\"Match\":\"$.message\"}],\"Keys\":[\"$.destination\"]},\"LogGroupNames\":[\"", {"Ref": "logsC3"}, "\"]}"]]}}},
	"boardF6": {"Type": "AWS::CloudWatch::Dashboard", "Properties": {"DashboardBody": {"Fn::Join": ["", [
		"{\"widgets\":[{\"type\":\"alarm\",\"x\":0,\"y\":0,\"width\":12,\"height\":3,\"properties\":{\"title\":\"Pages\",\"alarms\":[\"", {"Fn::GetAtt": ["pageD4", "Arn"]}, "\"]}},",
		"{\"type\":\"text\",\"x\":12,\"y\":0,\"width\":12,\"height\":3,\"properties\":{\"markdown\":\"See [the book](javascript:alert(1))\"}},",
		"{\"type\":\"metric\",\"x\":0,\"y\":3,\"width\":8,\"height\":5,\"properties\":{\"title\":\"<b>Depth</b> & \\\"more\\\"\",\"metrics\":[",
		"[\"AWS/SQS\",\"Visible\",\"QueueName\",\"", {"Fn::GetAtt": ["queueA1", "QueueName"]}, "\",{\"label\":\"deep\",\"stat\":\"Maximum\"}],",
		"[\"AWS/SQS\",\"Quiet\",\"QueueName\",\"", {"Fn::GetAtt": ["queueA1", "QueueName"]}, "\",{\"label\":\"quiet\",\"stat\":\"Maximum\"}]]}},",
		"{\"type\":\"metric\",\"x\":8,\"y\":3,\"width\":8,\"height\":5,\"properties\":{\"title\":\"Sums\",\"stacked\":true,\"metrics\":[",
		"[\"Waybill\",\"Accepted\",\"Service\",\"waybill-prod\",\"Function\",\"", {"Ref": "functionB2"}, "\",{\"id\":\"m0\",\"visible\":false,\"stat\":\"Sum\"}],",
		"[\"Waybill\",\"Lost\",\"Function\",\"", {"Ref": "functionB2"}, "\",{\"id\":\"m1\",\"visible\":false,\"stat\":\"Sum\"}],",
		"[{\"expression\":\"SUM([m0,m1])*0.5\",\"id\":\"e0\",\"label\":\"half\"}]]}},",
		"{\"type\":\"metric\",\"x\":16,\"y\":3,\"width\":8,\"height\":5,\"properties\":{\"title\":\"Failing\",\"insightRule\":{\"ruleName\":\"waybill-failing\",\"maxContributorCount\":2}}}]}"
	]]}}}
}}`

const recorded = `{"_aws":{"Timestamp":1000000,"CloudWatchMetrics":[{"Namespace":"AWS/SQS","Dimensions":[["QueueName"]],"Metrics":[{"Name":"Visible"}]}]},"QueueName":"ingress","Visible":0}
{"_aws":{"Timestamp":1004000,"CloudWatchMetrics":[{"Namespace":"AWS/SQS","Dimensions":[["QueueName"]],"Metrics":[{"Name":"Visible"}]}]},"QueueName":"ingress","Visible":10}
{"_aws":{"Timestamp":1004000,"CloudWatchMetrics":[{"Namespace":"Waybill","Dimensions":[["Service","Function"]],"Metrics":[{"Name":"Accepted"}]}]},"Service":"waybill","Function":"router","Accepted":[30,10]}

{"timestamp":"1970-01-01T00:16:41Z","message":"attempt failed","function":"router","destination":"a<script>"}
{"timestamp":"1970-01-01T00:16:42Z","message":"attempt failed","function":"router","destination":"b"}
{"timestamp":"1970-01-01T00:16:42Z","message":"attempt failed","function":"router","destination":"b"}
{"timestamp":"1970-01-01T00:16:42Z","message":"attempt failed","function":"router","destination":"b"}
{"timestamp":"1970-01-01T00:16:43Z","message":"attempt failed","function":"router","destination":"a<script>"}
{"timestamp":"1970-01-01T00:16:43Z","message":"attempt failed","function":"router","destination":"too few"}
{"timestamp":"1970-01-01T00:16:43Z","message":"attempt failed","function":"other","destination":"elsewhere"}
{"timestamp":"1970-01-01T00:16:43Z","message":"sent","function":"router","destination":"other line"}
`

// shapes are what a picture consists of.
type shapes struct {
	texts   string // one a line
	classes map[string]int
	paths   map[string]string // by class
}

func draw(t *testing.T, template, run string) shapes {
	t.Helper()
	parsed, err := picture.ParseTemplate([]byte(template))
	if err != nil {
		t.Fatal(err)
	}
	board, err := picture.ParseBoard(parsed)
	if err != nil {
		t.Fatal(err)
	}
	r, err := picture.ReadRun(strings.NewReader(run))
	if err != nil {
		t.Fatal(err)
	}
	s := shapes{classes: map[string]int{}, paths: map[string]string{}}
	for d := xml.NewDecoder(strings.NewReader(string(picture.Draw(board, r)))); ; {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			return s
		}
		if err != nil {
			t.Fatalf("not XML: %v", err)
		}
		switch token := token.(type) {
		case xml.StartElement:
			attributes := map[string]string{}
			for _, a := range token.Attr {
				attributes[a.Name.Local] = a.Value
			}
			if name := token.Name.Local; name == "script" || name == "a" || name == "image" || attributes["href"] != "" {
				t.Errorf("a picture must not have %s %v", name, attributes)
			}
			s.classes[attributes["class"]]++
			if d := attributes["d"]; d != "" {
				s.paths[attributes["class"]] = d
			}
		case xml.CharData:
			s.texts += string(token) + "\n"
		}
	}
}

func TestPicture(t *testing.T) {
	s := draw(t, fixture, recorded)
	for _, want := range []string{"\nfunction-errors\n", "See the book", `<b>Depth</b> & "more"`, "\ndeep\n", "\nquiet: no data\n", "\nhalf\n", "\nb (3)\n", "\na<script> (2)\n"} {
		if !strings.Contains(s.texts, want) {
			t.Errorf("%q is missing in\n%s", want, s.texts)
		}
	}
	for _, not := range []string{"javascript", "too few", "elsewhere", "other line"} {
		if strings.Contains(s.texts, not) {
			t.Errorf("%q should not be in\n%s", not, s.texts)
		}
	}
	if s.classes["box"] != 5 || s.classes["tile"] != 1 {
		t.Errorf("%v", s.classes)
	}
	if s.paths["l s0"] == "" || s.paths["a s0"] == "" {
		t.Errorf("lines and areas are missing: %v", s.paths)
	}
	// 30 and 10, halved, are 20: the axis ends there.
	if !strings.Contains(s.texts, "\n20\n") || strings.Contains(s.texts, "\n40\n") {
		t.Errorf("the sum is not drawn at 20:\n%s", s.texts)
	}
}

// A picture without a run shows that nothing is known, and no zero.
func TestPictureWithoutRun(t *testing.T) {
	s := draw(t, fixture, "")
	if n := strings.Count(s.texts, "no data"); n < 6 || s.paths["l s0"] != "" || s.paths["a s0"] != "" {
		t.Errorf("%d × no data, %v in\n%s", n, s.paths, s.texts)
	}
}

// The reviewed templates can be drawn: whatever the stack writes, the program understands.
func TestReviewedTemplatesCanBeDrawn(t *testing.T) {
	for _, file := range []string{"dev", "prod-everything"} {
		text, err := os.ReadFile("../../../infra/stack/testdata/" + file + ".template.json")
		if err != nil {
			t.Fatal(err)
		}
		if s := draw(t, string(text), ""); s.classes["box"] < 20 || strings.Contains(s.texts, "Fn::") {
			t.Errorf("%s: %v", file, s.classes)
		}
	}
}

func TestWhatIsNotUnderstoodIsAnError(t *testing.T) {
	for name, change := range map[string][2]string{
		"the template has no resource":  {`"queueA1": {`, `"queueZ9": {`},
		"is no expression":              {`SUM([m0,m1])*0.5`, `FILL(m0,0)`},
		"which stands nowhere":          {`SUM([m0,m1])`, `SUM([m0,m7])`},
		"is not on the grid":            {`\"x\":16`, `\"x\":17`},
		"the template has no rule":      {`"RuleName": "waybill-failing"`, `"RuleName": "other"`},
		"is no function that is known":  {`{"Ref": "logsC3"}`, `{"Fn::ImportValue": "logsC3"}`},
		"want a separator and a list":   {`{"Fn::Join": ["", [`, `{"Fn::Join": [["`},
		"its body is not as CloudWatch": {`\"width\":12`, `\"width\":\"wide\"`},
		"widgets on dashboards":         {`AWS::CloudWatch::Dashboard`, `AWS::CloudWatch::Other`},
	} {
		text := strings.Replace(fixture, change[0], change[1], 1)
		if change[0] == `{"Fn::Join": ["", [` {
			text = strings.Replace(fixture, `"RuleBody": {"Fn::Join": ["", [`, `"RuleBody": {"Fn::Join": [1, [`, 1)
		}
		parsed, err := picture.ParseTemplate([]byte(text))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := picture.ParseBoard(parsed); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("want an error with %q, got %v", name, err)
		}
	}
	for run, want := range map[string]string{"{}": "has no time", "no": "line 1", "\n{\"time\":\"x\"}": "line 2"} {
		if _, err := picture.ReadRun(strings.NewReader(run)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: want an error with %q, got %v", run, want, err)
		}
	}
}

func TestResolve(t *testing.T) {
	parsed, err := picture.ParseTemplate([]byte(fixture))
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		value any
		want  string
	}{
		{"plain", "plain"}, {3.5, "3.5"},
		{map[string]any{"Ref": "queueA1"}, "ingress"},
		{map[string]any{"Ref": "ruleE5"}, "ruleE5"}, // has no path
		{map[string]any{"Ref": "AWS::Region"}, "AWS::Region"},
		{map[string]any{"Fn::GetAtt": []any{"pageD4", "Arn"}}, "function-errors"},
		{map[string]any{"Fn::GetAtt": "functionB2.Arn"}, "router"},
		{map[string]any{"Fn::Sub": "${AWS::Region}/${queueA1}/${logsC3.Arn}/${!this}"}, "AWS::Region/ingress/router/logs/${this}"},
		{map[string]any{"Fn::Sub": []any{"${a}-${queueA1}", map[string]any{"a": map[string]any{"Ref": "functionB2"}}}}, "router-ingress"},
		{map[string]any{"Fn::Join": []any{"-", []any{"a", map[string]any{"Ref": "queueA1"}, 1.0}}}, "a-ingress-1"},
	} {
		if got, err := parsed.Resolve(test.value); err != nil || got != test.want {
			t.Errorf("%v: %q, %v, want %q", test.value, got, err, test.want)
		}
	}
	for _, broken := range []any{nil, []any{}, map[string]any{}, map[string]any{"Ref": 1.0}, map[string]any{"Ref": "x"}, map[string]any{"Fn::Sub": "${x}"}, map[string]any{"Fn::GetAtt": []any{"x"}}} {
		if got, err := parsed.Resolve(broken); err == nil {
			t.Errorf("%v is resolved to %q", broken, got)
		}
	}
}

// FuzzTemplate: no template and no run makes the program fall over, and whatever it draws is XML.
func FuzzTemplate(f *testing.F) {
	f.Add(fixture, recorded)
	f.Add(`{"Resources":{"a":{"Type":"AWS::CloudWatch::Dashboard","Properties":{"DashboardBody":{"Fn::Sub":["${x}${!y}${a.b}",{"x":"{}"}]}}}}}`, "{}")
	f.Fuzz(func(t *testing.T, template, run string) {
		parsed, err := picture.ParseTemplate([]byte(template))
		if err != nil {
			return
		}
		board, err := picture.ParseBoard(parsed)
		if err != nil {
			return
		}
		r, err := picture.ReadRun(strings.NewReader(run))
		if err != nil {
			return
		}
		svg := picture.Draw(board, r)
		if !utf8.Valid(svg) {
			t.Fatal("not UTF-8")
		}
		for d := xml.NewDecoder(strings.NewReader(string(svg))); ; {
			if _, err := d.Token(); errors.Is(err, io.EOF) {
				return
			} else if err != nil {
				t.Fatalf("%v in\n%s", err, svg)
			}
		}
	})
}
