package program

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatch"
	metrictypes "github.com/aws/aws-sdk-go-v2/service/cloudwatch/types"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	lambdatypes "github.com/aws/aws-sdk-go-v2/service/lambda/types"
	awssqs "github.com/aws/aws-sdk-go-v2/service/sqs"
	sqstypes "github.com/aws/aws-sdk-go-v2/service/sqs/types"

	"github.com/waybillhq/waybill/shared/topology"
)

const deployAgain = "deploy the stack again; if somebody has changed this by hand, `make diff` does not see it: change it back by hand"

// settings looks at the system at rest. It changes nothing.
func (s *session) settings(ctx context.Context) {
	t := topology.New(topology.LowLatency) // the profiles differ in nothing that is looked at here, except where a value is a minimum
	s.tell(ctx, "alarms", s.alarms)
	for _, q := range t.Queues {
		s.tell(ctx, "queue "+string(q.Name), func(ctx context.Context) verdict { return s.queue(ctx, t, q) })
	}
	for _, table := range t.Tables {
		s.tell(ctx, "table "+string(table.Name), func(ctx context.Context) verdict { return s.table(ctx, table) })
	}
	for _, f := range t.Functions {
		if f.Source.Queue != "" {
			s.tell(ctx, "mapping "+string(f.Name), func(ctx context.Context) verdict { return s.mapping(ctx, f) })
		}
	}
}

// attributes gives all attributes of a queue.
func (s *session) attributes(ctx context.Context, name topology.QueueName) (map[string]string, error) {
	out, err := s.queuesAPI.GetQueueAttributes(ctx, &awssqs.GetQueueAttributesInput{
		QueueUrl: aws.String(s.queues[name]), AttributeNames: []sqstypes.QueueAttributeName{sqstypes.QueueAttributeNameAll},
	})
	if err != nil {
		return nil, fmt.Errorf("queue %s: %w", name, err)
	}
	return out.Attributes, nil
}

// redrivePolicy is the form of that attribute. SQS writes the number as a number, and takes it as a text, too.
type redrivePolicy struct {
	DeadLetterTargetARN string          `json:"deadLetterTargetArn"`
	MaxReceiveCount     json.RawMessage `json:"maxReceiveCount"`
}

func (s *session) queue(ctx context.Context, t topology.Topology, q topology.Queue) verdict {
	have, err := s.attributes(ctx, q.Name)
	if err != nil {
		return unanswered(err)
	}
	var wrong []string
	need := func(ok bool, format string, args ...any) {
		if !ok {
			wrong = append(wrong, fmt.Sprintf(format, args...))
		}
	}
	need(have["SqsManagedSseEnabled"] == "true" || have["KmsMasterKeyId"] != "", "messages are not encrypted at rest")
	need(have["MessageRetentionPeriod"] == strconv.Itoa(int(q.Retention.Seconds())), "retention is %s s, not %v", have["MessageRetentionPeriod"], q.Retention)
	visibility, _ := strconv.ParseFloat(have["VisibilityTimeout"], 64)
	need(visibility >= t.Visibility(q.Name).Seconds(), "the visibility timeout is %v s, less than %v", visibility, t.Visibility(q.Name))
	need(s.local || strings.Contains(have["Policy"], "aws:SecureTransport"), "no policy demands TLS")
	if q.DeadLetter == "" {
		need(have["RedrivePolicy"] == "", "it has a redrive policy, so looking at its messages counts against them")
	} else {
		dead, err := s.attributes(ctx, q.DeadLetter)
		if err != nil {
			return unanswered(err)
		}
		var policy redrivePolicy
		_ = json.Unmarshal([]byte(cmp.Or(have["RedrivePolicy"], "{}")), &policy) // broken: as if there were none
		need(policy.DeadLetterTargetARN == dead["QueueArn"], "poison goes to %q, not to %s", policy.DeadLetterTargetARN, dead["QueueArn"])
		need(strings.Trim(string(policy.MaxReceiveCount), `"`) == strconv.Itoa(q.MaxReceiveCount), "poison goes after %s receives, not after %d", policy.MaxReceiveCount, q.MaxReceiveCount)
	}
	if len(wrong) > 0 {
		return failed("the queue as it is declared", list(wrong), deployAgain)
	}
	if q.DeadLetter == "" {
		return holds("encrypted, %v retention", q.Retention)
	}
	return holds("encrypted, %v retention, poison to %s after %d receives", q.Retention, q.DeadLetter, q.MaxReceiveCount)
}

