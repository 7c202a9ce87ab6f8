package stack

import (
	"github.com/aws/aws-cdk-go/awscdk/v2/awsiam"
	"github.com/aws/jsii-runtime-go"

	"github.com/waybillhq/waybill/shared/topology"
)

// sender is someone who may put messages on the ingress queue, on the conditions that every message of his meets.
type sender struct {
	principal  awsiam.IPrincipal
	conditions *map[string]any // nil: none
}

func (s Senders) any() bool { return len(s.Topics)+len(s.Rules)+len(s.Buckets)+len(s.Accounts) > 0 }

// senders are what the options name. A service sends for all of its customers, so each is held to the resources that were named.
func (b *builder) senders() []sender {
	s := b.props.Senders
	var all []sender
	if len(s.Topics) > 0 {
		all = append(all, sender{b.service("sns.amazonaws.com"), sources(s.Topics)})
	}
	if len(s.Rules) > 0 {
		all = append(all, sender{b.service("events.amazonaws.com"), sources(s.Rules)})
	}
	for _, bucket := range s.Buckets {
		all = append(all, sender{b.service("s3.amazonaws.com"), &map[string]any{
			"ArnEquals":    map[string]any{"aws:SourceArn": bucket.ARN},
			"StringEquals": map[string]any{"aws:SourceAccount": bucket.Account},
		}})
	}
	for _, account := range s.Accounts {
		all = append(all, sender{awsiam.NewAccountPrincipal(account), nil})
	}
	return all
}

func sources(arns []string) *map[string]any {
	return &map[string]any{"ArnEquals": map[string]any{"aws:SourceArn": arns}}
}

// allowSenders writes them into the policy of the ingress queue.
func (b *builder) allowSenders() {
	queue, ok := b.queues[topology.Ingress]
	if !ok {
		return
	}
	for _, s := range b.senders() {
		queue.AddToResourcePolicy(awsiam.NewPolicyStatement(&awsiam.PolicyStatementProps{
			Principals: &[]awsiam.IPrincipal{s.principal},
			Actions:    jsii.Strings(string(topology.SendMessage)),
			Resources:  &[]*string{queue.QueueArn()},
			Conditions: s.conditions,
		}))
	}
}
