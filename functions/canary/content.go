package canary

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/waybillhq/waybill/shared/signing"
)

// content is the data of an event of the canary.
type content struct {
	sent time.Time // to the millisecond, in UTC
	seal string
}

// errContent says that data was never sent by the canary, or not so.
var errContent = errors.New("not the content of a canary")

// minute is the id of the event.
func (c content) minute() string { return c.sent.Format("2006-01-02T15:04Z") }

// odd is JSON that does not survive being read and written again by most libraries. Members whose order is not that of the alphabet, a number with a zero that means
// nothing, one beyond what a float64 can hold, white space, letters of several bytes with and without escapes.
const odd = `{"z": 1.0, "a" : 9007199254740993,	"text":"\u00e9 é 漢 🐤 \/"}`

// encode gives the bytes that travel.
func (c content) encode() []byte {
	return fmt.Appendf(nil, `{"sent":%d, "odd":%s, "seal":%q}`, c.sent.UnixMilli(), odd, c.seal)
}

// decode reads data that must be, to the byte, what encode gives.
func decode(data []byte) (content, error) {
	var wire struct {
		Sent int64  `json:"sent"`
		Seal string `json:"seal"`
	}
	if err := json.Unmarshal(data, &wire); err != nil {
		return content{}, errContent
	}
	c := content{sent: time.UnixMilli(wire.Sent).UTC(), seal: wire.Seal}
	if !bytes.Equal(data, c.encode()) {
		return content{}, errContent
	}
	return c, nil
}

// sealed names what the seal is for: no webhook-id begins so, and so no signature of a webhook is a seal.
func (c content) sealed() string { return "canary-seal/" + c.minute() }

// unsealed are the bytes that the seal is over.
func (c content) unsealed() []byte { return content{sent: c.sent}.encode() }

func (c content) sign(keys []signing.Key) string {
	return signing.Sign(keys, c.sealed(), c.sent, c.unsealed())
}

// verify tells whether the seal is one of these keys' and not older than signing.Tolerance, or from a clock that far ahead.
func (c content) verify(keys []signing.Key, now time.Time) error {
	header := http.Header{}
	header.Set(signing.HeaderID, c.sealed())
	header.Set(signing.HeaderTimestamp, signing.Timestamp(c.sent))
	header.Set(signing.HeaderSignature, c.seal)
	return signing.Verify(keys, header, c.unsealed(), now)
}