func (s *session) table(ctx context.Context, t topology.Table) verdict {
	name := aws.String(s.tables[t.Name])
	table, err := s.tablesAPI.DescribeTable(ctx, &dynamodb.DescribeTableInput{TableName: name})
	if err != nil {
		return unanswered(err)
	}
	ttl, err := s.tablesAPI.DescribeTimeToLive(ctx, &dynamodb.DescribeTimeToLiveInput{TableName: name})
	if err != nil {
		return unanswered(err)
	}
	var wrong, right []string
	need := func(ok bool, format string, args ...any) {
		if !ok {
			wrong = append(wrong, fmt.Sprintf(format, args...))
		}
	}
	need(table.Table.TableStatus == types.TableStatusActive, "its status is %s", table.Table.TableStatus)
	d := ttl.TimeToLiveDescription
	if t.TTLAttribute == "" {
		need(d.AttributeName == nil, "rows are deleted by %q, where none may be", aws.ToString(d.AttributeName))
		right = append(right, "no TTL")
	} else {
		need(d.TimeToLiveStatus == types.TimeToLiveStatusEnabled && aws.ToString(d.AttributeName) == t.TTLAttribute,
			"TTL is %s, by %q and not by %s", d.TimeToLiveStatus, aws.ToString(d.AttributeName), t.TTLAttribute)
		right = append(right, "TTL by "+t.TTLAttribute)
	}
	if !s.local {
		backups, err := s.tablesAPI.DescribeContinuousBackups(ctx, &dynamodb.DescribeContinuousBackupsInput{TableName: name})
		if err != nil {
			return unanswered(err)
		}
		on := backups.ContinuousBackupsDescription != nil && backups.ContinuousBackupsDescription.PointInTimeRecoveryDescription != nil &&
			backups.ContinuousBackupsDescription.PointInTimeRecoveryDescription.PointInTimeRecoveryStatus == types.PointInTimeRecoveryStatusEnabled
		need(on, "point-in-time recovery is off")
		right = append(right, "point-in-time recovery")
	}
	if len(wrong) > 0 {
		return failed("the table as it is declared", list(wrong), deployAgain)
	}
	return holds("active, %s", strings.Join(right, ", "))
}

// noFunctions says why nothing can be asked about functions, "" if it can.
func (s *session) noFunctions(f topology.FunctionName) string {
	switch {
	case s.local:
		return "the local system has no Lambda that could be asked"
	case s.functions[f] == "":
		return fmt.Sprintf("nothing tells which function it is: deploy this release, whose output %s does, or set %s", topology.Output(f.AliasVariable()), f.AliasVariable())
	}
	return ""
}

// mapping looks at what feeds a function. It must name the alias: with the function itself a release would not go through its canary, nor back.
func (s *session) mapping(ctx context.Context, f topology.Function) verdict {
	if why := s.noFunctions(f.Name); why != "" {
		return skipped("%s", why)
	}
	queue, err := s.attributes(ctx, f.Source.Queue)
	if err != nil {
		return unanswered(err)
	}
	out, err := s.functionAPI.ListEventSourceMappings(ctx, &lambda.ListEventSourceMappingsInput{EventSourceArn: aws.String(queue["QueueArn"])})
	if err != nil {
		return unanswered(err)
	}
	if n := len(out.EventSourceMappings); n != 1 {
		return failed("one mapping that reads "+string(f.Source.Queue), strconv.Itoa(n), deployAgain)
	}
	m := out.EventSourceMappings[0]
	var wrong []string
	if got := aws.ToString(m.FunctionArn); got != s.functions[f.Name] {
		wrong = append(wrong, fmt.Sprintf("it invokes %s, not the alias %s", got, s.functions[f.Name]))
	}
	if got := aws.ToString(m.State); got != "Enabled" {
		wrong = append(wrong, "its state is "+got)
	}
	if !slices.Contains(m.FunctionResponseTypes, lambdatypes.FunctionResponseTypeReportBatchItemFailures) {
		wrong = append(wrong, "it does not report single failures of a batch: one failed message returns its neighbours, delivered ones included")
	}
	if len(wrong) > 0 {
		return failed("an enabled mapping that reports single failures and invokes the alias", list(wrong), deployAgain)
	}
	return holds("enabled, batches of %d, invokes the alias", aws.ToInt32(m.BatchSize))
}

