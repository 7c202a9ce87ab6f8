// Package ssm is a small, strict SSM Parameter Store for local use: standard parameters in memory, with the limits and error names of AWS.
//
// Implemented: PutParameter, GetParameter, GetParameters and DeleteParameter, for the types String and SecureString. Everything else, such as
// advanced parameters, StringList, labels and versions in names, tags and policies, is refused by name.
//
// A SecureString that is read without decryption gives random base64 in the form of a KMS ciphertext, the same until it is overwritten.
//
// Not certain of AWS, so do not build on it: which of the parameters "x" and "/x" is meant by an ARN, which is the same for both (here "x"),
// and that names which occur twice in GetParameters are answered once.
//
// No value is repeated in a refusal, whatever is wrong with the request.
package ssm

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"strings"
	"sync"
	"time"

	"github.com/waybillhq/waybill/shared/awslocal/wire"
)

// Options configure a Service. The zero value is usable.
type Options struct {
	AccountID string // default wire.AccountID
	Region    string // default wire.Region
}

// Service holds the parameters of one account and region. It is safe for concurrent use.
type Service struct {
	prefix string // of every ARN, without the slash before the name

	mu         sync.Mutex
	parameters map[string]*parameter // by name
}

type parameter struct {
	name, kind, value string
	ciphertext        string // what a SecureString shows without decryption
	version           int
	modified          time.Time
}

var _ wire.Service = (*Service)(nil)

// New gives a service without parameters.
func New(opts Options) *Service {
	region, account := cmp.Or(opts.Region, wire.Region), cmp.Or(opts.AccountID, wire.AccountID)
	return &Service{prefix: "arn:aws:ssm:" + region + ":" + account + ":parameter", parameters: map[string]*parameter{}}
}

// Name is "ssm".
func (s *Service) Name() string { return "ssm" }

// Do runs one operation. Every error is a *wire.Error.
func (s *Service) Do(ctx context.Context, op string, body []byte) (wire.Response, error) {
	do, ok := operations[op]
	if !ok {
		return wire.Response{}, wire.UnknownOperation(s.Name(), op)
	}
	if wire.Restricted(ctx) {
		if refused := s.authorize(ctx, op, body); refused != nil {
			return wire.Response{}, refused
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	answer, refused := do(s, op, body)
	if refused != nil {
		return wire.Response{}, refused
	}
	document, err := json.Marshal(answer)
	return wire.Response{Body: document}, err
}

// authorize asks whether the caller may do the operation on each parameter that the request names.
func (s *Service) authorize(ctx context.Context, op string, body []byte) *wire.Error {
	var r struct {
		Name  string
		Names []string
	}
	_ = json.Unmarshal(body, &r) // what is wrong with it is told to callers who may
	if r.Name != "" {
		r.Names = append(r.Names, r.Name)
	}
	if len(r.Names) == 0 {
		return wire.Authorize(ctx, "ssm:"+op, "*")
	}
	for _, name := range r.Names {
		arn := name
		if !strings.HasPrefix(name, "arn:") {
			arn = s.arn(name)
		}
		if refused := wire.Authorize(ctx, "ssm:"+op, arn); refused != nil {
			return refused
		}
	}
	return nil
}

var operations = map[string]func(*Service, string, []byte) (any, *wire.Error){
	"PutParameter":    operation((*Service).put),
	"GetParameter":    operation((*Service).get),
	"GetParameters":   operation((*Service).getSeveral),
	"DeleteParameter": operation((*Service).remove),
}

// operation makes a table entry of a method that takes the decoded request.
func operation[In any](do func(*Service, *In) (any, *wire.Error)) func(*Service, string, []byte) (any, *wire.Error) {
	return func(s *Service, op string, body []byte) (any, *wire.Error) {
		in := new(In)
		if refused := wire.Decode(op, body, in, invalid); refused != nil {
			return nil, refused
		}
		return do(s, in)
	}
}

func invalid(format string, args ...any) *wire.Error {
	return wire.Errorf("ValidationException", format, args...)
}

// constraint words a violated limit of the service's model.
func constraint(member, rule string) *wire.Error {
	return invalid("1 validation error detected: Value at '%s' failed to satisfy constraint: Member must %s", member, rule)
}

// ciphertext gives what looks like a KMS ciphertext of the value and has nothing of it.
func ciphertext(value string) string {
	const overheadBytes = 150
	raw := make([]byte, len(value)+overheadBytes)
	_, _ = rand.Read(raw) // never fails
	copy(raw, "\x01\x02\x02\x00x")
	return base64.StdEncoding.EncodeToString(raw)
}
