// Command bootstrap is the Lambda function router.
package main

import (
	"log"

	"github.com/waybillhq/waybill/functions/wiring"
	"github.com/waybillhq/waybill/shared/topology"
)

func main() {
	if err := wiring.Start(topology.Router, wiring.Router); err != nil {
		log.Fatal(err)
	}
}
