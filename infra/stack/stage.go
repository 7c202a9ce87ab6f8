package stack

import (
	"github.com/aws/aws-cdk-go/awscdk/v2/awscodedeploy"
	"github.com/aws/aws-cdk-go/awscdk/v2/awslambda"
)

// Stage is where a stack stands between a developer and the customers.
type Stage string

// The stages. They run the same code with the same permissions.
const (
	// Dev is for trying things out: deleting the stack deletes everything in it, no concurrency is reserved, so that it fits into a new
	// account, and Lambda's own log lines are all there.
	Dev Stage = "dev"
	// Prod carries real events: queues, tables, logs, keys and addresses outlive the stack, tables and stack refuse to be deleted, each function
	// has its share of the account's concurrency for itself, old versions stay for a way back, and a release begins with a tenth of the traffic.
	Prod Stage = "prod"
)

// settings are what a stage decides.
type settings struct {
	keep      bool // what holds events, waybills or evidence outlives the stack
	protect   bool // stack and tables refuse to be deleted
	reserve   bool // functions that can be held to a concurrency have it reserved
	canary    bool // unless Options.Canary says otherwise
	gradual   bool // a release first gets a share of the traffic, and alarms may take it back
	logDays   int  // unless Options.LogDays says otherwise
	systemLog awslambda.SystemLogLevel
}

func (s Stage) settings() settings {
	if s == Prod {
		// Lambda's start, end and report lines of a run that went well are three log lines per batch which no alarm and no query
		// reads. At level WARN those of runs that went wrong remain.
		return settings{keep: true, protect: true, reserve: true, canary: true, gradual: true, logDays: 90, systemLog: awslambda.SystemLogLevel_WARN}
	}
	return settings{logDays: 14, systemLog: awslambda.SystemLogLevel_INFO}
}

// shift is how a release gets its traffic.
func (s settings) shift() awscodedeploy.ILambdaDeploymentConfig {
	if s.gradual {
		return awscodedeploy.LambdaDeploymentConfig_CANARY_10PERCENT_5MINUTES()
	}
	return awscodedeploy.LambdaDeploymentConfig_ALL_AT_ONCE()
}
