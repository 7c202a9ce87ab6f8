package stack_test

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/waybillhq/waybill/shared/topology"
)

// The contract: a template holds what its topology declares, down to each property and permission, and nothing else. It is written out
// here a second time, without CDK, so that neither the stack nor an upgrade of CDK can change what is deployed unnoticed.

func TestTemplateIsTheTopology(t *testing.T) {
	for name, s := range templates(t) {
		t.Run(name, func(t *testing.T) {
			for _, problem := range s.drift() {
				t.Error(problem)
			}
		})
	}
}

// drift compares the template with what the topology asks for.
func (s synthesis) drift() []string {
	want := document{
		"Description": "Waybill: delivers events",
		"Resources":   resources(s.topology),
		"Outputs":     outputs(s.topology),
		// Both belong to CDK's bootstrap stack, whose bucket holds the code; what they say is CDK's affair.
		"Parameters": only(s.template["Parameters"], "BootstrapVersion"),
		"Rules":      only(s.template["Rules"], "CheckBootstrapVersion"),
	}
	return differences("template", decode(encode(want)), s.readable())
}

// only is the part of a section with that key.
func only(section any, key string) document {
	found, _ := section.(document)
	return document{key: found[key]}
}

// resources are keyed by construct path, and so are all references between them.
func resources(t topology.Topology) document {
	all := document{}
	deadLetter := map[topology.QueueName]bool{}
	for _, q := range t.Queues {
		deadLetter[q.DeadLetter] = true
	}
	for _, q := range t.Queues {
		all[queueID(q.Name)] = queueResource(t, q, deadLetter[q.Name])
		all["queue-"+string(q.Name)+"/Policy/Resource"] = resource("AWS::SQS::QueuePolicy", document{
			"Queues": []any{ref(queueID(q.Name))},
			"PolicyDocument": policy(document{
				"Effect": "Deny", "Principal": document{"AWS": "*"}, "Action": "sqs:*", "Resource": arn(queueID(q.Name)),
				"Condition": document{"Bool": document{"aws:SecureTransport": "false"}},
			}),
		})
	}
	for _, table := range t.Tables {
		all[tableID(table.Name)] = tableResource(table)
	}
	for _, f := range t.Functions {
		maps.Copy(all, functionResources(t, f))
	}
	return all
}

func queueResource(t topology.Topology, q topology.Queue, deadLetter bool) document {
	properties := document{
		"SqsManagedSseEnabled":   true,
		"MessageRetentionPeriod": q.Retention.Seconds(),
		"VisibilityTimeout":      t.Visibility(q.Name).Seconds(),
		"RedriveAllowPolicy":     document{"redrivePermission": "denyAll"},
	}
	if deadLetter {
		properties["RedriveAllowPolicy"] = document{"redrivePermission": "allowAll"}
	}
	if q.DeadLetter != "" {
		properties["RedrivePolicy"] = document{"deadLetterTargetArn": arn(queueID(q.DeadLetter)), "maxReceiveCount": q.MaxReceiveCount}
	}
	return retained(resource("AWS::SQS::Queue", properties))
}

func tableResource(table topology.Table) document {
	var attributes, schema []any
	for kind, key := range map[string]topology.Key{"HASH": table.Partition, "RANGE": table.Sort} {
		if key.Name != "" {
			attributes = append(attributes, document{"AttributeName": key.Name, "AttributeType": string(key.Type)})
			schema = append(schema, document{"AttributeName": key.Name, "KeyType": kind})
		}
	}
	properties := document{
		"BillingMode":          "PAY_PER_REQUEST",
		"AttributeDefinitions": sorted(attributes),
		"KeySchema":            sorted(schema),
		"Replicas": []any{document{
			"Region":                           ref("AWS::Region"),
			"PointInTimeRecoverySpecification": document{"PointInTimeRecoveryEnabled": true},
		}},
	}
	if table.TTLAttribute != "" {
		properties["TimeToLiveSpecification"] = document{"AttributeName": table.TTLAttribute, "Enabled": true}
	}
	return retained(resource("AWS::DynamoDB::GlobalTable", properties))
}

