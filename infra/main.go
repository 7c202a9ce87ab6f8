// Command infra is the CDK app of Waybill: `make synth` and `npx aws-cdk deploy` run it. It needs Node for CDK's own engine, and no AWS
// account to synthesise.
package main

import (
	"fmt"
	"log"

	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/jsii-runtime-go"

	"github.com/waybillhq/waybill/infra/stack"
	"github.com/waybillhq/waybill/shared/topology"
)

func main() {
	log.SetFlags(0)
	if err := run(); err != nil {
		log.Fatal(err)
	}
}

func run() error {
	defer jsii.Close()
	app := awscdk.NewApp(nil)
	profile, err := profile(app.Node().TryGetContext(jsii.String("profile")))
	if err != nil {
		return err
	}
	if _, err := stack.New(app, "waybill", stack.Props{Topology: topology.New(profile), Code: "dist"}); err != nil {
		return err
	}
	app.Synth(nil)
	return nil
}

// profile reads the context value "profile"; low latency where there is none. Whether the profile exists is the topology's to say.
func profile(context any) (topology.Profile, error) {
	switch value := context.(type) {
	case nil:
		return topology.LowLatency, nil
	case string:
		return topology.Profile(value), nil
	default:
		return "", fmt.Errorf("context profile is %v: set it to %q or %q", value, topology.LowLatency, topology.HighVolume)
	}
}
