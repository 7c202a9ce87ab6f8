package secrets_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	smtypes "github.com/aws/aws-sdk-go-v2/service/secretsmanager/types"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	ssmtypes "github.com/aws/aws-sdk-go-v2/service/ssm/types"
	"github.com/aws/smithy-go"

	"github.com/waybillhq/waybill/shared/registry"
	"github.com/waybillhq/waybill/shared/secrets"
)

const (
	secretARN    = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:waybill/hook-AbCdEf"
	parameterARN = "arn:aws:ssm:ap-south-1:123456789012:parameter/waybill/hook"
)

// whsec gives the text of a key that depends on n.
func whsec(n int) string {
	return "whsec_" + base64.StdEncoding.EncodeToString(fmt.Appendf(nil, "key %08d of those in tests", n))
}

// vault is both services: what lies under an ARN, and how they behave.
type vault struct {
	mu      sync.Mutex
	values  map[string]string
	err     error                // of every call, if set
	latency func() time.Duration // of every call; negative: until the caller gives up
	calls   int                  // made
	active  int                  // under way
	most    int                  // under way at once
	regions map[string]string    // of the last call, by ARN
	failed  time.Time            // when a call ended last without an answer
}

func newVault(values map[string]string) *vault {
	return &vault{values: values, latency: func() time.Duration { return 20 * time.Millisecond }, regions: map[string]string{}}
}

// set changes what lies under an ARN; "" deletes it.
func (v *vault) set(arn, text string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.values[arn] = text; text == "" {
		delete(v.values, arn)
	}
}

func (v *vault) fail(err error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.err = err
}

func (v *vault) count() int {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.calls
}

// troubled says whether a call has ended without an answer so recently that no other was due since.
func (v *vault) troubled() bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	return time.Since(v.failed) <= 19*time.Second
}

// read gives what lies there in the middle of the call.
func (v *vault) read(ctx context.Context, arn, region string, missing error) (text string, err error) {
	v.mu.Lock()
	v.calls++
	v.active++
	v.most = max(v.most, v.active)
	v.regions[arn] = region
	latency := v.latency()
	v.mu.Unlock()
	defer func() {
		v.mu.Lock()
		defer v.mu.Unlock()
		if v.active--; err != nil {
			v.failed = time.Now()
		}
	}()
	if latency < 0 {
		<-ctx.Done()
		return "", ctx.Err()
	}
	pause := func() error {
		select {
		case <-time.After(latency / 2):
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	if err := pause(); err != nil {
		return "", err
	}
	v.mu.Lock()
	text, ok := v.values[arn]
	err = v.err
	v.mu.Unlock()
	switch {
	case err != nil:
	case !ok:
		err = missing
	}
	return text, errors.Join(err, pause())
}

func (v *vault) GetSecretValue(ctx context.Context, in *secretsmanager.GetSecretValueInput, with ...func(*secretsmanager.Options)) (*secretsmanager.GetSecretValueOutput, error) {
	var o secretsmanager.Options
	for _, set := range with {
		set(&o)
	}
	text, err := v.read(ctx, *in.SecretId, o.Region, &smtypes.ResourceNotFoundException{Message: aws.String("Secrets Manager can't find the specified secret.")})
	if text == "bytes" {
		return &secretsmanager.GetSecretValueOutput{SecretBinary: []byte(text)}, err
	}
	return &secretsmanager.GetSecretValueOutput{SecretString: &text}, err
}

func (v *vault) GetParameter(ctx context.Context, in *ssm.GetParameterInput, with ...func(*ssm.Options)) (*ssm.GetParameterOutput, error) {
	var o ssm.Options
	for _, set := range with {
		set(&o)
	}
	if !aws.ToBool(in.WithDecryption) {
		return nil, errors.New("a ciphertext is of no use")
	}
	text, err := v.read(ctx, *in.Name, o.Region, &ssmtypes.ParameterNotFound{})
	return &ssm.GetParameterOutput{Parameter: &ssmtypes.Parameter{Value: &text}}, err
}

// refusal is an answer with an error code.
func refusal(code string) error {
	return &smithy.OperationError{ServiceID: "any", OperationName: "any", Err: &smithy.GenericAPIError{Code: code, Message: "who may not do what"}}
}

// resolver gives a Resolver on the vault.
func resolver(t testing.TB, v *vault, cfg secrets.Config) *secrets.Resolver {
	t.Helper()
	cfg.SecretsManager, cfg.SSM = v, v
	r, err := secrets.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// destination gives a destination whose secrets are these, ARNs or keys.
func destination(t testing.TB, id string, references ...string) *registry.Destination {
	t.Helper()
	list, err := json.Marshal(references)
	if err != nil {
		t.Fatal(err)
	}
	set, err := registry.Parse(fmt.Appendf(nil, `{"destinations":[{"id":%q,"tenant":"acme","type":"webhook",
		"webhook":{"url":"https://example.com/hooks","secrets":%s}}]}`, id, list), registry.Options{InlineSecrets: true})
	if err != nil {
		t.Fatal(err)
	}
	d, _ := set.Lookup(id)
	return d
}

// keys gives the texts of the destination's keys.
func keys(d *registry.Destination) []string {
	var texts []string
	for _, s := range d.Webhook.Secrets {
		texts = append(texts, "whsec_"+base64.StdEncoding.EncodeToString(s.Key()))
	}
	return texts
}