func functionResources(t topology.Topology, f topology.Function) document {
	id := "function-" + string(f.Name) + "/"
	logs, role, permissions := id+"logs/Resource", id+"role/Resource", id+"role/DefaultPolicy/Resource"
	function, version, live := id+"function/Resource", id+"function/CurrentVersion/Resource", id+"live/Resource"
	program := resource("AWS::Lambda::Function", document{
		"Runtime": "provided.al2023", "Architectures": []any{"arm64"}, "Handler": "bootstrap",
		"Code": document{
			"S3Bucket": document{"Fn::Sub": "cdk-hnb659fds-assets-${AWS::AccountId}-${AWS::Region}"},
			"S3Key":    "program " + string(f.Name),
		},
		"Role":          arn(role),
		"Timeout":       f.Timeout.Seconds(),
		"MemorySize":    f.MemoryMB,
		"Environment":   document{"Variables": environment(t, f)},
		"LoggingConfig": document{"LogFormat": "JSON", "LogGroup": ref(logs)},
		"TracingConfig": document{"Mode": "Active"},
		"RecursiveLoop": map[bool]string{true: "Allow", false: "Terminate"}[f.RecursiveLoop],
	})
	// Lambda checks that the role may read the queue when the mapping is made, which waits for the alias, and so for this.
	program["DependsOn"] = []any{permissions, role}
	all := document{
		logs: retained(resource("AWS::Logs::LogGroup", document{"RetentionInDays": 30})),
		role: resource("AWS::IAM::Role", document{"AssumeRolePolicyDocument": policy(document{
			"Effect": "Allow", "Principal": document{"Service": "lambda.amazonaws.com"}, "Action": "sts:AssumeRole",
		})}),
		permissions: resource("AWS::IAM::Policy", document{
			"PolicyName": permissions, "Roles": []any{ref(role)},
			"PolicyDocument": document{"Version": "2012-10-17", "Statement": grants(f, logs)},
		}),
		function: program,
		version:  resource("AWS::Lambda::Version", document{"FunctionName": ref(function)}),
		live: resource("AWS::Lambda::Alias", document{
			"Name": "live", "FunctionName": ref(function), "FunctionVersion": attribute(version, "Version"),
		}),
	}
	if f.Source.Queue != "" {
		all[id+"source/Resource"] = mappingResource(f.Source, live)
	}
	if f.Every != 0 {
		maps.Copy(all, scheduleResources(f, id, function, live))
	}
	return all
}

func mappingResource(m topology.Mapping, live string) document {
	properties := document{
		"EventSourceArn": arn(queueID(m.Queue)),
		"FunctionName": document{"Fn::Join": []any{"", []any{ // the name and not the ARN of the function, then the alias
			partOfARN(6, live), ":live",
		}}},
		"FunctionResponseTypes":          []any{"ReportBatchItemFailures"},
		"BatchSize":                      m.BatchSize,
		"MaximumBatchingWindowInSeconds": m.Window.Seconds(),
	}
	if m.MaximumConcurrency != 0 {
		properties["ScalingConfig"] = document{"MaximumConcurrency": m.MaximumConcurrency}
	}
	return resource("AWS::Lambda::EventSourceMapping", properties)
}

// scheduleResources run the alias by the clock, and leave what a failed run did not do to the next one.
func scheduleResources(f topology.Function, id, function, live string) document {
	role, permissions := id+"schedule-role/Resource", id+"schedule-role/DefaultPolicy/Resource"
	once := document{"MaximumRetryAttempts": 0, "MaximumEventAgeInSeconds": 60}
	invocation := document{"FunctionName": ref(function), "Qualifier": partOfARN(7, live)}
	maps.Copy(invocation, once)
	schedule := resource("AWS::Scheduler::Schedule", document{
		"ScheduleExpression": fmt.Sprintf("rate(%v minutes)", f.Every.Minutes()),
		"FlexibleTimeWindow": document{"Mode": "OFF"},
		"Target":             document{"Arn": ref(live), "RoleArn": arn(role), "RetryPolicy": once},
	})
	// The first run needs the permission already.
	schedule["DependsOn"] = []any{permissions, role}
	return document{
		id + "schedule":                        schedule,
		id + "live/EventInvokeConfig/Resource": resource("AWS::Lambda::EventInvokeConfig", invocation),
		role: resource("AWS::IAM::Role", document{"AssumeRolePolicyDocument": policy(document{
			"Effect": "Allow", "Principal": document{"Service": "scheduler.amazonaws.com"}, "Action": "sts:AssumeRole",
			"Condition": document{"StringEquals": document{
				"aws:SourceAccount": ref("AWS::AccountId"),
				"aws:SourceArn": document{"Fn::Join": []any{"", []any{
					"arn:", ref("AWS::Partition"), ":scheduler:", ref("AWS::Region"), ":", ref("AWS::AccountId"), ":schedule-group/default",
				}}},
			}},
		})}),
		permissions: resource("AWS::IAM::Policy", document{
			"PolicyName": permissions, "Roles": []any{ref(role)},
			"PolicyDocument": document{"Version": "2012-10-17", "Statement": document{
				"Allow lambda:InvokeFunction on " + name(ref(live)): true,
			}},
		}),
	}
}

