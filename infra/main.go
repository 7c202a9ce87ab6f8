// Command infra is the CDK app of Waybill: `make synth` and `npx aws-cdk deploy` run it. It needs Node for CDK's own engine, and no AWS
// account to synthesise. What it takes from CDK's context is described in README.md.
package main

import (
	"errors"
	"log"

	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/jsii-runtime-go"

	"github.com/waybillhq/waybill/infra/stack"
)

// code is where `make build` leaves the functions.
const code = "dist"

func main() {
	log.SetFlags(0)
	if err := run(); err != nil {
		log.Fatal(err)
	}
}

func run() error {
	defer jsii.Close()
	app := awscdk.NewApp(nil)
	id, props, err := read(func(key string) any { return app.Node().TryGetContext(jsii.String(key)) })
	if err := errors.Join(err, unknown(app.Node().GetAllContext(nil))); err != nil {
		return err
	}
	props.Code = code
	if _, err := stack.New(app, id, props); err != nil {
		return err
	}
	app.Synth(nil)
	return nil
}
