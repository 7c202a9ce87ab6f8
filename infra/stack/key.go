package stack

import (
	"fmt"

	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsiam"
	"github.com/aws/aws-cdk-go/awscdk/v2/awskms"
	"github.com/aws/jsii-runtime-go"

	"github.com/waybillhq/waybill/shared/topology"
)

// Services that encrypt with the key on behalf of others, as kms:ViaService names them.
const (
	viaSQS            = "sqs"
	viaDynamoDB       = "dynamodb"
	viaSecretsManager = "secretsmanager"
	viaSSM            = "ssm"
)

// What each use of the key takes. What DynamoDB asks for as kms:ReEncrypt* and kms:GenerateDataKey* is spelled out for roles: each stands for two operations.
// Source: https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-key-management.html
// Source: https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/encryption.usagenotes.html
// Source: https://docs.aws.amazon.com/AmazonCloudWatch/latest/logs/encrypt-log-data-kms.html
var (
	keyReceive    = [...]topology.Operation{"kms:Decrypt"}
	keySend       = [...]topology.Operation{"kms:Decrypt", "kms:GenerateDataKey"}
	keyReadTable  = [...]topology.Operation{"kms:Decrypt", "kms:DescribeKey"}
	keyWriteTable = [...]topology.Operation{
		"kms:Decrypt", "kms:DescribeKey", "kms:Encrypt", "kms:ReEncryptFrom", "kms:ReEncryptTo", "kms:GenerateDataKey", "kms:GenerateDataKeyWithoutPlaintext",
	}
	keyLog = [...]topology.Operation{"kms:Encrypt", "kms:Decrypt", "kms:ReEncrypt*", "kms:GenerateDataKey*", "kms:DescribeKey"}
)

// addKey adds the key of the stack, if it is to have one. Principals of the account need what their own policies say; the key's policy
// lets in who has none: CloudWatch Logs, and the senders.
func (b *builder) addKey() {
	if !b.props.CustomerKey {
		return
	}
	b.key = awskms.NewKey(b.Stack, jsii.String("key"), &awskms.KeyProps{
		Description:       jsii.String("Waybill: queues, tables and logs"),
		EnableKeyRotation: jsii.Bool(true),
		// Kept queues and tables cannot be read without it.
		RemovalPolicy: b.removal(),
	})
	b.key.AddToResourcePolicy(awsiam.NewPolicyStatement(&awsiam.PolicyStatementProps{
		Principals: &[]awsiam.IPrincipal{b.service("logs." + *b.Region() + ".amazonaws.com")},
		Actions:    actions(keyLog[:]),
		Resources:  jsii.Strings("*"), // in a key's policy: this key
		Conditions: &map[string]any{"ArnLike": map[string]any{
			"kms:EncryptionContext:aws:logs:arn": b.arn("logs", "log-group", ":", *b.StackName()+"-*"),
		}},
	}), nil)
	for _, s := range b.senders() {
		b.key.AddToResourcePolicy(awsiam.NewPolicyStatement(&awsiam.PolicyStatementProps{
			Principals: &s.principals,
			Actions:    actions(keySend[:]),
			Resources:  jsii.Strings("*"),
			// Who may send to which queue is the queue's policy to say. Here it is enough that it is a queue of this account, which SQS tells;
			// the one queue cannot be named, because it needs the key first.
			Conditions: &map[string]any{"ArnLike": map[string]any{"kms:EncryptionContext:aws:sqs:arn": b.arn("sqs", "*", "", "")}},
		}), nil)
	}
	b.output("KeyArn", b.key.KeyArn(), "ARN of the key")
}

// allowKey lets a role use the key for what it does on queues and tables, through their services only.
func (b *builder) allowKey(role awsiam.Role, f topology.Function) {
	if b.key == nil {
		return
	}
	switch {
	case len(f.Queues) > 0:
		b.allowVia(role, b.key.KeyArn(), keySend[:], viaSQS)
	case f.Source.Queue != "":
		b.allowVia(role, b.key.KeyArn(), keyReceive[:], viaSQS)
	}
	switch {
	case writes(f):
		b.allowVia(role, b.key.KeyArn(), keyWriteTable[:], viaDynamoDB)
	case len(f.Tables) > 0:
		b.allowVia(role, b.key.KeyArn(), keyReadTable[:], viaDynamoDB)
	}
}

// allowVia allows operations of KMS on a key, when the named services make the call.
func (b *builder) allowVia(role awsiam.Role, key *string, operations []topology.Operation, services ...string) {
	via := make([]string, len(services))
	for i, service := range services {
		via[i] = fmt.Sprintf("%s.%s.amazonaws.com", service, *b.Region())
	}
	role.AddToPrincipalPolicy(awsiam.NewPolicyStatement(&awsiam.PolicyStatementProps{
		Actions:    actions(operations),
		Resources:  &[]*string{key},
		Conditions: &map[string]any{"StringEquals": map[string]any{"kms:ViaService": via}},
	}))
}

// writes says whether a function does more to tables than read them.
func writes(f topology.Function) bool {
	for _, access := range f.Tables {
		for _, operation := range access.Operations {
			switch operation {
			case topology.GetItem, topology.BatchGetItem, topology.Query, topology.Scan:
			default:
				return true
			}
		}
	}
	return false
}

// arn is the ARN of something in the stack's account and region.
func (b *builder) arn(service, resource, separator, name string) *string {
	components := &awscdk.ArnComponents{Service: jsii.String(service), Resource: jsii.String(resource)}
	if name == "" {
		components.ArnFormat = awscdk.ArnFormat_NO_RESOURCE_NAME
		return b.FormatArn(components)
	}
	components.ResourceName, components.ArnFormat = jsii.String(name), awscdk.ArnFormat_SLASH_RESOURCE_NAME
	if separator == ":" {
		components.ArnFormat = awscdk.ArnFormat_COLON_RESOURCE_NAME
	}
	return b.FormatArn(components)
}

func (b *builder) service(name string) awsiam.IPrincipal {
	return awsiam.NewServicePrincipal(jsii.String(name), nil)
}