// grants are all that a function may do, one line per operation and resource.
func grants(f topology.Function, logs string) document {
	lines := document{}
	grant := func(resource string, operations ...topology.Operation) {
		for _, operation := range operations {
			lines[fmt.Sprintf("Allow %s on %s", operation, resource)] = true
		}
	}
	grant(logs, "logs:CreateLogStream", "logs:PutLogEvents")
	grant("*", "xray:PutTraceSegments", "xray:PutTelemetryRecords") // X-Ray has no resources
	if f.Source.Queue != "" {
		grant(queueID(f.Source.Queue), "sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:GetQueueAttributes")
	}
	for _, access := range f.Queues {
		grant(queueID(access.Queue), access.Operations...)
	}
	for _, access := range f.Tables {
		grant(tableID(access.Table), access.Operations...)
	}
	return lines
}

func environment(t topology.Topology, f topology.Function) document {
	values := document{
		topology.ProfileVariable:      string(t.Profile),
		topology.DestinationsVariable: "/var/task/destinations.json",
	}
	for _, q := range t.Queues {
		values[q.Name.URLVariable()] = ref(queueID(q.Name))
	}
	for _, table := range t.Tables {
		values[table.Name.NameVariable()] = ref(tableID(table.Name))
	}
	needed := f.Variables()
	maps.DeleteFunc(values, func(name string, _ any) bool { return !slices.Contains(needed, name) })
	return values
}

// outputs tell whoever deploys where to send events and where to look for dead letters.
func outputs(t topology.Topology) document {
	all := document{}
	camel := func(name string) string {
		var id string
		for word := range strings.SplitSeq(name, "-") {
			id += strings.ToUpper(word[:1]) + word[1:]
		}
		return id
	}
	for _, q := range t.Queues {
		all["Queue"+camel(string(q.Name))+"Url"] = document{"Description": "URL of queue " + string(q.Name), "Value": ref(queueID(q.Name))}
	}
	for _, table := range t.Tables {
		all["Table"+camel(string(table.Name))] = document{"Description": "Name of table " + string(table.Name), "Value": ref(tableID(table.Name))}
	}
	return all
}

func queueID(name topology.QueueName) string { return "queue-" + string(name) + "/Resource" }
func tableID(name topology.TableName) string { return "table-" + string(name) + "/Resource" }

func resource(kind string, properties document) document {
	return document{"Type": kind, "Properties": properties}
}

// retained resources outlive their stack, except one whose creation fails.
func retained(r document) document {
	r["DeletionPolicy"], r["UpdateReplacePolicy"] = "RetainExceptOnCreate", "Retain"
	return r
}

func policy(statement document) document {
	return document{"Version": "2012-10-17", "Statement": []any{statement}}
}

func ref(id string) document             { return document{"Ref": id} }
func attribute(id, name string) document { return document{"Fn::GetAtt": []any{id, name}} }
func arn(id string) document             { return attribute(id, "Arn") }

// partOfARN is one of the parts between the colons of an ARN, which is what a reference to an alias gives.
func partOfARN(part int, id string) document {
	return document{"Fn::Select": []any{part, document{"Fn::Split": []any{":", ref(id)}}}}
}

