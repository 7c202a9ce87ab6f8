package secrets

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/waybillhq/waybill/shared/pattern/jsontree"
	"github.com/waybillhq/waybill/shared/registry"
)

// ask makes one call when its turn has come. asked is when it was made: the answer is not older.
func (r *Resolver) ask(ctx context.Context, arn string) (asked time.Time, keys []registry.Secret, failed *Error) {
	turn := time.NewTimer(r.cfg.CallTimeout)
	defer turn.Stop()
	select {
	case r.turns <- struct{}{}:
		defer func() { <-r.turns }()
	case <-turn.C:
		return asked, nil, &Error{ARN: arn, Kind: ErrUnavailable, Detail: fmt.Sprintf("%d other calls have been under way for %v", r.cfg.Concurrency, r.cfg.CallTimeout)}
	}
	ctx, cancel := context.WithTimeout(ctx, r.cfg.CallTimeout)
	defer cancel()
	asked = r.now()
	text, err := r.read(ctx, arn)
	if err != nil {
		failed = classify(err)
		if ctx.Err() != nil && errors.Is(failed, ErrUnavailable) {
			failed.Detail = fmt.Sprintf("no answer within %v", r.cfg.CallTimeout)
		}
	} else if keys, err = parse(text); err != nil {
		failed = &Error{Kind: ErrContent, Detail: err.Error()}
	}
	if failed != nil {
		failed.ARN = arn
	}
	return asked, keys, failed
}

// read gives the text that lies under the ARN, which registry.Parse has checked.
func (r *Resolver) read(ctx context.Context, arn string) (string, error) {
	parts := strings.SplitN(arn, ":", 6)
	if len(parts) < 6 {
		return "", &Error{Kind: ErrNotFound, Detail: "not an ARN"}
	}
	region := parts[3]
	switch parts[2] {
	case "secretsmanager":
		out, err := r.cfg.SecretsManager.GetSecretValue(ctx, &secretsmanager.GetSecretValueInput{SecretId: &arn},
			func(o *secretsmanager.Options) { o.Region = region })
		if err != nil {
			return "", err
		}
		if out.SecretString == nil {
			return "", &Error{Kind: ErrContent, Detail: "it holds bytes, where text is needed; store it with --secret-string"}
		}
		return *out.SecretString, nil
	case "ssm":
		out, err := r.cfg.SSM.GetParameter(ctx, &ssm.GetParameterInput{Name: &arn, WithDecryption: aws.Bool(true)},
			func(o *ssm.Options) { o.Region = region })
		if err != nil {
			return "", err
		}
		if out.Parameter == nil {
			return "", &Error{Kind: ErrContent, Detail: "the answer holds no parameter"}
		}
		return aws.ToString(out.Parameter.Value), nil
	}
	return "", &Error{Kind: ErrNotFound, Detail: "neither an ARN of Secrets Manager nor of SSM"}
}

// kinds says what an answer of the services means. All that is not here, throttling among it, may be different in a moment.
var kinds = map[string]error{
	"ResourceNotFoundException": ErrNotFound,
	"ParameterNotFound":         ErrNotFound,
	"ParameterVersionNotFound":  ErrNotFound,
	"InvalidRequestException":   ErrNotFound, // scheduled for deletion
	"InvalidParameterException": ErrNotFound,
	"ValidationException":       ErrNotFound,
	"AccessDeniedException":     ErrDenied,
	"DecryptionFailure":         ErrDenied, // by KMS
	"InvalidKeyId":              ErrDenied,
}

// classify makes an Error of what a client gave. Little of the text is taken over: an answer that could not be read may be quoted in it.
func classify(err error) *Error {
	var own *Error
	var api smithy.APIError
	var unsent *smithyhttp.RequestSendError
	switch {
	case errors.As(err, &own):
		return own
	case errors.As(err, &api):
		e := &Error{Kind: ErrUnavailable, Detail: shorten(api.ErrorCode())}
		if kind, ok := kinds[api.ErrorCode()]; ok {
			e.Kind = kind
		}
		if errors.Is(e, ErrDenied) {
			e.Detail += ": " + shorten(api.ErrorMessage()) // says who may not do what
		}
		return e
	case errors.As(err, &unsent):
		return &Error{Kind: ErrUnavailable, Detail: shorten(fmt.Sprint(unsent.Err))}
	}
	return &Error{Kind: ErrUnavailable, Detail: "the call failed before there was an answer, or the answer could not be read"}
}

// shorten keeps what came from outside from filling an error or breaking its line.
func shorten(s string) string {
	const mostRunes = 300
	return strings.Map(func(c rune) rune {
		if unicode.IsControl(c) {
			return ' '
		}
		return c
	}, fmt.Sprintf("%.*s", mostRunes, s))
}

// generated is the member under which AWS can generate a secret: the beginning of each, because AWS puts nothing in front of what it generates.
const generated = "whsec_"

// parse reads what lies under an ARN: secrets separated by white space, or a JSON object with such values. Errors repeat nothing of it.
func parse(text string) ([]registry.Secret, error) {
	if !strings.HasPrefix(strings.TrimSpace(text), "{") {
		return registry.ParseSecrets(text)
	}
	root, err := jsontree.Parse([]byte(text), 2)
	if err != nil || root.Kind != jsontree.Object {
		return nil, errors.New("it begins like a JSON object and is none; store whsec_… as it is")
	}
	for range root.Repeated() {
		return nil, errors.New("its JSON object has a member twice; remove one of them")
	}
	var values []string
	for _, member := range root.Members {
		if member.Value.Kind != jsontree.String {
			return nil, errors.New("its JSON object has a value that is no text; keep nothing but secrets, whsec_…, in it")
		}
		value := member.Value.Text
		if member.Name == generated {
			value = generated + value
		}
		values = append(values, value)
	}
	return registry.ParseSecrets(strings.Join(values, "\n"))
}
