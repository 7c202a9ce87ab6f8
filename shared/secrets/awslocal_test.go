package secrets_test

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	ssmtypes "github.com/aws/aws-sdk-go-v2/service/ssm/types"

	"github.com/waybillhq/waybill/shared/awslocal"
	localsecrets "github.com/waybillhq/waybill/shared/awslocal/secretsmanager"
	localssm "github.com/waybillhq/waybill/shared/awslocal/ssm"
	"github.com/waybillhq/waybill/shared/registry"
	"github.com/waybillhq/waybill/shared/secrets"
	"github.com/waybillhq/waybill/shared/signing"
)

// account is both services of one account, and the AWS SDK on them.
type account struct {
	*awslocal.Endpoint
	secrets *secretsmanager.Client
	ssm     *ssm.Client
}

func newAccount() account {
	e := awslocal.New(awslocal.Options{}, localsecrets.New(localsecrets.Options{}), localssm.New(localssm.Options{}))
	return account{e, secretsClient("http://awslocal", e.Client()), ssmClient("http://awslocal", e.Client())}
}

func anybody() aws.CredentialsProvider {
	return credentials.NewStaticCredentialsProvider("any", "thing", "")
}

func secretsClient(endpoint string, over aws.HTTPClient) *secretsmanager.Client {
	return secretsmanager.New(secretsmanager.Options{BaseEndpoint: &endpoint, HTTPClient: over, Region: awslocal.Region, Credentials: anybody()})
}

func ssmClient(endpoint string, over aws.HTTPClient) *ssm.Client {
	return ssm.New(ssm.Options{BaseEndpoint: &endpoint, HTTPClient: over, Region: awslocal.Region, Credentials: anybody()})
}

// sign signs a message as a delivery to the destination does, and gives its headers.
func sign(t *testing.T, d *registry.Destination, body []byte) http.Header {
	t.Helper()
	var all []signing.Key
	for _, s := range d.Webhook.Secrets {
		key, err := signing.SharedKey(s.Key())
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, key)
	}
	at := time.Now()
	header := http.Header{}
	header.Set(signing.HeaderID, "msg_1")
	header.Set(signing.HeaderTimestamp, signing.Timestamp(at))
	header.Set(signing.HeaderSignature, signing.Sign(all, "msg_1", at, body))
	return header
}

// accepts tells whether a receiver that knows the secret takes the message.
func accepts(t *testing.T, secret string, header http.Header, body []byte) bool {
	t.Helper()
	key, err := signing.ParseKey(secret)
	if err != nil {
		t.Fatal(err)
	}
	return signing.Verify([]signing.Key{key}, header, body, time.Now()) == nil
}

// TestRotationOverTheWire goes through a rotation as a person makes it: every receiver accepts every message, whichever secret it knows.
func TestRotationOverTheWire(t *testing.T) {
	for _, service := range []string{"Secrets Manager", "SSM"} {
		t.Run(service, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a := newAccount()
				defer func() { _ = a.Close() }()
				r, err := secrets.New(secrets.Config{SecretsManager: a.secrets, SSM: a.ssm})
				if err != nil {
					t.Fatal(err)
				}
				var arn string
				if service == "SSM" {
					arn = a.storeParameter(t, whsec(1))
				} else {
					arn = a.createSecret(t, whsec(1))
				}
				d := destination(t, "crm", arn)
				body := []byte(`{"order":9007199254740993}`)
				for _, step := range []struct {
					stored           string
					oldKnows, newHas bool
				}{
					{whsec(1), true, false},
					{whsec(2) + " " + whsec(1), true, true},
					{whsec(2), false, true},
				} {
					if service == "SSM" {
						a.storeParameter(t, step.stored)
					} else {
						a.putSecret(t, arn, step.stored)
					}
					time.Sleep(5 * time.Minute)
					resolved, err := r.Resolve(t.Context(), d)
					if err != nil {
						t.Fatal(err)
					}
					header := sign(t, resolved, body)
					if accepts(t, whsec(1), header, body) != step.oldKnows || accepts(t, whsec(2), header, body) != step.newHas {
						t.Errorf("with %d keys stored: receivers of the old secret accept %t, of the new %t",
							len(strings.Fields(step.stored)), accepts(t, whsec(1), header, body), accepts(t, whsec(2), header, body))
					}
				}
				if calls := a.Counts().Total(""); calls.Refused != 0 {
					t.Errorf("calls %+v", calls)
				}
			})
		})
	}
}

