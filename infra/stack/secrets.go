package stack

import (
	"strings"

	"github.com/aws/aws-cdk-go/awscdk/v2/awsiam"
	"github.com/aws/jsii-runtime-go"

	"github.com/waybillhq/waybill/shared/topology"
)

// ours is how the names of secrets begin that destinations may name when the options say nothing.
const ours = "waybill/"

// allowSecrets lets a role read the secrets that destinations may name.
func (b *builder) allowSecrets(role awsiam.Role) {
	for _, secret := range b.secrets() {
		operation := topology.GetSecretValue
		if strings.Contains(*secret, ":parameter/") {
			operation = topology.GetParameter
		}
		allow(role, secret, []topology.Operation{operation})
	}
	for _, key := range b.props.SecretKeys {
		b.allowVia(role, jsii.String(key), keyReceive[:], viaSecretsManager, viaSSM)
	}
}

func (b *builder) secrets() []*string {
	if len(b.props.Secrets) > 0 {
		return *jsii.PtrSlice(b.props.Secrets...)
	}
	return []*string{b.arn("secretsmanager", "secret", ":", ours+"*"), b.arn("ssm", "parameter", "/", ours+"*")}
}
