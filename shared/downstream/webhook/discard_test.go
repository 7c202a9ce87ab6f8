package webhook_test

import (
	"io"
	"log"
)

// discard takes what servers say about the connections that tests break.
var discard = log.New(io.Discard, "", 0)
