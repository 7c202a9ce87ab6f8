package program_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"html"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"sync"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/smithy-go/encoding/cbor"

	"github.com/waybillhq/waybill/shared/pattern"
)

// account is an AWS account as the program sees it: SQS and DynamoDB of the running system, and beside them CloudFormation, Lambda, CloudWatch and
// EventBridge, which answer in their own wire forms from what stands here. Tests change it before they run the program.
type account struct {
	local aws.HTTPClient

	outputs   map[string]string
	tags      map[string]string
	resources [][2]string // type and physical id

	mappings  map[string][]object // by ARN of the queue
	aliases   map[string]object   // by name of the function
	variables map[string]string   // of every function

	alarms     map[string]string             // state by name; those that begin with page- are composite
	unarmed    bool                          // composite alarms have no actions
	executions map[string]map[string]float64 // how often, by function and version

	bridge func(fits bool, refused error) (bool, error) // changes what EventBridge says of a pattern; nil: nothing

	mu    sync.Mutex
	calls []string
}

type object = map[string]any

var serviceOfSignature = regexp.MustCompile(`Credential=[^/]+/\d+/[^/]+/([^/]+)/aws4_request`)

// Do answers a call of the SDK.
func (a *account) Do(req *http.Request) (*http.Response, error) {
	found := serviceOfSignature.FindStringSubmatch(req.Header.Get("Authorization"))
	if found == nil {
		return nil, fmt.Errorf("%s %s is not signed", req.Method, req.URL)
	}
	answer, known := map[string]func(*http.Request, []byte) (int, string, []byte){
		"cloudformation": a.cloudFormation, "lambda": a.lambda, "monitoring": a.cloudWatch, "events": a.eventBridge,
	}[found[1]]
	if !known {
		return a.local.Do(req)
	}
	var body []byte
	if req.Body != nil {
		var err error
		if body, err = io.ReadAll(req.Body); err != nil {
			return nil, err
		}
	}
	status, kind, text := answer(req, body)
	header := http.Header{"Content-Type": {kind}}
	if found[1] == "monitoring" {
		header.Set("Smithy-Protocol", "rpc-v2-cbor")
	}
	if found[1] == "lambda" && status == http.StatusNotFound {
		header.Set("X-Amzn-Errortype", "ResourceNotFoundException")
	}
	return &http.Response{
		StatusCode: status, Header: header, Body: io.NopCloser(bytes.NewReader(text)), ContentLength: int64(len(text)), Request: req, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
	}, nil
}

func (a *account) called(name string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.calls = append(a.calls, name)
}

// cloudFormation speaks the Query protocol.
func (a *account) cloudFormation(_ *http.Request, body []byte) (int, string, []byte) {
	form, err := url.ParseQuery(string(body))
	action := form.Get("Action")
	a.called(action)
	const kind = "text/xml"
	refuse := func(code, message string) (int, string, []byte) {
		return 400, kind, fmt.Appendf(nil, `<ErrorResponse xmlns="http://cloudformation.amazonaws.com/doc/2010-05-15/"><Error><Type>Sender</Type><Code>%s</Code><Message>%s</Message></Error><RequestId>1</RequestId></ErrorResponse>`, code, html.EscapeString(message))
	}
	if err != nil || form.Get("Version") != "2010-05-15" {
		return refuse("MalformedQueryString", "no")
	}
	if form.Get("StackName") != "waybill-dev" {
		return refuse("ValidationError", "Stack with id "+form.Get("StackName")+" does not exist")
	}
	var inner strings.Builder
	switch action {
	case "DescribeStacks":
		inner.WriteString("<Stacks><member><StackName>waybill-dev</StackName><StackStatus>CREATE_COMPLETE</StackStatus><CreationTime>2026-11-22T10:00:00Z</CreationTime><Outputs>")
		for key, value := range a.outputs {
			fmt.Fprintf(&inner, "<member><OutputKey>%s</OutputKey><OutputValue>%s</OutputValue></member>", key, html.EscapeString(value))
		}
		inner.WriteString("</Outputs><Tags>")
		for key, value := range a.tags {
			fmt.Fprintf(&inner, "<member><Key>%s</Key><Value>%s</Value></member>", key, value)
		}
		inner.WriteString("</Tags></member></Stacks>")
	case "ListStackResources": // two pages
		half := len(a.resources) / 2
		some := a.resources[:half]
		if form.Get("NextToken") != "" {
			some = a.resources[half:]
		} else {
			inner.WriteString("<NextToken>half</NextToken>")
		}
		inner.WriteString("<StackResourceSummaries>")
		for _, r := range some {
			fmt.Fprintf(&inner, "<member><LogicalResourceId>x</LogicalResourceId><ResourceType>%s</ResourceType><PhysicalResourceId>%s</PhysicalResourceId><ResourceStatus>CREATE_COMPLETE</ResourceStatus><LastUpdatedTimestamp>2026-11-22T10:00:00Z</LastUpdatedTimestamp></member>", r[0], html.EscapeString(r[1]))
		}
		inner.WriteString("</StackResourceSummaries>")
	default:
		return refuse("InvalidAction", action)
	}
	return 200, kind, fmt.Appendf(nil, `<%[1]sResponse xmlns="http://cloudformation.amazonaws.com/doc/2010-05-15/"><%[1]sResult>%[2]s</%[1]sResult><ResponseMetadata><RequestId>1</RequestId></ResponseMetadata></%[1]sResponse>`, action, inner.String())
}

