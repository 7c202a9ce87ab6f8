package webhook

import (
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"net/http"
	"strings"
)

// body is what is kept of a response's body.
type body struct {
	digest  string
	excerpt []byte
}

// emptyDigest is the SHA-256 digest of nothing, which is what most receivers answer.
const emptyDigest = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

// readBody reads at most MaxBodyBytes of the body as it was sent, which lets the
// connection be used again if that was all of it, and takes the digest over
// them. Of a gzip body only as much as the excerpt needs is inflated, so it does
// not matter how large it would become; damaged gzip gives what came out before
// the damage. The error is one of the connection.
func readBody(response *http.Response) (body, error) {
	if response.Body == http.NoBody {
		return body{digest: emptyDigest, excerpt: []byte{}}, nil
	}
	source := &errorKeeper{Reader: io.LimitReader(response.Body, MaxBodyBytes)}
	sum := sha256.New()
	wire := io.TeeReader(source, sum)

	excerpt := make([]byte, MaxExcerptBytes)
	n := readExcerpt(excerpt, wire, response.Header.Get("Content-Encoding"))
	if source.err == nil {
		_, _ = io.Copy(io.Discard, wire)
	}
	kept := body{digest: hex.EncodeToString(sum.Sum(nil)), excerpt: excerpt[:n:n]}
	if errors.Is(source.err, io.EOF) {
		return kept, nil
	}
	return kept, source.err
}

// readExcerpt fills excerpt as far as the body goes and returns how far that is.
func readExcerpt(excerpt []byte, wire io.Reader, encoding string) int {
	switch strings.ToLower(strings.TrimSpace(encoding)) {
	case "gzip", "x-gzip":
		inflater, err := gzip.NewReader(wire)
		if err != nil {
			return 0
		}
		wire = inflater
	}
	n, _ := io.ReadFull(wire, excerpt)
	return n
}

// errorKeeper remembers how its reader ended, whatever reads through it.
type errorKeeper struct {
	io.Reader
	err error
}

func (k *errorKeeper) Read(p []byte) (int, error) {
	n, err := k.Reader.Read(p)
	if err != nil {
		k.err = err
	}
	return n, err
}
