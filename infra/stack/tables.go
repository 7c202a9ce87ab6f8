package stack

import (
	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsdynamodb"
	"github.com/aws/jsii-runtime-go"

	"github.com/waybillhq/waybill/shared/topology"
)

func (b *builder) addTables() {
	for _, t := range b.props.Topology.Tables {
		props := &awsdynamodb.TablePropsV2{
			PartitionKey: attribute(t.Partition),
			Billing:      awsdynamodb.Billing_OnDemand(nil),
			PointInTimeRecoverySpecification: &awsdynamodb.PointInTimeRecoverySpecification{
				PointInTimeRecoveryEnabled: jsii.Bool(true),
			},
			RemovalPolicy: awscdk.RemovalPolicy_RETAIN_ON_UPDATE_OR_DELETE,
		}
		if t.Sort.Name != "" {
			props.SortKey = attribute(t.Sort)
		}
		if t.TTLAttribute != "" {
			props.TimeToLiveAttribute = jsii.String(t.TTLAttribute)
		}
		table := awsdynamodb.NewTableV2(b.Stack, jsii.String("table-"+string(t.Name)), props)
		b.tables[t.Name] = table
		b.output(t.Name.NameVariable(), table.TableName(), "Name of table "+string(t.Name))
	}
}

func attribute(k topology.Key) *awsdynamodb.Attribute {
	kind := awsdynamodb.AttributeType_STRING
	if k.Type == topology.Number {
		kind = awsdynamodb.AttributeType_NUMBER
	}
	return &awsdynamodb.Attribute{Name: jsii.String(k.Name), Type: kind}
}