// lambda speaks REST with JSON.
func (a *account) lambda(req *http.Request, _ []byte) (int, string, []byte) {
	const kind = "application/json"
	say := func(status int, what any) (int, string, []byte) {
		text, _ := json.Marshal(what)
		return status, kind, text
	}
	parts := strings.Split(strings.Trim(req.URL.Path, "/"), "/")
	a.called("lambda " + strings.Join(parts[1:], "/"))
	switch {
	case len(parts) == 2 && parts[1] == "event-source-mappings" && req.Method == http.MethodGet:
		return say(200, object{"EventSourceMappings": a.mappings[req.URL.Query().Get("EventSourceArn")]})
	case len(parts) == 5 && parts[3] == "aliases" && parts[4] == "live" && a.aliases[parts[2]] != nil:
		return say(200, a.aliases[parts[2]])
	case len(parts) == 4 && parts[3] == "configuration" && req.URL.Query().Get("Qualifier") == "live":
		return say(200, object{"FunctionName": parts[2], "Environment": object{"Variables": a.variables}})
	}
	return say(404, object{"Type": "User", "Message": "Function not found: " + req.URL.Path})
}

// cloudWatch speaks Smithy's RPC with CBOR.
func (a *account) cloudWatch(req *http.Request, body []byte) (int, string, []byte) {
	const kind = "application/cbor"
	operation := req.URL.Path[strings.LastIndex(req.URL.Path, "/")+1:]
	a.called(operation)
	value, err := cbor.Decode(body)
	in, ok := value.(cbor.Map)
	if err != nil || !ok || req.Header.Get("Smithy-Protocol") != "rpc-v2-cbor" {
		return 400, kind, cbor.Encode(cbor.Map{"__type": cbor.String("SerializationException")})
	}
	switch operation {
	case "DescribeAlarms":
		return 200, kind, cbor.Encode(a.describeAlarms(in))
	case "ListMetrics":
		return 200, kind, cbor.Encode(a.listMetrics(in))
	case "GetMetricData":
		return 200, kind, cbor.Encode(a.metricData(in))
	}
	return 400, kind, cbor.Encode(cbor.Map{"__type": cbor.String("com.amazonaws.cloudwatch#InvalidAction")})
}

func (a *account) describeAlarms(in cbor.Map) cbor.Map {
	metric, composite := cbor.List{}, cbor.List{}
	types := in["AlarmTypes"].(cbor.List)
	for _, name := range in["AlarmNames"].(cbor.List) {
		name := string(name.(cbor.String))
		state, ok := a.alarms[name]
		switch {
		case !ok:
		case !strings.Contains(name, "page-"):
			metric = append(metric, cbor.Map{"AlarmName": cbor.String(name), "StateValue": cbor.String(state)})
		case slices.Contains(types, cbor.Value(cbor.String("CompositeAlarm"))): // AWS tells of them only if they are asked for
			one := cbor.Map{"AlarmName": cbor.String(name), "StateValue": cbor.String(state), "ActionsEnabled": cbor.Bool(true)}
			if !a.unarmed {
				one["AlarmActions"] = cbor.List{cbor.String("arn:aws:sns:us-east-1:000000000000:topic")}
			}
			composite = append(composite, one)
		}
	}
	return cbor.Map{"MetricAlarms": metric, "CompositeAlarms": composite}
}