// mostAlarms is how many CloudWatch describes by name in a call.
const mostAlarms = 100

// alarms looks whether those of the stack are there, would call somebody, and are silent.
func (s *session) alarms(ctx context.Context) verdict {
	if len(s.resources) == 0 {
		return skipped("without a stack nobody knows which alarms there should be")
	}
	wanted := map[string]bool{} // by name: whether it calls somebody
	for _, r := range s.resources {
		if composite := r.kind == "AWS::CloudWatch::CompositeAlarm"; composite || r.kind == "AWS::CloudWatch::Alarm" {
			wanted[r.id] = composite
		}
	}
	switch {
	case len(wanted) == 0 && !s.alarmed:
		return skipped("the stack has no alarms, because its options name nobody who is called")
	case len(wanted) == 0:
		return failed("alarms, because there is a topic for them", "none", deployAgain)
	}
	found, err := s.describeAlarms(ctx, wanted)
	if err != nil {
		return unanswered(err)
	}
	return judgeAlarms(wanted, found)
}

// alarmNow is an alarm as CloudWatch has it.
type alarmNow struct {
	state metrictypes.StateValue
	calls bool
}

func (s *session) describeAlarms(ctx context.Context, wanted map[string]bool) (map[string]alarmNow, error) {
	found := map[string]alarmNow{}
	var names []string
	for name := range wanted {
		names = append(names, name)
	}
	slices.Sort(names)
	for some := range slices.Chunk(names, mostAlarms) {
		out, err := s.metricsAPI.DescribeAlarms(ctx, &cloudwatch.DescribeAlarmsInput{
			AlarmNames: some, AlarmTypes: []metrictypes.AlarmType{metrictypes.AlarmTypeMetricAlarm, metrictypes.AlarmTypeCompositeAlarm}, MaxRecords: aws.Int32(mostAlarms),
		})
		if err != nil {
			return nil, err
		}
		for _, a := range out.MetricAlarms {
			found[aws.ToString(a.AlarmName)] = alarmNow{a.StateValue, true}
		}
		for _, a := range out.CompositeAlarms {
			found[aws.ToString(a.AlarmName)] = alarmNow{a.StateValue, aws.ToBool(a.ActionsEnabled) && len(a.AlarmActions) > 0}
		}
	}
	return found, nil
}

func judgeAlarms(wanted map[string]bool, found map[string]alarmNow) verdict {
	var missing, raised, silent []string
	blind := 0
	for name, pages := range wanted {
		a, ok := found[name]
		switch {
		case !ok:
			missing = append(missing, name)
		case a.state == metrictypes.StateValueAlarm:
			raised = append(raised, name)
		case pages && !a.calls:
			silent = append(silent, name)
		case a.state == metrictypes.StateValueInsufficientData:
			blind++
		}
	}
	for _, names := range [][]string{missing, raised, silent} {
		slices.Sort(names)
	}
	const expected = "all alarms of the stack, none of them raised"
	switch {
	case len(missing) > 0:
		return failed(expected, "these are gone: "+list(missing), deployAgain)
	case len(raised) > 0:
		return failed(expected, "raised: "+list(raised), "go by their runbooks first: infra/runbooks")
	case len(silent) > 0:
		return failed(expected, "these would call nobody: "+list(silent), "enable their actions again: aws cloudwatch enable-alarm-actions")
	}
	return holds("%d, none raised, %d without data yet", len(wanted), blind)
}
