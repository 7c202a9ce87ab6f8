package stack_test

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/waybillhq/waybill/infra/stack"
	"github.com/waybillhq/waybill/shared/topology"
)

// The contract: a template holds what its topology declares and its options choose, down to each property and permission, and nothing else.
// It is written out here a second time, without CDK, so that neither the stack nor an upgrade of CDK can change what is deployed
// unnoticed. The routes and subnets of a network are CDK's to lay out; network_test.go says what must be true of them.

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
	c := contract{Props: s.props, prod: s.props.Stage == stack.Prod, dashboard: s.dashboardBody()}
	c.Topology = c.chosen()
	want := document{
		"Description": "Waybill: delivers events",
		"Resources":   c.resources(),
		"Outputs":     c.outputs(),
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

// contract says what props must become.
type contract struct {
	stack.Props

	prod      bool
	dashboard any // what is in it, which dashboard_test.go looks at
}

// chosen is the topology with what the options change in it.
func (c contract) chosen() topology.Topology {
	t := c.Topology
	if c.hasCanary() {
		t = t.WithCanary()
	}
	t.Functions = slices.Clone(t.Functions)
	for i, f := range t.Functions {
		if n := c.Functions[f.Name].MaximumConcurrency; n != 0 {
			t.Functions[i].Source.MaximumConcurrency = n
		}
		if c.Functions[f.Name].Pollers != nil {
			t.Functions[i].Source.MaximumConcurrency = 0
		}
	}
	return t
}

// resources are keyed by construct path, and so are all references between them.
func (c contract) resources() document {
	all := document{}
	deadLetter := map[topology.QueueName]bool{}
	for _, q := range c.Topology.Queues {
		deadLetter[q.DeadLetter] = true
	}
	for _, q := range c.Topology.Queues {
		all[queueID(q.Name)] = c.queueResource(q, deadLetter[q.Name])
		all["queue-"+string(q.Name)+"/Policy/Resource"] = resource("AWS::SQS::QueuePolicy", document{
			"Queues": []any{ref(queueID(q.Name))},
			"PolicyDocument": policy(append([]any{document{
				"Effect": "Deny", "Principal": document{"AWS": "*"}, "Action": "sqs:*", "Resource": arn(queueID(q.Name)),
				"Condition": document{"Bool": document{"aws:SecureTransport": "false"}},
			}}, c.queueStatements(q.Name)...)...),
		})
	}
	for _, table := range c.Topology.Tables {
		all[tableID(table.Name)] = c.tableResource(table)
	}
	for _, f := range c.Topology.Functions {
		maps.Copy(all, c.functionResources(f))
	}
	if c.hasCanary() {
		maps.Copy(all, c.canaryResources())
	}
	all["releases/Resource"] = resource("AWS::CodeDeploy::Application", document{"ComputePlatform": "Lambda"})
	if c.CustomerKey {
		all[keyID] = c.keyResource()
	}
	if c.Network != nil {
		maps.Copy(all, c.networkResources())
	}
	maps.Copy(all, c.queryResources())
	maps.Copy(all, c.dashboardResources())
	if c.tells() {
		maps.Copy(all, c.alarmResources())
		maps.Copy(all, c.topicResources())
	}
	return all
}

func (c contract) queueResource(q topology.Queue, deadLetter bool) document {
	properties := document{
		"MessageRetentionPeriod": q.Retention.Seconds(),
		"VisibilityTimeout":      c.Topology.Visibility(q.Name).Seconds(),
		"RedriveAllowPolicy":     document{"redrivePermission": "denyAll"},
	}
	if c.CustomerKey {
		properties["KmsMasterKeyId"], properties["KmsDataKeyReusePeriodSeconds"] = arn(keyID), 3600
	} else {
		properties["SqsManagedSseEnabled"] = true
	}
	if deadLetter {
		properties["RedriveAllowPolicy"] = document{"redrivePermission": "allowAll"}
	}
	if q.DeadLetter != "" {
		properties["RedrivePolicy"] = document{"deadLetterTargetArn": arn(queueID(q.DeadLetter)), "maxReceiveCount": q.MaxReceiveCount}
	}
	return c.kept(resource("AWS::SQS::Queue", properties))
}

// queueStatements let the senders send to the ingress queue, each held to what was named.
func (c contract) queueStatements(name topology.QueueName) []any {
	var all []any
	allow := func(principal, condition document) {
		statement := document{"Effect": "Allow", "Principal": principal, "Action": "sqs:SendMessage", "Resource": arn(queueID(name))}
		if condition != nil {
			statement["Condition"] = condition
		}
		all = append(all, statement)
	}
	if name != topology.Ingress {
		return nil
	}
	if topics := c.Senders.Topics; topics != nil {
		allow(document{"Service": "sns.amazonaws.com"}, document{"ArnEquals": document{"aws:SourceArn": topics}})
	}
	if rules := c.Senders.Rules; rules != nil {
		allow(document{"Service": "events.amazonaws.com"}, document{"ArnEquals": document{"aws:SourceArn": rules}})
	}
	buckets := map[string][]any{}
	for _, bucket := range c.Senders.Buckets {
		buckets[bucket.Account] = append(buckets[bucket.Account], bucket.ARN)
	}
	for _, owner := range slices.Sorted(maps.Keys(buckets)) {
		allow(document{"Service": "s3.amazonaws.com"}, document{
			"ArnEquals": document{"aws:SourceArn": buckets[owner]}, "StringEquals": document{"aws:SourceAccount": owner},
		})
	}
	if c.Senders.Accounts != nil {
		allow(document{"AWS": c.roots()}, nil)
	}
	return all
}

// roots are the accounts that may send.
func (c contract) roots() (all []any) {
	for _, account := range c.Senders.Accounts {
		all = append(all, root(account))
	}
	return all
}

func (c contract) tableResource(table topology.Table) document {
	var attributes, schema []any
	for kind, key := range map[string]topology.Key{"HASH": table.Partition, "RANGE": table.Sort} {
		if key.Name != "" {
			attributes = append(attributes, document{"AttributeName": key.Name, "AttributeType": string(key.Type)})
			schema = append(schema, document{"AttributeName": key.Name, "KeyType": kind})
		}
	}
	replica := document{
		"Region":                           ref("AWS::Region"),
		"PointInTimeRecoverySpecification": document{"PointInTimeRecoveryEnabled": true},
		"DeletionProtectionEnabled":        c.prod,
	}
	properties := document{
		"BillingMode":          "PAY_PER_REQUEST",
		"AttributeDefinitions": sorted(attributes),
		"KeySchema":            sorted(schema),
		"Replicas":             []any{replica},
	}
	if table.TTLAttribute != "" {
		properties["TimeToLiveSpecification"] = document{"AttributeName": table.TTLAttribute, "Enabled": true}
	}
	if p := c.Tables[table.Name].Provisioned; p != nil {
		scaling := func(r stack.Range) document {
			target := 70
			if p.Utilization != 0 {
				target = p.Utilization
			}
			return document{
				"MinCapacity": r.Min, "MaxCapacity": r.Max, "SeedCapacity": r.Max, "TargetTrackingScalingPolicyConfiguration": document{"TargetValue": target},
			}
		}
		properties["BillingMode"] = "PROVISIONED"
		properties["WriteProvisionedThroughputSettings"] = document{"WriteCapacityAutoScalingSettings": scaling(p.Write)}
		replica["ReadProvisionedThroughputSettings"] = document{"ReadCapacityAutoScalingSettings": scaling(p.Read)}
	}
	if warm := c.Tables[table.Name].Warm; warm != nil {
		properties["WarmThroughput"] = document{"ReadUnitsPerSecond": warm.Read, "WriteUnitsPerSecond": warm.Write}
	}
	if c.CustomerKey {
		properties["SSESpecification"] = document{"SSEEnabled": true, "SSEType": "KMS"}
		replica["SSESpecification"] = document{"KMSMasterKeyId": arn(keyID)}
	}
	r := c.kept(resource("AWS::DynamoDB::GlobalTable", properties))
	if c.prod {
		r["DeletionPolicy"] = "Retain" // it refuses to be deleted, so that with RetainExceptOnCreate no creation could be rolled back
	}
	return r
}

const keyID = "key/Resource"

// keyResource is the key, which beside the account lets in only who has no policy of its own to say so.
func (c contract) keyResource() document {
	allow := func(principal, condition document, actions ...string) document {
		return document{"Effect": "Allow", "Principal": principal, "Action": actions, "Resource": "*", "Condition": document{"ArnLike": condition}}
	}
	statements := []any{
		document{"Effect": "Allow", "Principal": document{"AWS": root(ref("AWS::AccountId"))}, "Action": "kms:*", "Resource": "*"},
		allow(document{"Service": join("logs.", ref("AWS::Region"), ".amazonaws.com")},
			document{"kms:EncryptionContext:aws:logs:arn": here("logs", "log-group:waybill-*")},
			"kms:Encrypt", "kms:Decrypt", "kms:ReEncrypt*", "kms:GenerateDataKey*", "kms:DescribeKey"),
	}
	send := func(principal document) {
		statements = append(statements, allow(principal, document{"kms:EncryptionContext:aws:sqs:arn": here("sqs", "*")}, "kms:Decrypt", "kms:GenerateDataKey"))
	}
	for service, there := range map[string]bool{"sns": c.Senders.Topics != nil, "events": c.Senders.Rules != nil, "s3": c.Senders.Buckets != nil} {
		if there {
			send(document{"Service": service + ".amazonaws.com"})
		}
	}
	if c.Senders.Accounts != nil {
		send(document{"AWS": c.roots()})
	}
	if c.tells() {
		statements = append(statements, publishing("kms:Decrypt", "kms:GenerateDataKey*"))
	}
	return c.kept(resource("AWS::KMS::Key", document{
		"Description": "Waybill: queues, tables and logs", "EnableKeyRotation": true,
		"KeyPolicy": document{"Version": "2012-10-17", "Statement": sorted(statements)},
	}))
}

// networkResources are those of the network that are not CDK's to lay out.
func (c contract) networkResources() document {
	group := resource("AWS::EC2::SecurityGroup", document{
		"GroupDescription": "Functions that call destinations: out by TCP, nothing in", "VpcId": ref("network/vpc/Resource"),
		"SecurityGroupEgress": []any{document{
			"CidrIp": "0.0.0.0/0", "IpProtocol": "tcp", "FromPort": 0, "ToPort": 65535, "Description": "Destinations and AWS",
		}},
	})
	var roles []any // stay until the last interface was given back
	for _, f := range c.Topology.Functions {
		if f.Secrets {
			id := "function-" + string(f.Name) + "/role/"
			roles = append(roles, id+"DefaultPolicy/Resource", id+"Resource")
		}
	}
	group["DependsOn"] = roles
	all := document{"network/logs/Resource": c.logsResource(), "network/group/Resource": group}
	for i := range c.addresses() {
		all[fmt.Sprintf("network/address-%d", i+1)] = c.kept(resource("AWS::EC2::EIP", document{"Domain": "vpc"}))
	}
	return all
}

// addresses is how many the stack makes.
func (c contract) addresses() int {
	if c.Network == nil || c.Network.Allocations != nil {
		return 0
	}
	return max(c.Network.Gateways, 1)
}

func (c contract) logsResource() document {
	properties := document{"RetentionInDays": 14}
	if c.prod {
		properties["RetentionInDays"] = 90
	}
	if c.LogDays != 0 {
		properties["RetentionInDays"] = c.LogDays
	}
	if c.CustomerKey {
		properties["KmsKeyId"] = arn(keyID)
	}
	return c.kept(resource("AWS::Logs::LogGroup", properties))
}

func (c contract) functionResources(f topology.Function) document {
	id := "function-" + string(f.Name) + "/"
	logs, role, permissions := id+"logs/Resource", id+"role/Resource", id+"role/DefaultPolicy/Resource"
	function, version, live := id+"function/Resource", id+"function/CurrentVersion/Resource", id+"live/Resource"
	levels := document{"LogFormat": "JSON", "LogGroup": ref(logs), "ApplicationLogLevel": "INFO", "SystemLogLevel": "INFO"}
	if c.prod {
		levels["SystemLogLevel"] = "WARN"
	}
	if c.LogLevel < 0 {
		levels["ApplicationLogLevel"] = "DEBUG"
	}
	properties := document{
		"Runtime": "provided.al2023", "Architectures": []any{"arm64"}, "Handler": "bootstrap",
		"Code": document{
			"S3Bucket": document{"Fn::Sub": "cdk-hnb659fds-assets-${AWS::AccountId}-${AWS::Region}"},
			"S3Key":    c.files(f),
		},
		"Role":          arn(role),
		"Timeout":       f.Timeout.Seconds(),
		"MemorySize":    f.MemoryMB,
		"Environment":   document{"Variables": c.environment(f)},
		"LoggingConfig": levels,
		"TracingConfig": document{"Mode": "Active"},
		"RecursiveLoop": map[bool]string{true: "Allow", false: "Terminate"}[f.RecursiveLoop],
	}
	if reserved := c.reserved(f); reserved != 0 {
		properties["ReservedConcurrentExecutions"] = reserved
	}
	// Lambda checks that the role may read the queue when the mapping is made, which waits for the alias, and so for this.
	after := []any{permissions, role}
	published := resource("AWS::Lambda::Version", document{"FunctionName": ref(function)})
	if c.Network != nil && f.Secrets {
		properties["VpcConfig"] = document{
			"SecurityGroupIds": []any{attribute("network/group/Resource", "GroupId")},
			"SubnetIds":        []any{ref("network/vpc/functionsSubnet1/Subnet"), ref("network/vpc/functionsSubnet2/Subnet")},
		}
		// The way out is there before anyone takes it.
		var routes []any
		for _, subnet := range []string{"1", "2"} {
			for _, part := range []string{"DefaultRoute", "RouteTableAssociation"} {
				routes = append(routes, "network/vpc/functionsSubnet"+subnet+"/"+part)
			}
		}
		after, published["DependsOn"] = append(after, routes...), routes
	}
	program := resource("AWS::Lambda::Function", properties)
	program["DependsOn"] = after
	all := document{
		logs: c.logsResource(),
		role: resource("AWS::IAM::Role", document{"AssumeRolePolicyDocument": policy(document{
			"Effect": "Allow", "Principal": document{"Service": "lambda.amazonaws.com"}, "Action": "sts:AssumeRole",
		})}),
		permissions: resource("AWS::IAM::Policy", document{
			"PolicyName": permissions, "Roles": []any{ref(role)},
			"PolicyDocument": document{"Version": "2012-10-17", "Statement": c.grants(f, logs)},
		}),
		function: program,
		version:  c.kept(published),
		live: releasedAlias(f, resource("AWS::Lambda::Alias", document{
			"Name": "live", "FunctionName": ref(function), "FunctionVersion": attribute(version, "Version"),
		})),
	}
	maps.Copy(all, c.releaseResources(f))
	if f.Source.Queue != "" {
		all[id+"source/Resource"] = c.mappingResource(f, live)
	}
	if f.Every != 0 {
		maps.Copy(all, scheduleResources(f, id, function, live))
	}
	return all
}

// files are what a function is deployed with: its program, and a destinations file for one that reads destinations.
func (c contract) files(f topology.Function) document {
	files := document{"bootstrap": "-rwxr-xr-x " + string(f.Name)}
	if c.Destinations != "" && readsRegistry(f) {
		files["destinations.json"] = "-rw-r--r-- {\"destinations\": []}\n"
	}
	return files
}

func readsRegistry(f topology.Function) bool {
	return slices.ContainsFunc(f.Tables, func(a topology.TableAccess) bool { return a.Table == topology.Registry })
}

// reserved is two more than the source can ask for, in prod; or what was chosen.
func (c contract) reserved(f topology.Function) int {
	options := c.Functions[f.Name]
	switch {
	case options.ReservedConcurrency != 0:
		return options.ReservedConcurrency
	case !c.prod:
		return 0
	case f.Every != 0:
		return 1 + 2
	case options.Pollers != nil:
		return 10*options.Pollers.Max + 2
	case f.Source.MaximumConcurrency != 0:
		return f.Source.MaximumConcurrency + 2
	}
	return 0
}

func (c contract) mappingResource(f topology.Function, live string) document {
	properties := document{
		"EventSourceArn": arn(queueID(f.Source.Queue)),
		"FunctionName": document{"Fn::Join": []any{"", []any{ // the name and not the ARN of the function, then the alias
			partOfARN(6, live), ":live",
		}}},
		"FunctionResponseTypes":          []any{"ReportBatchItemFailures"},
		"BatchSize":                      f.Source.BatchSize,
		"MaximumBatchingWindowInSeconds": f.Source.Window.Seconds(),
	}
	if f.Source.MaximumConcurrency != 0 {
		properties["ScalingConfig"] = document{"MaximumConcurrency": f.Source.MaximumConcurrency}
	}
	if pollers := c.Functions[f.Name].Pollers; pollers != nil {
		properties["ProvisionedPollerConfig"] = document{"MinimumPollers": pollers.Min, "MaximumPollers": pollers.Max}
	}
	return resource("AWS::Lambda::EventSourceMapping", properties)
}

// scheduleResources run the alias by the clock, and leave what a failed run did not do to the next one.
func scheduleResources(f topology.Function, id, function, live string) document {
	role, permissions, group := id+"schedule-role/Resource", id+"schedule-role/DefaultPolicy/Resource", id+"schedule-group"
	once := document{"MaximumRetryAttempts": 0, "MaximumEventAgeInSeconds": 60}
	invocation := document{"FunctionName": ref(function), "Qualifier": partOfARN(7, live)}
	maps.Copy(invocation, once)
	schedule := resource("AWS::Scheduler::Schedule", document{
		"GroupName":          ref(group),
		"ScheduleExpression": fmt.Sprintf("rate(%v minutes)", f.Every.Minutes()),
		"FlexibleTimeWindow": document{"Mode": "OFF"},
		"Target":             document{"Arn": ref(live), "RoleArn": arn(role), "RetryPolicy": once},
	})
	// The first run needs the permission already.
	schedule["DependsOn"] = []any{permissions, role}
	return document{
		id + "schedule":                        schedule,
		group:                                  document{"Type": "AWS::Scheduler::ScheduleGroup"},
		id + "live/EventInvokeConfig/Resource": resource("AWS::Lambda::EventInvokeConfig", invocation),
		role: resource("AWS::IAM::Role", document{"AssumeRolePolicyDocument": policy(document{
			"Effect": "Allow", "Principal": document{"Service": "scheduler.amazonaws.com"}, "Action": "sts:AssumeRole",
			"Condition": document{"StringEquals": document{"aws:SourceAccount": ref("AWS::AccountId"), "aws:SourceArn": arn(group)}},
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
func (c contract) grants(f topology.Function, logs string) document {
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
	if f.Secrets {
		if c.Secrets == nil {
			grant(name(here("secretsmanager", "secret:waybill/*")), "secretsmanager:GetSecretValue")
			grant(name(here("ssm", "parameter/waybill/*")), "ssm:GetParameter")
		}
		for _, secret := range c.Secrets {
			operation := map[bool]topology.Operation{true: "secretsmanager:GetSecretValue", false: "ssm:GetParameter"}
			grant(secret, operation[strings.Contains(secret, ":secretsmanager:")])
		}
	}
	maps.Copy(lines, c.keyGrants(f))
	maps.Copy(lines, c.canaryGrants(f))
	if c.Network != nil && f.Secrets {
		for _, operation := range []topology.Operation{"CreateNetworkInterface", "DescribeNetworkInterfaces", "DescribeSubnets",
			"DeleteNetworkInterface", "AssignPrivateIpAddresses", "UnassignPrivateIpAddresses"} {
			grant("*", "ec2:"+operation) // Lambda makes interfaces that have no names yet, but the function itself must not
			lines[fmt.Sprintf(`Deny ec2:%s on * if {"Null":{"lambda:SourceFunctionArn":"false"}}`, operation)] = true
		}
	}
	return lines
}

// keyGrants are for keys, each through the service only that encrypts with it.
func (c contract) keyGrants(f topology.Function) document {
	lines := document{}
	grant := func(key string, operations []string, services ...string) {
		var via []any
		for _, service := range services {
			via = append(via, join(service+".", ref("AWS::Region"), ".amazonaws.com"))
		}
		condition := encode(document{"StringEquals": document{"kms:ViaService": via}})
		for _, operation := range operations {
			lines[fmt.Sprintf("Allow kms:%s on %s if %s", operation, key, condition)] = true
		}
	}
	if c.CustomerKey && len(f.Queues) > 0 {
		grant(keyID, []string{"Decrypt", "GenerateDataKey"}, "sqs")
	} else if c.CustomerKey && f.Source.Queue != "" {
		grant(keyID, []string{"Decrypt"}, "sqs")
	}
	if c.CustomerKey && len(f.Tables) > 0 {
		grant(keyID, []string{"Decrypt", "DescribeKey"}, "dynamodb")
		for _, access := range f.Tables {
			for _, operation := range access.Operations {
				switch operation {
				case topology.GetItem, topology.BatchGetItem, topology.Query, topology.Scan:
				default:
					grant(keyID, []string{"Encrypt", "ReEncryptFrom", "ReEncryptTo", "GenerateDataKey", "GenerateDataKeyWithoutPlaintext"}, "dynamodb")
				}
			}
		}
	}
	if f.Secrets {
		for _, key := range c.SecretKeys {
			grant(key, []string{"Decrypt"}, "secretsmanager", "ssm")
		}
	}
	return lines
}

func (c contract) environment(f topology.Function) document {
	values := document{
		"WAYBILL_PROFILE":   string(c.Topology.Profile),
		"WAYBILL_LOG_LEVEL": strings.ToLower(c.LogLevel.String()),
		"WAYBILL_SERVICE":   "waybill", // the stack's name in these tests
	}
	for _, access := range f.Queues {
		values[access.Queue.URLVariable()] = ref(queueID(access.Queue))
	}
	for _, access := range f.Tables {
		values[access.Table.NameVariable()] = ref(tableID(access.Table))
	}
	maps.Copy(values, c.canaryEnvironment(f))
	if c.Destinations != "" && readsRegistry(f) {
		values["WAYBILL_DESTINATIONS_FILE"] = "/var/task/destinations.json"
	}
	if c.Tenant != "" && f.Source.Queue == topology.Ingress {
		values["WAYBILL_TENANT"] = c.Tenant
	}
	if c.EgressAllow != nil && f.Secrets {
		values["WAYBILL_EGRESS_ALLOW"] = "10.1.0.0/16,10.2.3.4/32"
	}
	return values
}

// outputs tell whoever deploys where to send events, where to look for dead letters, and what others must know.
func (c contract) outputs() document {
	all := document{}
	output := func(id string, value document, description string) {
		all[id] = document{"Description": description, "Value": value}
	}
	camel := func(name string) string {
		var id string
		for word := range strings.SplitSeq(name, "-") {
			id += strings.ToUpper(word[:1]) + word[1:]
		}
		return id
	}
	for _, q := range c.Topology.Queues {
		output("Queue"+camel(string(q.Name))+"Url", ref(queueID(q.Name)), "URL of queue "+string(q.Name))
	}
	for _, table := range c.Topology.Tables {
		output("Table"+camel(string(table.Name)), ref(tableID(table.Name)), "Name of table "+string(table.Name))
	}
	for _, f := range c.Topology.Functions {
		output("Function"+camel(string(f.Name)), ref("function-"+string(f.Name)+"/live/Resource"), "ARN of the alias under which function "+string(f.Name)+" runs")
	}
	all["Stage"] = document{"Description": "Stage of the stack", "Value": string(c.Stage)}
	if c.CustomerKey {
		output("KeyArn", arn(keyID), "ARN of the key")
	}
	for i := range c.addresses() {
		output(fmt.Sprintf("EgressAddress%d", i+1), attribute(fmt.Sprintf("network/address-%d", i+1), "PublicIp"), "Address that deliveries come from")
	}
	if c.tells() {
		output("AlarmTopicArn", ref(topicID), "ARN of the topic on which alarms are published")
	}
	output("DashboardUrl", join("https://", ref("AWS::Region"), ".console.aws.amazon.com/cloudwatch/home?region=", ref("AWS::Region"),
		"#dashboards/dashboard/", ref(dashboardID)), "The dashboard, for a browser")
	return all
}

func queueID(name topology.QueueName) string { return "queue-" + string(name) + "/Resource" }
func tableID(name topology.TableName) string { return "table-" + string(name) + "/Resource" }

func resource(kind string, properties document) document {
	return document{"Type": kind, "Properties": properties}
}

// kept resources outlive their stack in prod, except one whose creation fails.
func (c contract) kept(r document) document {
	r["DeletionPolicy"], r["UpdateReplacePolicy"] = "Delete", "Delete"
	if c.prod {
		r["DeletionPolicy"], r["UpdateReplacePolicy"] = "RetainExceptOnCreate", "Retain"
	}
	return r
}

func policy(statements ...any) document {
	return document{"Version": "2012-10-17", "Statement": statements}
}

func join(parts ...any) document { return document{"Fn::Join": []any{"", parts}} }

// here is the ARN of something in the stack's account and region.
func here(service, resource string) document {
	return join("arn:", ref("AWS::Partition"), ":"+service+":", ref("AWS::Region"), ":", ref("AWS::AccountId"), ":"+resource)
}

// root stands for all of an account.
func root(account any) document {
	if id, ok := account.(string); ok {
		return join("arn:", ref("AWS::Partition"), ":iam::"+id+":root")
	}
	return join("arn:", ref("AWS::Partition"), ":iam::", account, ":root")
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

// readable is the template in the form that resources has: construct paths for logical ids, permissions line by line, files for the
// hashes of assets, and without what CDK lays out of a network.
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
		if strings.HasPrefix(paths[id], "network/vpc/") {
			continue
		}
		r := rename(r, paths).(document)
		delete(r, "Metadata")
		properties, _ := r["Properties"].(document)
		switch r["Type"] {
		case "AWS::IAM::Policy":
			policy := properties["PolicyDocument"].(document)
			policy["Statement"] = lines(policy["Statement"].([]any))
		case "AWS::Lambda::Function":
			code := properties["Code"].(document)
			code["S3Key"] = s.programs[fmt.Sprint(code["S3Key"])]
		case "AWS::KMS::Key":
			policy := properties["KeyPolicy"].(document)
			policy["Statement"] = sorted(policy["Statement"].([]any))
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
		var condition string
		keys := slices.Sorted(maps.Keys(statement))
		if len(keys) == 4 && keys[1] == "Condition" {
			condition = " if " + string(encode(statement["Condition"]))
			keys = slices.Delete(keys, 1, 2)
		}
		if !slices.Equal(keys, []string{"Action", "Effect", "Resource"}) {
			out[string(encode(statement))] = true
			continue
		}
		for _, action := range list(statement["Action"]) {
			for _, on := range list(statement["Resource"]) {
				out[fmt.Sprintf("%v %v on %s%s", statement["Effect"], action, name(on), condition)] = true
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
