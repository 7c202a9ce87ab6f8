package hook

import (
	"context"
	"fmt"
	"log/slog"
	"os"

	"github.com/aws/aws-lambda-go/lambda"
	"github.com/aws/aws-lambda-go/lambdacontext"
	awsconfig "github.com/aws/aws-sdk-go-v2/config"

	"github.com/waybillhq/waybill/shared/config"
)

// Start runs the function under Lambda's runtime. It returns only when the function cannot start, with every reason at once.
func Start() error {
	cfg, err := config.LoadPreflight(os.LookupEnv)
	if err != nil {
		return err
	}
	account, err := awsconfig.LoadDefaultConfig(context.Background())
	if err != nil {
		return fmt.Errorf("AWS configuration: %w", err)
	}
	logger := slog.New(lambdacontext.NewLogHandler())
	h, err := Handler(cfg, account, logger)
	if err != nil {
		return err
	}
	lambda.StartWithOptions(h)
	return nil
}
