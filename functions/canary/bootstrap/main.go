// Command bootstrap is the Lambda function canary.
package main

import (
	"log"

	"github.com/waybillhq/waybill/functions/wiring"
	"github.com/waybillhq/waybill/shared/topology"
)

func main() {
	if err := wiring.Start(topology.Canary, wiring.Canary); err != nil {
		log.Fatal(err)
	}
}
