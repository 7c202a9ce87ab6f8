// Command bootstrap is the Lambda function slowlane: the deliverer, for destinations that take long to answer.
package main

import (
	"log"

	"github.com/waybillhq/waybill/functions/wiring"
	"github.com/waybillhq/waybill/shared/topology"
)

func main() {
	if err := wiring.Start(topology.SlowLane, wiring.Deliverer); err != nil {
		log.Fatal(err)
	}
}
