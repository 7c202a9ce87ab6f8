package delivery_test

import (
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"testing"
)

// zipped makes the compressed form by hand.
func zipped(t *testing.T, plain string) string {
	t.Helper()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	if _, err := w.Write([]byte(plain)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return base64.StdEncoding.EncodeToString(b.Bytes())
}
