package stack_test

import (
	"strings"
	"testing"

	"github.com/waybillhq/waybill/infra/stack"
	"github.com/waybillhq/waybill/shared/registry"
	"github.com/waybillhq/waybill/shared/topology"
)

const (
	canarySecretID = "canary/secret"
	canaryURLID    = "function-canary/url"
)

// hasCanary is so in prod, and where it was chosen.
func (c contract) hasCanary() bool {
	if c.Canary != nil {
		return *c.Canary
	}
	return c.Stage == stack.Prod
}

// canaryResources are what the canary has besides a function of the topology: a secret that nobody has seen, and a URL without AWS's own authorization, on the alias.
func (c contract) canaryResources() document {
	secret := document{
		"Description": "Waybill: signs the event that it sends to itself",
		"GenerateSecretString": document{
			"SecretStringTemplate": "{}", "GenerateStringKey": "whsec_", "ExcludePunctuation": true, "PasswordLength": 64,
		},
	}
	if c.CustomerKey {
		secret["KmsKeyId"] = arn(keyID)
	}
	const live = "function-canary/live/Resource"
	url := resource("AWS::Lambda::Url", document{"AuthType": "NONE", "Qualifier": "live", "TargetFunctionArn": arn("function-canary/function/Resource")})
	url["DependsOn"] = []any{"function-canary/live/EventInvokeConfig/Resource", live}
	return document{
		canarySecretID: resource("AWS::SecretsManager::Secret", secret),
		canaryURLID:    url,
		"function-canary/url-permission": resource("AWS::Lambda::Permission", document{
			"Action": "lambda:InvokeFunctionUrl", "FunctionName": ref(live), "FunctionUrlAuthType": "NONE", "Principal": "*",
		}),
		"function-canary/url-invocation": resource("AWS::Lambda::Permission", document{
			"Action": "lambda:InvokeFunction", "FunctionName": ref(live), "InvokedViaFunctionUrl": true, "Principal": "*",
		}),
	}
}

// canaryGrants let those read the secret who sign with it and the one that verifies. The router is told its ARN and cannot read it.
func (c contract) canaryGrants(f topology.Function) document {
	if !c.hasCanary() || f.Name != topology.Canary && f.Name != topology.Deliverer && f.Name != topology.SlowLane {
		return nil
	}
	lines := document{"Allow secretsmanager:GetSecretValue on " + name(ref(canarySecretID)): true}
	if c.CustomerKey {
		condition := encode(document{"StringEquals": document{"kms:ViaService": []any{join("secretsmanager.", ref("AWS::Region"), ".amazonaws.com")}}})
		lines["Allow kms:Decrypt on "+keyID+" if "+string(condition)] = true
	}
	return lines
}

// canaryEnvironment tells those that route and deliver where the canary listens, and all of them what signs for it.
func (c contract) canaryEnvironment(f topology.Function) document {
	if !c.hasCanary() {
		return nil
	}
	switch f.Name {
	case topology.Canary:
		return document{"WAYBILL_CANARY_SECRET": ref(canarySecretID)}
	case topology.Router, topology.Deliverer, topology.SlowLane:
		return document{"WAYBILL_CANARY_URL": attribute(canaryURLID, "FunctionUrl"), "WAYBILL_CANARY_SECRET": ref(canarySecretID)}
	}
	return nil
}

// Without the canary nothing of it is there: no function, alarm, secret, query or variable.
func TestStackWithoutCanaryHasNothingOfIt(t *testing.T) {
	all := templates(t)
	for name, want := range map[string]bool{
		"dev, low-latency": false, "dev, high-volume": false, "dev, high-volume, canary": true, plain: true, plain + ", canary, not": false,
	} {
		s, ok := all[name]
		if !ok {
			t.Fatalf("there is no variant %q", name)
		}
		// The dashboard links all runbooks, and releases go by a way that CodeDeploy calls so.
		text := strings.NewReplacer("canary-missing", "", "LambdaCanary", "").Replace(string(encode(s.template["Resources"])))
		if got := strings.Contains(strings.ToLower(text), "canary"); got != want {
			t.Errorf("%s: the canary is there: %v, want %v", name, got, want)
		}
	}
}

// What the canary is built from without being deployed is no mistake, as any other program would be.
func TestCanaryIsBuiltInAnyCase(t *testing.T) {
	props := stack.Props{Stage: stack.Dev, Topology: topology.New(topology.LowLatency), Code: t.TempDir()}
	if err := writeCode(props.Code, props.Topology.WithCanary()); err != nil {
		t.Fatal(err)
	}
	if err := writeCode(props.Code, topology.Topology{Functions: []topology.Function{{Name: "stranger"}}}); err != nil {
		t.Fatal(err)
	}
	_, err := stack.New(nil, "test", props)
	if err == nil || !strings.Contains(err.Error(), "no function stranger") || strings.Contains(err.Error(), "canary") {
		t.Errorf("%v", err)
	}
}

func TestNobodyIsPinnedToTheCanarysTenant(t *testing.T) {
	props := stack.Props{Stage: stack.Dev, Topology: topology.New(topology.LowLatency), Options: stack.Options{Tenant: registry.CanaryTenant}}
	mustRefuse(t, props, `tenant: "waybill.canary" is the tenant of Waybill's own canary`)
}

func TestABrokenCanaryIsDrift(t *testing.T) {
	const role = "function-router/role/DefaultPolicy/Resource"
	for name, test := range map[string]struct {
		of     string
		change func(r document)
		want   string
	}{
		"the secret in the template": {canarySecretID, func(r document) { properties(r)["SecretString"] = "whsec_" }, canarySecretID + ".Properties.SecretString is there"},
		"a URL past the alias":       {canaryURLID, func(r document) { delete(properties(r), "Qualifier") }, canaryURLID + ".Properties.Qualifier is missing"},
		"a URL for AWS's own":        {canaryURLID, func(r document) { properties(r)["AuthType"] = "AWS_IAM" }, canaryURLID + `.Properties.AuthType is "AWS_IAM"`},
		"called in any way":          {"function-canary/url-invocation", func(r document) { delete(properties(r), "InvokedViaFunctionUrl") }, "InvokedViaFunctionUrl is missing"},
		"the router signs": {role, func(r document) {
			statement(r)["Action"], statement(r)["Resource"] = "secretsmanager:GetSecretValue", ref("canarysecret")
		}, role},
		"silence is good":  {"alarms/canary-received", func(r document) { properties(r)["TreatMissingData"] = "notBreaching" }, `TreatMissingData is "notBreaching", want "breaching"`},
		"nobody is called": {"alarms/page-canary-missing", func(r document) { properties(r)["AlarmActions"] = []any{} }, "alarms/page-canary-missing.Properties.AlarmActions"},
	} {
		t.Run(name, func(t *testing.T) {
			s := templates(t)[plain].copy()
			test.change(find(s, test.of))
			mustDrift(t, s, test.want)
		})
	}
	on := templates(t)["dev, high-volume, canary"]
	on.props.Canary = nil
	mustDrift(t, on, "function-canary/function/Resource is there")
}
