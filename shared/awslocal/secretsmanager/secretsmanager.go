// Package secretsmanager is a small, strict AWS Secrets Manager for local use: secrets and their versions in memory, with the limits, staging
// labels and error names of AWS.
//
// Implemented: CreateSecret, PutSecretValue, GetSecretValue, DescribeSecret, DeleteSecret and ListSecrets. All other operations, and members
// of requests that concern tags, replicas, filters or rotation, are refused by name.
//
// Like AWS, and worth knowing: AWSPREVIOUS follows when AWSCURRENT moves. The same ClientRequestToken with the same value does nothing a second
// time, with another value it is refused. An ARN may lack the suffix that AWS adds, but a name that ends like such a suffix is taken for a whole
// ARN. A deleted secret has a new ARN when it is created again.
//
// Not certain of AWS, so do not build on it: that an empty value is refused by CreateSecret too, and the words of refusals about limits.
//
// No value is repeated in a refusal, whatever is wrong with the request.
package secretsmanager

import (
	"cmp"
	"context"
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

// Service holds the secrets of one account and region. It is safe for concurrent use.
type Service struct {
	prefix string // of every ARN

	mu      sync.Mutex
	secrets map[string]*secret // by name
	serial  uint64             // orders secrets by creation
}

var _ wire.Service = (*Service)(nil)

// New gives a service without secrets.
func New(opts Options) *Service {
	region, account := cmp.Or(opts.Region, wire.Region), cmp.Or(opts.AccountID, wire.AccountID)
	return &Service{prefix: "arn:aws:secretsmanager:" + region + ":" + account + ":secret:", secrets: map[string]*secret{}}
}

// Name is "secretsmanager".
func (s *Service) Name() string { return "secretsmanager" }

// Do runs one operation. Every error is a *wire.Error.
func (s *Service) Do(ctx context.Context, op string, body []byte) (wire.Response, error) {
	do, ok := operations[op]
	if !ok {
		return wire.Response{}, wire.UnknownOperation(s.Name(), op)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.forgetDeleted(time.Now())
	if wire.Restricted(ctx) {
		if refused := wire.Authorize(ctx, "secretsmanager:"+op, s.resource(body)); refused != nil {
			return wire.Response{}, refused
		}
	}
	answer, refused := do(s, op, body)
	if refused != nil {
		return wire.Response{}, refused
	}
	document, err := json.Marshal(answer)
	return wire.Response{Body: document}, err
}

var operations = map[string]func(*Service, string, []byte) (any, *wire.Error){
	"CreateSecret":   operation((*Service).create),
	"PutSecretValue": operation((*Service).put),
	"GetSecretValue": operation((*Service).get),
	"DescribeSecret": operation((*Service).describe),
	"DeleteSecret":   operation((*Service).remove),
	"ListSecrets":    operation((*Service).list),
}

// operation makes a table entry of a method that takes the decoded request.
func operation[In any](do func(*Service, *In) (any, *wire.Error)) func(*Service, string, []byte) (any, *wire.Error) {
	return func(s *Service, op string, body []byte) (any, *wire.Error) {
		in := new(In)
		if refused := wire.Decode(op, body, in, invalidParameter); refused != nil {
			return nil, refused
		}
		return do(s, in)
	}
}

func invalidParameter(format string, args ...any) *wire.Error {
	return wire.Errorf("InvalidParameterException", format, args...)
}

func invalidRequest(format string, args ...any) *wire.Error {
	return wire.Errorf("InvalidRequestException", format, args...)
}

// constraint words a violated limit of the service's model.
func constraint(member, rule string) *wire.Error {
	return wire.Errorf("ValidationException", "1 validation error detected: Value at '%s' failed to satisfy constraint: Member must %s", member, rule)
}

func notFound(what string) *wire.Error {
	return wire.Errorf("ResourceNotFoundException", "Secrets Manager can't find the specified secret%s", what)
}

// seconds is how AWS JSON writes a time.
func seconds(t time.Time) float64 { return float64(t.UnixMilli()) / 1000 }

// secondsOrNil leaves out a time that there is none of.
func secondsOrNil(t time.Time) *float64 {
	if t.IsZero() {
		return nil
	}
	s := seconds(t)
	return &s
}

// resource gives the ARN of the secret that a request names: its own where there is one, else as it is named; "*" where none is.
func (s *Service) resource(body []byte) string {
	var r struct {
		ID string `json:"SecretId"`
	}
	if err := json.Unmarshal(body, &r); err != nil || r.ID == "" {
		return "*"
	}
	if found, refused := s.find(r.ID); refused == nil {
		return found.arn
	}
	if strings.HasPrefix(r.ID, "arn:") {
		return r.ID
	}
	return s.prefix + r.ID
}

// find gives the secret of that name, ARN, or ARN without its suffix, scheduled for deletion or not.
func (s *Service) find(id string) (*secret, *wire.Error) {
	name, isARN := strings.CutPrefix(id, s.prefix)
	switch {
	case id == "":
		return nil, constraint("secretId", "not be null")
	case !isARN && strings.HasPrefix(id, "arn:"):
		return nil, notFound(".")
	case !isARN && !nameForm.MatchString(id):
		return nil, invalidName()
	}
	whole := isARN && suffixForm.MatchString(name)
	if whole {
		name = name[:len(name)-suffixLength-1]
	}
	found, ok := s.secrets[name]
	if !ok || whole && found.arn != id {
		return nil, notFound(".")
	}
	return found, nil
}

// live gives the secret unless it is scheduled for deletion.
func (s *Service) live(id string) (*secret, *wire.Error) {
	found, refused := s.find(id)
	if refused == nil && !found.deleted.IsZero() {
		return nil, invalidRequest("You can't perform this operation on the secret because it was marked for deletion.")
	}
	return found, refused
}
