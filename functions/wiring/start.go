package wiring

import (
	"context"
	"fmt"
	"log/slog"
	"os"

	"github.com/aws/aws-lambda-go/lambda"
	"github.com/aws/aws-lambda-go/lambdacontext"
	awsconfig "github.com/aws/aws-sdk-go-v2/config"

	"github.com/waybillhq/waybill/shared/batch"
	"github.com/waybillhq/waybill/shared/config"
	"github.com/waybillhq/waybill/shared/registry"
	"github.com/waybillhq/waybill/shared/topology"
)

// Start runs a function under Lambda's runtime. It returns only when the function cannot start, with every reason at once; a
// function that cannot start deletes no message.
func Start(name topology.FunctionName, assemble func(config.Function, Parts) (*batch.Handler, error)) error {
	cfg, err := config.Load(name, os.LookupEnv)
	if err != nil {
		return err
	}
	file, err := os.ReadFile(cfg.DestinationsFile)
	if err != nil {
		return fmt.Errorf("destinations file (%s): %w", topology.DestinationsVariable, err)
	}
	set, err := registry.Parse(file, registry.Options{})
	if err != nil {
		return fmt.Errorf("destinations file %s: %w", cfg.DestinationsFile, err)
	}
	aws, err := awsconfig.LoadDefaultConfig(context.Background(), awsconfig.WithHTTPClient(client(answerTime)))
	if err != nil {
		return fmt.Errorf("AWS configuration: %w", err)
	}
	logger := slog.New(atLeast{lambdacontext.NewLogHandler(), cfg.LogLevel})
	h, err := assemble(cfg, Parts{AWS: aws, Destinations: registry.Fixed(set), Logger: logger})
	if err != nil {
		return err
	}
	lambda.Start(h.Handle)
	return nil
}
