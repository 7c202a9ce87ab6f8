package wiring

import (
	"context"
	"fmt"
	"log/slog"
	"os"

	"github.com/aws/aws-lambda-go/lambda"
	"github.com/aws/aws-lambda-go/lambdacontext"
	awsconfig "github.com/aws/aws-sdk-go-v2/config"

	"github.com/waybillhq/waybill/shared/config"
	"github.com/waybillhq/waybill/shared/registry"
	"github.com/waybillhq/waybill/shared/topology"
)

// Start runs a function under Lambda's runtime. It returns only when the function cannot start, with every reason at once; a
// function that cannot start deletes no message.
func Start(name topology.FunctionName, assemble Assembly) error {
	cfg, err := config.Load(name, os.LookupEnv)
	if err != nil {
		return err
	}
	destinations, err := fixed(cfg)
	if err != nil {
		return err
	}
	aws, err := awsconfig.LoadDefaultConfig(context.Background(), awsconfig.WithHTTPClient(client(answerTime)))
	if err != nil {
		return fmt.Errorf("AWS configuration: %w", err)
	}
	logger := slog.New(atLeast{lambdacontext.NewLogHandler(), cfg.LogLevel})
	h, err := assemble(cfg, Parts{AWS: aws, Destinations: destinations, Logger: logger, Metrics: os.Stdout})
	if err != nil {
		return err
	}
	lambda.Start(h)
	return nil
}

// fixed reads the destinations that are deployed with the function, if there are any.
func fixed(cfg config.Function) (*registry.Set, error) {
	if cfg.DestinationsFile == "" {
		return nil, nil //nolint:nilnil // nil means those in the registry
	}
	file, err := os.ReadFile(cfg.DestinationsFile)
	if err != nil {
		return nil, fmt.Errorf("destinations file (%s): %w", topology.DestinationsVariable, err)
	}
	set, err := registry.Parse(file, registry.Options{})
	if err != nil {
		return nil, fmt.Errorf("destinations file %s: %w", cfg.DestinationsFile, err)
	}
	return set, nil
}
