package signing_test

import (
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/waybillhq/waybill/shared/signing"
)

// A receiver checks the signature over the bytes it read, then deduplicates on webhook-id.
func ExampleVerify() {
	key, err := signing.ParseKey("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
	if err != nil {
		fmt.Println(err)
		return
	}
	http.HandleFunc("POST /webhooks", func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 1<<20))
		if err != nil {
			return
		}
		if err := signing.Verify([]signing.Key{key}, r.Header, body, time.Now()); err != nil {
			http.Error(w, err.Error(), http.StatusUnauthorized)
			return
		}
		w.WriteHeader(http.StatusNoContent)
	})
}
