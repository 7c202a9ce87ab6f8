package stack_test

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"
)

// What must be true of a network however CDK lays it out.
func TestNetworkHasOneWayOut(t *testing.T) {
	seen := 0
	for name, s := range templates(t) {
		if s.props.Network == nil {
			continue
		}
		seen++
		t.Run(name, func(t *testing.T) {
			for _, problem := range s.networkProblems() {
				t.Error(problem)
			}
		})
	}
	if seen == 0 {
		t.Error("no variant has a network")
	}
}

func TestABrokenNetworkIsNoticed(t *testing.T) {
	made := templates(t)[plain+", network"]
	for name, test := range map[string]struct {
		of     string
		change func(document)
		want   string
	}{
		"functions straight to the internet": {
			"network/vpc/functionsSubnet1/DefaultRoute", func(r document) {
				delete(properties(r), "NatGatewayId")
				properties(r)["GatewayId"] = "igw"
			}, "functionsSubnet1: its way out is",
		},
		"a zone twice": {
			"network/vpc/functionsSubnet2/Subnet", func(r document) { properties(r)["AvailabilityZone"].(document)["Fn::Select"] = []any{0, document{}} },
			"functions stand in 1 zones",
		},
		"subnet outside":        {"network/vpc/functionsSubnet2/Subnet", func(r document) { properties(r)["CidrBlock"] = "10.0.1.0/26" }, "10.0.1.0/26 is not within"},
		"public addresses":      {"network/vpc/functionsSubnet2/Subnet", func(r document) { properties(r)["MapPublicIpOnLaunch"] = true }, "gives public addresses away"},
		"an address of its own": {"AWS::EC2::NatGateway", func(r document) { delete(properties(r), "AllocationId") }, "NAT gateways have the addresses"},
		"no flow log":           {"AWS::EC2::FlowLog", func(r document) { properties(r)["TrafficType"] = "REJECT" }, "flow log"},
		"way to DynamoDB":       {"AWS::EC2::VPCEndpoint", func(r document) { properties(r)["RouteTableIds"] = []any{} }, "go to DynamoDB through a gateway that charges"},
	} {
		t.Run(name, func(t *testing.T) {
			s := made.copy()
			test.change(find(s, test.of))
			found := s.networkProblems()
			if !slices.ContainsFunc(found, func(problem string) bool { return strings.Contains(problem, test.want) }) {
				t.Errorf("no problem contains %q, only %q", test.want, found)
			}
		})
	}
	t.Run("an open door", func(t *testing.T) {
		s := made.copy()
		s.template["Resources"].(document)["Extra"] = resource("AWS::EC2::SecurityGroupIngress", document{})
		if !slices.Contains(s.networkProblems(), "Extra: a network needs no AWS::EC2::SecurityGroupIngress") {
			t.Error("nobody noticed")
		}
	})
}

