// Command bootstrap is the Lambda function preflight.
package main

import (
	"log"

	"github.com/waybillhq/waybill/functions/wiring/hook"
)

func main() {
	if err := hook.Start(); err != nil {
		log.Fatal(err)
	}
}
