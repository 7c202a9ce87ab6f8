// Command bootstrap is the Lambda function waker.
package main

import (
	"log"

	"github.com/waybillhq/waybill/functions/wiring"
	"github.com/waybillhq/waybill/shared/topology"
)

func main() {
	if err := wiring.Start(topology.Waker, wiring.Waker); err != nil {
		log.Fatal(err)
	}
}
