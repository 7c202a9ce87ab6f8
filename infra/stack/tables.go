package stack

import (
	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsdynamodb"
	"github.com/aws/jsii-runtime-go"

	"github.com/waybillhq/waybill/shared/topology"
)

func (b *builder) addTables() {
	for _, t := range b.props.Topology.Tables {
		b.addTable(t, b.props.Tables[t.Name])
	}
}

func (b *builder) addTable(t topology.Table, options TableOptions) {
	props := &awsdynamodb.TablePropsV2{
		PartitionKey: attribute(t.Partition),
		Billing:      billing(options.Provisioned),
		PointInTimeRecoverySpecification: &awsdynamodb.PointInTimeRecoverySpecification{
			PointInTimeRecoveryEnabled: jsii.Bool(true),
		},
		DeletionProtection: jsii.Bool(b.set.protect),
		RemovalPolicy:      b.tableRemoval(),
	}
	if t.Sort.Name != "" {
		props.SortKey = attribute(t.Sort)
	}
	if t.TTLAttribute != "" {
		props.TimeToLiveAttribute = jsii.String(t.TTLAttribute)
	}
	if warm := options.Warm; warm != nil {
		props.WarmThroughput = &awsdynamodb.WarmThroughput{
			ReadUnitsPerSecond: jsii.Number(warm.Read), WriteUnitsPerSecond: jsii.Number(warm.Write),
		}
	}
	table := awsdynamodb.NewTableV2(b.Stack, jsii.String("table-"+string(t.Name)), props)
	if b.key != nil {
		// CDK's own property wants to know the region while it synthesises, which would tie the template to one.
		resource := table.Node().DefaultChild().(awsdynamodb.CfnGlobalTable)
		resource.AddPropertyOverride(jsii.String("SSESpecification"), map[string]any{"SSEEnabled": true, "SSEType": "KMS"})
		resource.AddPropertyOverride(jsii.String("Replicas.0.SSESpecification"), map[string]any{"KMSMasterKeyId": b.key.KeyArn()})
	}
	b.tables[t.Name] = table
	b.output(topology.Output(t.Name.NameVariable()), table.TableName(), "Name of table "+string(t.Name))
}

// tableRemoval keeps a protected table also when its creation is taken back: it would refuse to be deleted, and the rollback of the stack would end there.
func (b *builder) tableRemoval() awscdk.RemovalPolicy {
	if b.set.protect {
		return awscdk.RemovalPolicy_RETAIN
	}
	return b.removal()
}

func billing(p *Provisioned) awsdynamodb.Billing {
	if p == nil {
		return awsdynamodb.Billing_OnDemand(nil)
	}
	return awsdynamodb.Billing_Provisioned(&awsdynamodb.ThroughputProps{
		ReadCapacity: capacity(p.Read, p.utilization()), WriteCapacity: capacity(p.Write, p.utilization()),
	})
}

// capacity follows the load. A table on demand cannot be switched to it without a number to begin with, and that is the largest: how much is used is not known here,
// and within the hour scaling gives back what is not.
func capacity(r Range, utilization int) awsdynamodb.Capacity {
	return awsdynamodb.Capacity_Autoscaled(&awsdynamodb.AutoscaledCapacityOptions{
		MinCapacity: jsii.Number(r.Min), MaxCapacity: jsii.Number(r.Max), SeedCapacity: jsii.Number(r.Max), TargetUtilizationPercent: jsii.Number(utilization),
	})
}

func attribute(k topology.Key) *awsdynamodb.Attribute {
	kind := awsdynamodb.AttributeType_STRING
	if k.Type == topology.Number {
		kind = awsdynamodb.AttributeType_NUMBER
	}
	return &awsdynamodb.Attribute{Name: jsii.String(k.Name), Type: kind}
}