// sorted puts a list whose order has no meaning, or one only, into the order of its text.
func sorted(list []any) []any {
	slices.SortFunc(list, func(a, b any) int { return strings.Compare(string(encode(a)), string(encode(b))) })
	return list
}

// readable is the template in the form that resources has: construct paths for logical ids, permissions line by line, programs for the
// hashes of assets.
func (s synthesis) readable() document {
	template := s.copy().template
	resources := template["Resources"].(document)
	paths := map[string]string{}
	for id, r := range resources {
		paths[id] = path(id, r.(document))
	}
	template = rename(template, paths).(document)
	readable := document{}
	for id, r := range resources {
		r := rename(r, paths).(document)
		delete(r, "Metadata")
		properties := r["Properties"].(document)
		switch r["Type"] {
		case "AWS::IAM::Policy":
			policy := properties["PolicyDocument"].(document)
			policy["Statement"] = lines(policy["Statement"].([]any))
		case "AWS::Lambda::Function":
			code := properties["Code"].(document)
			code["S3Key"] = "program " + s.programs[fmt.Sprint(code["S3Key"])]
		case "AWS::DynamoDB::GlobalTable":
			properties["AttributeDefinitions"] = sorted(properties["AttributeDefinitions"].([]any))
			properties["KeySchema"] = sorted(properties["KeySchema"].([]any))
		}
		readable[paths[id]] = r
	}
	template["Resources"] = readable
	return decode(encode(template))
}

// path is a resource's construct path within the stack. One that has none keeps its logical id, which no expectation has.
func path(id string, resource document) string {
	metadata, _ := resource["Metadata"].(document)
	if path, ok := metadata["aws:cdk:path"].(string); ok {
		return strings.TrimPrefix(path, "waybill/")
	}
	return id
}

// rename puts a path in place of every string that is a logical id. Ids end in a hash, so that nothing else is taken for one.
func rename(v any, paths map[string]string) any {
	switch v := v.(type) {
	case string:
		if path, ok := paths[v]; ok {
			return path
		}
	case []any:
		for i := range v {
			v[i] = rename(v[i], paths)
		}
	case document:
		for key := range v {
			v[key] = rename(v[key], paths)
		}
	}
	return v
}

// lines spells a policy out in the form of grants. A statement that is not of that form, such as one with NotAction, stays as it is.
func lines(statements []any) document {
	out := document{}
	for _, s := range statements {
		statement := s.(document)
		if keys := slices.Sorted(maps.Keys(statement)); !slices.Equal(keys, []string{"Action", "Effect", "Resource"}) {
			out[string(encode(statement))] = true
			continue
		}
		for _, action := range list(statement["Action"]) {
			for _, on := range list(statement["Resource"]) {
				out[fmt.Sprintf("%v %v on %s", statement["Effect"], action, name(on))] = true
			}
		}
	}
	return out
}

// list is what a policy means where it allows one or many.
func list(v any) []any {
	if many, ok := v.([]any); ok {
		return many
	}
	return []any{v}
}

// name is the resource whose ARN v is, or else v as text.
func name(v any) string {
	switch v := v.(type) {
	case string:
		return v
	case document:
		if get, ok := v["Fn::GetAtt"].([]any); ok && len(get) == 2 && get[1] == "Arn" {
			return fmt.Sprint(get[0])
		}
	}
	return string(encode(v))
}

// differences names every place where got is not what is wanted.
func differences(at string, want, got any) []string {
	wanted, ok1 := want.(document)
	found, ok2 := got.(document)
	if !ok1 || !ok2 {
		if reflect.DeepEqual(want, got) {
			return nil
		}
		return []string{fmt.Sprintf("%s is %s, want %s", at, encode(got), encode(want))}
	}
	var all []string
	for _, key := range slices.Sorted(maps.Keys(wanted)) {
		if value, ok := found[key]; ok {
			all = append(all, differences(at+"."+key, wanted[key], value)...)
		} else {
			all = append(all, fmt.Sprintf("%s.%s is missing", at, key))
		}
	}
	for _, key := range slices.Sorted(maps.Keys(found)) {
		if _, ok := wanted[key]; !ok {
			all = append(all, fmt.Sprintf("%s.%s is there, and nothing declares it", at, key))
		}
	}
	return all
}
