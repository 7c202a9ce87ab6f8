package system

import (
	"slices"

	"github.com/waybillhq/waybill/shared/awslocal"
	"github.com/waybillhq/waybill/shared/awslocal/dynamodb"
	"github.com/waybillhq/waybill/shared/awslocal/wire"
	"github.com/waybillhq/waybill/shared/topology"
)

// What destinations may name as secrets. In AWS the stack's options narrow it.
const (
	anySecret    = "arn:aws:secretsmanager:" + awslocal.Region + ":" + awslocal.AccountID + ":secret:*"
	ofCanary     = "arn:aws:secretsmanager:" + awslocal.Region + ":" + awslocal.AccountID + ":secret:" + canarySecret + "-*"
	anyParameter = "arn:aws:ssm:" + awslocal.Region + ":" + awslocal.AccountID + ":parameter/*"
)

// role may do what the topology grants the code of a function, as its role in AWS. Three things are not in it, because no call of the code shows them here: what
// Lambda's pollers do on the source queue in the name of the role, which the mappings do here as themselves; writing logs and sending traces, which are no calls
// to this endpoint; and use of the customer's key, which KMS decides behind SQS and DynamoDB.
func (s *System) role(f topology.Function) *awslocal.Role {
	var grants []awslocal.Access
	grant := func(resource string, operations ...topology.Operation) {
		for _, operation := range operations {
			grants = append(grants, awslocal.Access{Action: string(operation), Resource: resource})
		}
	}
	for _, access := range f.Queues {
		if q, ok := s.Queues.Queue(string(access.Queue)); ok {
			grant(q.ARN(), access.Operations...)
		}
	}
	for _, access := range f.Tables {
		grant(dynamodb.ARN(string(access.Table)), access.Operations...)
	}
	if f.Secrets {
		grant(anySecret, topology.GetSecretValue)
		grant(anyParameter, topology.GetParameter)
	}
	if f.Listens {
		grant(ofCanary, topology.GetSecretValue)
	}
	return awslocal.NewRole(string(f.Name), grants...)
}

// roles makes the role of every function, by the session token with which its code signs.
func (s *System) roles() map[string]*awslocal.Role {
	byToken := map[string]*awslocal.Role{}
	for _, f := range s.topology.Functions {
		s.Roles[f.Name] = s.role(f)
		byToken[wire.SessionToken(string(f.Name))] = s.Roles[f.Name]
	}
	return byToken
}

// Denied lists what functions attempted without a grant, as "waker: sqs:DeleteMessage on arn:…". Each of them the topology must grant, or the code must not do.
func (s *System) Denied() []string {
	var all []string
	for name, role := range s.Roles {
		for access := range role.Denied() {
			all = append(all, string(name)+": "+access.Action+" on "+access.Resource)
		}
	}
	slices.Sort(all)
	return all
}
