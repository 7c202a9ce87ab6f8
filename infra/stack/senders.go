package stack

import (
	"slices"

	"github.com/aws/aws-cdk-go/awscdk/v2/awsiam"
	"github.com/aws/jsii-runtime-go"

	"github.com/waybillhq/waybill/shared/topology"
)

// sender is someone who may put messages on the ingress queue, or several of a kind, on the conditions that every message of theirs meets. Each is a statement of the
// queue's policy, in which SQS allows few statements and fewer conditions.
type sender struct {
	principals []awsiam.IPrincipal
	conditions *map[string]any // nil: none
}

func (s Senders) any() bool { return len(s.Topics)+len(s.Rules)+len(s.Buckets)+len(s.Accounts) > 0 }

// senders are what the options name. A service sends for all of its customers, so each is held to the resources that were named.
func (b *builder) senders() []sender {
	s := b.props.Senders
	var all []sender
	if len(s.Topics) > 0 {
		all = append(all, sender{b.services("sns.amazonaws.com"), sources(s.Topics)})
	}
	if len(s.Rules) > 0 {
		all = append(all, sender{b.services("events.amazonaws.com"), sources(s.Rules)})
	}
	for _, owner := range s.owners() {
		conditions := sources(s.bucketsOf(owner))
		(*conditions)["StringEquals"] = map[string]any{"aws:SourceAccount": owner}
		all = append(all, sender{b.services("s3.amazonaws.com"), conditions})
	}
	if len(s.Accounts) > 0 {
		var principals []awsiam.IPrincipal
		for _, account := range s.Accounts {
			principals = append(principals, awsiam.NewAccountPrincipal(account))
		}
		all = append(all, sender{principals, nil})
	}
	return all
}

// owners are the accounts that own the buckets, each once.
func (s Senders) owners() []string {
	var owners []string
	for _, bucket := range s.Buckets {
		if !slices.Contains(owners, bucket.Account) {
			owners = append(owners, bucket.Account)
		}
	}
	return owners
}

// bucketsOf are the ARNs of an owner's buckets.
func (s Senders) bucketsOf(owner string) []string {
	var arns []string
	for _, bucket := range s.Buckets {
		if bucket.Account == owner {
			arns = append(arns, bucket.ARN)
		}
	}
	return arns
}

func (b *builder) services(name string) []awsiam.IPrincipal {
	return []awsiam.IPrincipal{b.service(name)}
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
			Principals: &s.principals,
			Actions:    jsii.Strings(string(topology.SendMessage)),
			Resources:  &[]*string{queue.QueueArn()},
			Conditions: s.conditions,
		}))
	}
}
