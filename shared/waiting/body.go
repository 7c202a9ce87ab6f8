package waiting

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/waybillhq/waybill/shared/delivery"
	"github.com/waybillhq/waybill/shared/queue"
)

// Zipped is the only form of a body so far: the body of the queue message, gzip.
const Zipped = 1

// ErrUnreadable says that a row holds no message in a form that this release reads. It must be kept until a release is back that does.
var ErrUnreadable = errors.New("waiting: row is in no form that this release reads")

// packer compresses messages. A compressor is a megabyte of memory, so they are used again.
type packer struct{ writers sync.Pool }

func (p *packer) pack(m *delivery.Message) ([]byte, error) {
	body, err := m.Encode(delivery.MaxBytes)
	if err != nil {
		return nil, err
	}
	var zipped bytes.Buffer
	gz, ok := p.writers.Get().(*gzip.Writer)
	if !ok {
		gz = gzip.NewWriter(nil)
	}
	defer p.writers.Put(gz)
	gz.Reset(&zipped)
	_, err = io.WriteString(gz, body)
	if err = errors.Join(err, gz.Close()); err != nil {
		return nil, fmt.Errorf("compress a delivery for the waiting room: %w", err)
	}
	return zipped.Bytes(), nil
}

// Message gives the body of the queue message that the row holds, at most queue.MaxBytes. The error is ErrUnreadable.
func (r Row) Message() (string, error) {
	if r.Form != Zipped || r.Token == "" || r.Destination == "" {
		return "", fmt.Errorf("%w: form %d, this release reads %d", ErrUnreadable, r.Form, Zipped)
	}
	gz, err := gzip.NewReader(bytes.NewReader(r.Body))
	if err != nil {
		return "", fmt.Errorf("%w: %w", ErrUnreadable, err)
	}
	body, err := io.ReadAll(io.LimitReader(gz, queue.MaxBytes+1))
	switch {
	case err != nil:
		return "", fmt.Errorf("%w: %w", ErrUnreadable, err)
	case len(body) > queue.MaxBytes || len(body) == 0:
		return "", fmt.Errorf("%w: %d bytes, a queue takes 1 to %d", ErrUnreadable, len(body), queue.MaxBytes)
	}
	return string(body), nil
}

// Unpack gives the delivery message that the row holds, as a deliverer will read it. The error is ErrUnreadable, around that of delivery.Decode where
// the message is what cannot be read.
func Unpack(r Row) (delivery.Message, error) {
	body, err := r.Message()
	if err != nil {
		return delivery.Message{}, err
	}
	m, err := delivery.Decode(body)
	if err != nil {
		return delivery.Message{}, fmt.Errorf("%w: %w", ErrUnreadable, err)
	}
	return m, nil
}