func (a account) createSecret(t *testing.T, text string) string {
	t.Helper()
	out, err := a.secrets.CreateSecret(t.Context(), &secretsmanager.CreateSecretInput{Name: aws.String("waybill/crm"), SecretString: &text})
	if err != nil {
		t.Fatal(err)
	}
	return *out.ARN
}

func (a account) putSecret(t *testing.T, arn, text string) {
	t.Helper()
	if _, err := a.secrets.PutSecretValue(t.Context(), &secretsmanager.PutSecretValueInput{SecretId: &arn, SecretString: &text}); err != nil {
		t.Fatal(err)
	}
}

// storeParameter creates or overwrites the parameter and gives its ARN.
func (a account) storeParameter(t *testing.T, text string) string {
	t.Helper()
	name := aws.String("/waybill/crm")
	_, err := a.ssm.PutParameter(t.Context(), &ssm.PutParameterInput{Name: name, Value: &text, Type: ssmtypes.ParameterTypeSecureString, Overwrite: aws.Bool(true)})
	if err != nil {
		t.Fatal(err)
	}
	out, err := a.ssm.GetParameter(t.Context(), &ssm.GetParameterInput{Name: name})
	if err != nil {
		t.Fatal(err)
	}
	return *out.Parameter.ARN
}

// TestFailuresOverTheWire: what the SDK makes of a service's refusals is told apart.
func TestFailuresOverTheWire(t *testing.T) {
	for _, row := range []struct {
		name  string
		fault *awslocal.Fault
		err   error
	}{
		{"deleted", nil, secrets.ErrNotFound},
		{"throttled", &awslocal.Fault{Throttle: true}, secrets.ErrUnavailable},
		{"no answer", &awslocal.Fault{WithholdAnswer: true}, secrets.ErrUnavailable},
		{"a slow answer", &awslocal.Fault{Delay: time.Minute}, secrets.ErrUnavailable},
		{"an answer that cannot be read", &awslocal.Fault{RewriteResponse: func([]byte) []byte {
			return []byte(`{"SecretString":["` + whsec(1) + `"],"Parameter":"` + whsec(1) + `"}`)
		}}, secrets.ErrUnavailable},
	} {
		t.Run(row.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a := newAccount()
				defer func() { _ = a.Close() }()
				r, err := secrets.New(secrets.Config{SecretsManager: a.secrets, SSM: a.ssm})
				if err != nil {
					t.Fatal(err)
				}
				for _, arn := range []string{a.createSecret(t, whsec(1)), a.storeParameter(t, whsec(1))} {
					missing := arn
					if row.fault != nil {
						a.Faults().Add(*row.fault)
					} else if missing = arn[:len(arn)-6] + "000000"; strings.Contains(arn, ":ssm:") {
						missing = arn + "/2"
					}
					_, err := r.Resolve(t.Context(), destination(t, "crm", missing))
					if !errors.Is(err, row.err) {
						t.Errorf("got %v, want %v", err, row.err)
					}
					checkError(t, err, missing)
					a.Faults().Clear()
				}
			})
		})
	}
}

// hosts notes where calls go, and lets none through.
type hosts struct{ seen []string }

func (h *hosts) Do(r *http.Request) (*http.Response, error) {
	h.seen = append(h.seen, r.URL.Host+" "+strings.Join(strings.Split(r.Header.Get("Authorization"), "/")[2:3], ""))
	return nil, errors.New("no network")
}

