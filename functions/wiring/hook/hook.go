// Package hook puts the function preflight together from the AWS SDK. It is apart from package wiring so that no other function carries the clients of Lambda and
// CodeDeploy.
package hook

import (
	"context"
	"errors"
	"log/slog"

	"github.com/aws/aws-lambda-go/lambda"
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/codedeploy"
	codedeploytypes "github.com/aws/aws-sdk-go-v2/service/codedeploy/types"
	awslambda "github.com/aws/aws-sdk-go-v2/service/lambda"

	"github.com/waybillhq/waybill/functions/preflight"
	"github.com/waybillhq/waybill/shared/config"
)

// Handler puts the function together.
func Handler(cfg config.Preflight, account aws.Config, logger *slog.Logger) (lambda.Handler, error) {
	p, err := preflight.New(preflight.Config{
		Function: cfg.Tried, Version: cfg.Version, Logger: logger,
		Lambda: versions{awslambda.NewFromConfig(account, func(o *awslambda.Options) { o.Retryer = aws.NopRetryer{} })}, CodeDeploy: deployments{codedeploy.NewFromConfig(account)},
	})
	if err != nil {
		return nil, err
	}
	return lambda.NewHandler(p.Handle), nil
}

// versions invokes versions by the SDK.
type versions struct{ api *awslambda.Client }

// Invoke implements preflight.Lambda.
func (v versions) Invoke(ctx context.Context, version string, payload []byte) (preflight.Answer, error) {
	out, err := v.api.Invoke(ctx, &awslambda.InvokeInput{FunctionName: aws.String(version), Payload: payload})
	if err != nil {
		return preflight.Answer{}, err
	}
	return preflight.Answer{Payload: out.Payload, Failure: aws.ToString(out.FunctionError)}, nil
}

// deployments tells CodeDeploy by the SDK, which repeats what may pass.
type deployments struct{ api *codedeploy.Client }

// Report implements preflight.CodeDeploy.
func (d deployments) Report(ctx context.Context, of preflight.Event, succeeded bool) error {
	status := codedeploytypes.LifecycleEventStatusFailed
	if succeeded {
		status = codedeploytypes.LifecycleEventStatusSucceeded
	}
	_, err := d.api.PutLifecycleEventHookExecutionStatus(ctx, &codedeploy.PutLifecycleEventHookExecutionStatusInput{
		DeploymentId: aws.String(of.DeploymentID), LifecycleEventHookExecutionId: aws.String(of.ExecutionID), Status: status,
	})
	var told *codedeploytypes.LifecycleEventAlreadyCompletedException
	if errors.As(err, &told) { // Lambda repeats an invocation whose answer it has lost
		return nil
	}
	return err
}
