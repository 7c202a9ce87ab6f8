package stack

import (
	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awssqs"
	"github.com/aws/jsii-runtime-go"

	"github.com/waybillhq/waybill/shared/topology"
)

// dataKeyMinutes is how long SQS uses a data key before it asks KMS again. Its default of five minutes costs twelve times as many calls,
// and each environment of a function makes its own; a key that is disabled is felt after an hour.
const dataKeyMinutes = 60

// addQueues adds dead-letter queues first, because the others refer to them.
func (b *builder) addQueues() {
	deadLetter := map[topology.QueueName]bool{}
	for _, q := range b.props.Topology.Queues {
		deadLetter[q.DeadLetter] = true
	}
	for _, first := range []bool{true, false} {
		for _, q := range b.props.Topology.Queues {
			if deadLetter[q.Name] == first {
				b.addQueue(q, deadLetter[q.Name])
			}
		}
	}
	b.allowSenders()
}

func (b *builder) addQueue(q topology.Queue, deadLetter bool) {
	props := &awssqs.QueueProps{
		Encryption:        awssqs.QueueEncryption_SQS_MANAGED,
		EnforceSSL:        jsii.Bool(true),
		RetentionPeriod:   awscdk.Duration_Seconds(jsii.Number(seconds(q.Retention))),
		VisibilityTimeout: awscdk.Duration_Seconds(jsii.Number(seconds(b.props.Topology.Visibility(q.Name)))),
		// Whatever lies in a queue was accepted and is still owed to someone.
		RemovalPolicy:      b.removal(),
		RedriveAllowPolicy: &awssqs.RedriveAllowPolicy{RedrivePermission: redrivePermission(deadLetter)},
	}
	if b.key != nil {
		props.Encryption, props.EncryptionMasterKey = awssqs.QueueEncryption_KMS, b.key
		props.DataKeyReuse = awscdk.Duration_Minutes(jsii.Number(dataKeyMinutes))
	}
	if q.DeadLetter != "" {
		props.DeadLetterQueue = &awssqs.DeadLetterQueue{
			Queue:           b.queues[q.DeadLetter],
			MaxReceiveCount: jsii.Number(q.MaxReceiveCount),
		}
	}
	queue := awssqs.NewQueue(b.Stack, jsii.String("queue-"+string(q.Name)), props)
	b.queues[q.Name] = queue
	b.output(topology.Output(q.Name.URLVariable()), queue.QueueUrl(), "URL of queue "+string(q.Name))
}

// redrivePermission says who may name a queue as its dead-letter queue: for one that is none, nobody, or another queue's poison could
// be fed to our functions. A dead-letter queue cannot name its one source: that queue's redrive policy needs the dead-letter
// queue to exist, so each would wait for the other, unless one of them had a physical name.
func redrivePermission(deadLetter bool) awssqs.RedrivePermission {
	if deadLetter {
		return awssqs.RedrivePermission_ALLOW_ALL
	}
	return awssqs.RedrivePermission_DENY_ALL
}