// dimensions reads those of a metric or a filter; one that names no value filters nothing.
func dimensions(list cbor.Value) map[string]string {
	all := map[string]string{}
	for _, d := range list.(cbor.List) {
		d := d.(cbor.Map)
		value, _ := d["Value"].(cbor.String)
		all[string(d["Name"].(cbor.String))] = string(value)
	}
	return all
}

func (a *account) listMetrics(in cbor.Map) cbor.Map {
	want := dimensions(in["Dimensions"])
	metrics := cbor.List{}
	for version := range a.executions[want["FunctionName"]] {
		var all cbor.List
		for _, d := range [][2]string{{"FunctionName", want["FunctionName"]}, {"Resource", want["Resource"]}, {"ExecutedVersion", version}} {
			all = append(all, cbor.Map{"Name": cbor.String(d[0]), "Value": cbor.String(d[1])})
		}
		metrics = append(metrics, cbor.Map{"Namespace": in["Namespace"], "MetricName": in["MetricName"], "Dimensions": all})
	}
	return cbor.Map{"Metrics": metrics}
}

func (a *account) metricData(in cbor.Map) cbor.Map {
	results := cbor.List{}
	for _, q := range in["MetricDataQueries"].(cbor.List) {
		q := q.(cbor.Map)
		want := dimensions(q["MetricStat"].(cbor.Map)["Metric"].(cbor.Map)["Dimensions"])
		sum := 0.0
		for version, n := range a.executions[want["FunctionName"]] {
			if v, one := want["ExecutedVersion"]; !one || v == version {
				sum += n
			}
		}
		values := cbor.List{}
		if sum > 0 {
			values = cbor.List{cbor.Float64(sum - 1), cbor.Float64(1)}
		}
		results = append(results, cbor.Map{"Id": q["Id"], "Values": values, "StatusCode": cbor.String("Complete")})
	}
	return cbor.Map{"MetricDataResults": results}
}

// eventBridge speaks AWS JSON 1.1. Its patterns are ours under EventBridge's names, because there is no other implementation at hand.
func (a *account) eventBridge(req *http.Request, body []byte) (int, string, []byte) {
	const kind = "application/x-amz-json-1.1"
	a.called(req.Header.Get("X-Amz-Target"))
	var in struct{ EventPattern, Event string }
	if err := json.Unmarshal(body, &in); err != nil || req.Header.Get("X-Amz-Target") != "AWSEvents.TestEventPattern" {
		return 400, kind, []byte(`{"__type":"ValidationException","message":"no"}`)
	}
	var members map[string]json.RawMessage
	if err := json.Unmarshal([]byte(in.Event), &members); err != nil {
		return 400, kind, []byte(`{"__type":"ValidationException","message":"the event is no JSON"}`)
	}
	attributes := map[string]string{}
	for _, name := range []string{"id", "detail-type", "source", "account", "time", "region"} { // all of which AWS demands
		var value string
		if err := json.Unmarshal(members[name], &value); err != nil {
			return 400, kind, fmt.Appendf(nil, `{"__type":"ValidationException","message":"the event has no %s"}`, name)
		}
		attributes[strings.TrimPrefix(name, "detail-")] = value
	}
	ours := strings.NewReplacer(`"detail-type":`, `"type":`, `"detail":`, `"data":`).Replace(in.EventPattern)
	p, err := pattern.Parse(json.RawMessage(ours))
	fits := err == nil && p.Match(pattern.NewEvent(func(yield func(string, string) bool) {
		for name, value := range attributes {
			if !yield(name, value) {
				return
			}
		}
	}, members["detail"]))
	if a.bridge != nil {
		fits, err = a.bridge(fits, err)
	}
	if err != nil {
		return 400, kind, []byte(`{"__type":"InvalidEventPatternException","message":"Event pattern is not valid."}`)
	}
	return 200, kind, fmt.Appendf(nil, `{"Result":%t}`, fits)
}
