// Command bootstrap is the Lambda function deliverer.
package main

import (
	"log"

	"github.com/waybillhq/waybill/functions/wiring"
	"github.com/waybillhq/waybill/shared/topology"
)

func main() {
	if err := wiring.Start(topology.Deliverer, wiring.Deliverer); err != nil {
		log.Fatal(err)
	}
}
