package stack

import (
	"fmt"

	"github.com/aws/aws-cdk-go/awscdk/v2/awsec2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsiam"
	"github.com/aws/constructs-go/constructs/v10"
	"github.com/aws/jsii-runtime-go"

	"github.com/waybillhq/waybill/shared/topology"
)

// network is where the functions stand that call destinations.
type network struct {
	vpc   awsec2.Vpc
	group awsec2.SecurityGroup
}

const (
	zones = 2

	inside  = "functions"
	outside = "gateways"
)

// addNetwork adds the network, if there is to be one: in each zone a subnet for functions, whose way out leads through a NAT gateway, and one
// for gateways.
func (b *builder) addNetwork() {
	options := b.props.Network
	if options == nil {
		return
	}
	scope := constructs.NewConstruct(b.Stack, jsii.String("network"))
	logs := b.addLogs(scope)
	vpc := awsec2.NewVpc(scope, jsii.String("vpc"), &awsec2.VpcProps{
		IpAddresses:        awsec2.IpAddresses_Cidr(jsii.String(options.cidr().String())),
		MaxAzs:             jsii.Number(zones),
		NatGateways:        jsii.Number(options.gateways()),
		NatGatewayProvider: awsec2.NatProvider_Gateway(&awsec2.NatGatewayProps{EipAllocationIds: b.addresses(scope, *options)}),
		SubnetConfiguration: &[]*awsec2.SubnetConfiguration{
			{Name: jsii.String(outside), SubnetType: awsec2.SubnetType_PUBLIC, MapPublicIpOnLaunch: jsii.Bool(false)},
			{Name: jsii.String(inside), SubnetType: awsec2.SubnetType_PRIVATE_WITH_EGRESS},
		},
		// It costs nothing, and a gateway takes money for each gigabyte.
		GatewayEndpoints: &map[string]*awsec2.GatewayVpcEndpointOptions{
			"dynamodb": {Service: awsec2.GatewayVpcEndpointAwsService_DYNAMODB()},
		},
		FlowLogs: &map[string]*awsec2.FlowLogOptions{
			"flows": {Destination: awsec2.FlowLogDestination_ToCloudWatchLogs(logs, nil), TrafficType: awsec2.FlowLogTrafficType_ALL},
		},
		// Nothing uses the default group; emptying it would take a function of CDK's that may change any.
		RestrictDefaultSecurityGroup: jsii.Bool(false),
	})
	group := awsec2.NewSecurityGroup(scope, jsii.String("group"), &awsec2.SecurityGroupProps{
		Vpc:              vpc,
		Description:      jsii.String("Functions that call destinations: out by TCP, nothing in"),
		AllowAllOutbound: jsii.Bool(false),
	})
	// Receivers listen on any port; which addresses are allowed is for the functions' egress guard to say.
	group.AddEgressRule(awsec2.Peer_AnyIpv4(), awsec2.Port_AllTcp(), jsii.String("Destinations and AWS"), nil)
	b.network = &network{vpc: vpc, group: group}
}

// addresses are the ids of the elastic IP addresses that gateways have.
func (b *builder) addresses(scope constructs.Construct, options Network) *[]*string {
	if len(options.Allocations) > 0 {
		return jsii.PtrSlice(options.Allocations...)
	}
	var ids []*string
	for i := range options.gateways() {
		address := awsec2.NewCfnEIP(scope, jsii.String(fmt.Sprintf("address-%d", i+1)), &awsec2.CfnEIPProps{Domain: jsii.String("vpc")})
		// Receivers have it in their lists; once given up it is gone.
		address.ApplyRemovalPolicy(b.removal(), nil)
		b.output(fmt.Sprintf("EgressAddress%d", i+1), address.AttrPublicIp(), "Address that deliveries come from")
		ids = append(ids, address.AttrAllocationId())
	}
	return &ids
}

// subnets are those that functions stand in.
func (n *network) subnets() *awsec2.SubnetSelection {
	return &awsec2.SubnetSelection{SubnetGroupName: jsii.String(inside)}
}

// interfaceOperations are what Lambda does, with the role of a function, to connect it to a network.
// Source: https://docs.aws.amazon.com/lambda/latest/dg/configuration-vpc.html
var interfaceOperations = [...]topology.Operation{
	"ec2:CreateNetworkInterface", "ec2:DescribeNetworkInterfaces", "ec2:DescribeSubnets", "ec2:DeleteNetworkInterface",
	"ec2:AssignPrivateIpAddresses", "ec2:UnassignPrivateIpAddresses",
}

// allowInterfaces lets Lambda connect a function with this role to a network, and keeps the function itself from doing the same: the interfaces
// have no names beforehand, so that the permission is for all, and the function's own calls are the ones that say from which function
// they come. The security group waits for the role, because it goes in the reverse order: Lambda needs the permissions also for giving interfaces back, minutes after a
// function is gone, and as long as they are there no group and no subnet can be deleted.
// Source: https://docs.aws.amazon.com/lambda/latest/dg/configuration-vpc.html
func (n *network) allowInterfaces(role awsiam.Role) {
	allow(role, jsii.String("*"), interfaceOperations[:])
	role.AddToPrincipalPolicy(awsiam.NewPolicyStatement(&awsiam.PolicyStatementProps{
		Effect:     awsiam.Effect_DENY,
		Actions:    actions(interfaceOperations[:]),
		Resources:  jsii.Strings("*"),
		Conditions: &map[string]any{"Null": map[string]any{"lambda:SourceFunctionArn": "false"}},
	}))
	n.group.Node().AddDependency(role)
}