// networkProblems reads the network as AWS would: from subnets along their routes.
func (s synthesis) networkProblems() []string {
	var problems []string
	problem := func(format string, args ...any) { problems = append(problems, fmt.Sprintf(format, args...)) }
	byType := map[string]map[string]document{} // type, path → properties
	paths := map[string]string{}
	for id, r := range s.template["Resources"].(document) {
		r := r.(document)
		kind := fmt.Sprint(r["Type"])
		if byType[kind] == nil {
			byType[kind] = map[string]document{}
		}
		byType[kind][path(id, r)], _ = r["Properties"].(document)
		paths[id] = path(id, r)
		if strings.HasPrefix(kind, "AWS::EC2::") && !slices.Contains(partsOfANetwork[:], strings.TrimPrefix(kind, "AWS::EC2::")) {
			problem("%s: a network needs no %s", path(id, r), kind)
		}
	}
	to := func(v any) string { // the path that a reference leads to
		d, _ := v.(document)
		if get, ok := d["Fn::GetAtt"].([]any); ok {
			return paths[fmt.Sprint(get[0])]
		}
		return paths[fmt.Sprint(d["Ref"])]
	}

	cidr := netip.MustParsePrefix(fmt.Sprint(byType["AWS::EC2::VPC"]["network/vpc/Resource"]["CidrBlock"]))
	zones := map[string]bool{}
	for path, subnet := range byType["AWS::EC2::Subnet"] {
		block := netip.MustParsePrefix(fmt.Sprint(subnet["CidrBlock"]))
		if !cidr.Contains(block.Addr()) || block.Bits() <= cidr.Bits() {
			problem("%s: %s is not within the network's %s", path, block, cidr)
		}
		if subnet["MapPublicIpOnLaunch"] != false {
			problem("%s: gives public addresses away", path)
		}
		if strings.Contains(path, "functionsSubnet") {
			zones[string(encode(subnet["AvailabilityZone"].(document)["Fn::Select"].([]any)[0]))] = true
		}
	}
	if len(zones) != 2 {
		problem("functions stand in %d zones, want 2", len(zones))
	}

	gateways := map[string]bool{}
	for path, route := range byType["AWS::EC2::Route"] {
		subnet := strings.TrimSuffix(path, "/DefaultRoute")
		if !strings.Contains(path, "functionsSubnet") {
			continue
		}
		gateway := to(route["NatGatewayId"])
		gateways[gateway] = true
		if _, ok := byType["AWS::EC2::NatGateway"][gateway]; !ok || route["GatewayId"] != nil || to(route["RouteTableId"]) != subnet+"/RouteTable" {
			problem("%s: its way out is %s, want a NAT gateway", subnet, encode(route))
		}
	}
	want := max(s.props.Network.Gateways, 1)
	if len(gateways) != want || len(byType["AWS::EC2::NatGateway"]) != want {
		problem("functions leave through %v, want %d NAT gateways", slices.Sorted(maps.Keys(gateways)), want)
	}
	var addresses, wanted []string
	for _, gateway := range byType["AWS::EC2::NatGateway"] {
		address, _ := gateway["AllocationId"].(string)
		addresses = append(addresses, address+to(gateway["AllocationId"]))
	}
	for i := range want {
		wanted = append(wanted, fmt.Sprintf("network/address-%d", i+1))
	}
	if given := s.props.Network.Allocations; given != nil {
		wanted = given
	}
	slices.Sort(addresses)
	if !slices.Equal(addresses, wanted) {
		problem("the NAT gateways have the addresses %q, want %q", addresses, wanted)
	}

	endpoint := byType["AWS::EC2::VPCEndpoint"]["network/vpc/dynamodb/Resource"]
	tables, _ := endpoint["RouteTableIds"].([]any)
	for _, subnet := range []string{"1", "2"} {
		table := "network/vpc/functionsSubnet" + subnet + "/RouteTable"
		if !slices.ContainsFunc(tables, func(v any) bool { return to(v) == table }) || !strings.Contains(string(encode(endpoint["ServiceName"])), ".dynamodb") {
			problem("functions in subnet %s go to DynamoDB through a gateway that charges for it", subnet)
		}
	}
	flows := byType["AWS::EC2::FlowLog"]["network/vpc/flows/FlowLog"]
	if flows["TrafficType"] != "ALL" || to(flows["LogGroupName"]) != "network/logs/Resource" || to(flows["ResourceId"]) != "network/vpc/Resource" {
		problem("the flow log is %s, want one of all traffic of the network, in its log group", encode(flows))
	}
	return problems
}

// partsOfANetwork are the kinds of resources that one consists of.
var partsOfANetwork = [...]string{
	"EIP", "FlowLog", "InternetGateway", "NatGateway", "Route", "RouteTable", "SecurityGroup", "Subnet", "SubnetRouteTableAssociation", "VPC",
	"VPCEndpoint", "VPCGatewayAttachment",
}
