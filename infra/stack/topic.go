package stack

import (
	"crypto/sha256"
	"encoding/hex"

	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awschatbot"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsiam"
	"github.com/aws/aws-cdk-go/awscdk/v2/awskms"
	"github.com/aws/aws-cdk-go/awscdk/v2/awssns"
	"github.com/aws/constructs-go/constructs/v10"
	"github.com/aws/jsii-runtime-go"

	"github.com/waybillhq/waybill/shared/topology"
)

// keyPublish is what CloudWatch needs to publish to an encrypted topic.
// Source: https://docs.aws.amazon.com/sns/latest/dg/sns-key-management.html
var keyPublish = [...]topology.Operation{"kms:Decrypt", "kms:GenerateDataKey*"}

// pagerRetries has SNS try a URL that does not answer for about half an hour. Left to itself it gives up after three retries, which is a minute, and a page that
// is raised does not call again. All retries together must end within an hour.
// Source: https://docs.aws.amazon.com/sns/latest/dg/sns-message-delivery-retries.html
func pagerRetries() map[string]any {
	return map[string]any{
		"healthyRetryPolicy": map[string]any{"numRetries": 50, "minDelayTarget": 20, "maxDelayTarget": 60, "backoffFunction": "linear"},
	}
}

// addTopic adds the topic on which pages are published, encrypted with a key that lets CloudWatch in, which no key of AWS does.
func (b *builder) addTopic(scope constructs.Construct) *string {
	key := b.key
	if key == nil {
		key = awskms.NewKey(scope, jsii.String("key"), &awskms.KeyProps{
			Description:       jsii.String("Waybill: alarms"),
			EnableKeyRotation: jsii.Bool(true),
			RemovalPolicy:     awscdk.RemovalPolicy_DESTROY, // nothing that is kept is encrypted with it
		})
	}
	cloudwatch := b.service("cloudwatch.amazonaws.com")
	conditions := &map[string]any{
		"StringEquals": map[string]any{"aws:SourceAccount": b.Account()},
		"ArnLike":      map[string]any{"aws:SourceArn": b.arn("cloudwatch", "alarm", ":", *b.StackName()+"-*")},
	}
	key.AddToResourcePolicy(awsiam.NewPolicyStatement(&awsiam.PolicyStatementProps{
		Principals: &[]awsiam.IPrincipal{cloudwatch}, Actions: actions(keyPublish[:]), Resources: jsii.Strings("*"), Conditions: conditions,
	}), nil)
	topic := awssns.NewTopic(scope, jsii.String("topic"), &awssns.TopicProps{
		DisplayName: jsii.String("Waybill alarms of " + *b.StackName()), MasterKey: key, EnforceSSL: jsii.Bool(true),
	})
	topic.AddToResourcePolicy(awsiam.NewPolicyStatement(&awsiam.PolicyStatementProps{
		Principals: &[]awsiam.IPrincipal{cloudwatch}, Actions: jsii.Strings("sns:Publish"), Resources: &[]*string{topic.TopicArn()}, Conditions: conditions,
	}))
	subscribe := func(protocol string, endpoints []string, retries any) {
		for _, endpoint := range endpoints {
			awssns.NewCfnSubscription(scope, jsii.String(protocol+"-"+digest(endpoint)), &awssns.CfnSubscriptionProps{
				TopicArn: topic.TopicArn(), Protocol: jsii.String(protocol), Endpoint: jsii.String(endpoint), DeliveryPolicy: retries,
			})
		}
	}
	subscribe("email", b.props.Alarms.Email, nil) // SNS has its own retries for it, over six hours
	subscribe("https", b.props.Alarms.HTTPS, pagerRetries())
	b.addSlack(scope, topic)
	b.output("AlarmTopicArn", topic.TopicArn(), "ARN of the topic on which alarms are published")
	return topic.TopicArn()
}

// digest tells endpoints apart in logical ids, where a place in a list would not do: once the first of the list is gone, CloudFormation would subscribe the second
// anew, which SNS takes for the subscription that is there, and then end it as the one that is listed no more.
func digest(endpoint string) string {
	sum := sha256.Sum256([]byte(endpoint))
	return hex.EncodeToString(sum[:4])
}

// addSlack puts pages into channels of Slack. The role has no permissions: a page says all that is needed, and what people ask for in a
// channel is nobody's to do with this stack's role.
func (b *builder) addSlack(scope constructs.Construct, topic awssns.Topic) {
	channels := b.props.Alarms.Slack
	if len(channels) == 0 {
		return
	}
	role := awsiam.NewRole(scope, jsii.String("slack-role"), &awsiam.RoleProps{AssumedBy: b.service("chatbot.amazonaws.com")})
	for _, c := range channels {
		id := "slack-" + c.Channel
		awschatbot.NewCfnSlackChannelConfiguration(scope, jsii.String(id), &awschatbot.CfnSlackChannelConfigurationProps{
			ConfigurationName: b.named(id),
			IamRoleArn:        role.RoleArn(),
			SlackWorkspaceId:  jsii.String(c.Workspace),
			SlackChannelId:    jsii.String(c.Channel),
			SnsTopicArns:      &[]any{topic.TopicArn()},
			// Without any, Chatbot's guardrail is AdministratorAccess.
			GuardrailPolicies: &[]*string{b.FormatArn(&awscdk.ArnComponents{
				Service: jsii.String("iam"), Region: jsii.String(""), Account: jsii.String("aws"), Resource: jsii.String("policy"),
				ResourceName: jsii.String("CloudWatchReadOnlyAccess"),
			})},
		})
	}
}