// TestCallsGoToTheRegionOfTheARN looks at what the SDK does with the option.
func TestCallsGoToTheRegionOfTheARN(t *testing.T) {
	h := &hosts{}
	r, err := secrets.New(secrets.Config{
		SecretsManager: secretsmanager.New(secretsmanager.Options{HTTPClient: h, Region: "us-east-1", Credentials: anybody(), RetryMaxAttempts: 1}),
		SSM:            ssm.New(ssm.Options{HTTPClient: h, Region: "us-east-1", Credentials: anybody(), RetryMaxAttempts: 1}),
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, arn := range []string{secretARN, parameterARN, strings.Replace(strings.Replace(secretARN, "arn:aws:", "arn:aws-cn:", 1), "eu-west-1", "cn-north-1", 1)} {
		_, err := r.Resolve(t.Context(), destination(t, "crm", arn))
		if !errors.Is(err, secrets.ErrUnavailable) || !strings.Contains(err.Error(), "no network") {
			t.Errorf("got %v", err)
		}
	}
	want := []string{
		"secretsmanager.eu-west-1.amazonaws.com eu-west-1", "ssm.ap-south-1.amazonaws.com ap-south-1", "secretsmanager.cn-north-1.amazonaws.com.cn cn-north-1",
	}
	if fmt.Sprint(h.seen) != fmt.Sprint(want) {
		t.Errorf("calls to %q, want %q", h.seen, want)
	}
}

// TestAWSCLI stores secrets as a person does, with the AWS CLI on PATH.
func TestAWSCLI(t *testing.T) {
	t.Parallel() // Python takes its time
	program, err := exec.LookPath("aws")
	if err != nil || testing.Short() {
		t.Skip("no aws on PATH, or no time for it")
	}
	l, err := awslocal.Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	endpoint := "http://" + l.Addr().String()
	e := awslocal.New(awslocal.Options{}, localsecrets.New(localsecrets.Options{}), localssm.New(localssm.Options{}))
	t.Cleanup(func() { _ = e.Close() })
	go func() { _ = e.Serve(l) }()
	run := func(arguments ...string) string {
		t.Helper()
		command := exec.CommandContext(t.Context(), program, append([]string{"--endpoint-url", endpoint, "--output", "text"}, arguments...)...)
		command.Env = append(os.Environ(), "AWS_ACCESS_KEY_ID=any", "AWS_SECRET_ACCESS_KEY=thing", "AWS_DEFAULT_REGION=us-east-1", "AWS_PAGER=", "AWS_MAX_ATTEMPTS=1")
		out, err := command.CombinedOutput()
		if err != nil {
			t.Fatalf("aws %v: %v\n%s", arguments[:2], err, out)
		}
		return strings.TrimSpace(string(out))
	}
	arn := run("secretsmanager", "create-secret", "--name", "waybill/crm", "--secret-string", whsec(1), "--query", "ARN")
	run("secretsmanager", "put-secret-value", "--secret-id", "waybill/crm", "--secret-string", `{"new":"`+whsec(2)+`","old":"`+whsec(1)+`"}`)
	run("ssm", "put-parameter", "--name", "/waybill/crm", "--type", "SecureString", "--value", whsec(3))
	parameter := run("ssm", "get-parameter", "--name", "/waybill/crm", "--query", "Parameter.ARN")

	r, err := secrets.New(secrets.Config{SecretsManager: secretsClient(endpoint, nil), SSM: ssmClient(endpoint, nil)})
	if err != nil {
		t.Fatal(err)
	}
	d, err := r.Resolve(t.Context(), destination(t, "crm", arn, parameter))
	if err != nil {
		t.Fatal(err)
	}
	body := []byte("{}")
	header := sign(t, d, body)
	for n := 1; n <= 3; n++ {
		if !accepts(t, whsec(n), header, body) {
			t.Errorf("a receiver that knows secret %d of 3 refuses", n)
		}
	}
}
