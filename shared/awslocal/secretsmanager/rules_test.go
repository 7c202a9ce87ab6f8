package secretsmanager_test

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	sdk "github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/smithy-go"

	"github.com/waybillhq/waybill/shared/awslocal"
	"github.com/waybillhq/waybill/shared/awslocal/secretsmanager"
)

// marker is in every value: no refusal may show it.
const marker = "Qm9uZSBpcyB3aGl0ZQ"

// world is what a row of the table has: the AWS SDK on an endpoint, and a test to fail.
type world struct {
	*testing.T
	c    *sdk.Client
	name string // unlike that of any other row or run
}

func client(endpoint string, over aws.HTTPClient) *sdk.Client {
	return sdk.New(sdk.Options{
		BaseEndpoint: aws.String(endpoint), HTTPClient: over, Region: awslocal.Region,
		Credentials: credentials.NewStaticCredentialsProvider("any", "thing", ""), RetryMaxAttempts: 1,
	})
}

// TestRules holds the service to one rule of Secrets Manager a row. With AWSLOCAL_ENDPOINT=http://… all rows ask that endpoint instead.
func TestRules(t *testing.T) {
	endpoint := os.Getenv("AWSLOCAL_ENDPOINT")
	if endpoint == "" {
		l, err := awslocal.Listen("127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		e := awslocal.New(awslocal.Options{}, secretsmanager.New(secretsmanager.Options{}))
		t.Cleanup(func() { _ = e.Close() })
		go func() { _ = e.Serve(l) }()
		endpoint = "http://" + l.Addr().String()
	}
	c := client(endpoint, nil)
	for _, row := range rules {
		t.Run(row.name, func(t *testing.T) { row.holds(world{t, c, "waybill/" + rand.Text()[:12]}) })
	}
}

const (
	notFound  = "ResourceNotFoundException"
	exists    = "ResourceExistsException"
	badValue  = "InvalidParameterException"
	badTiming = "InvalidRequestException"
	invalid   = "ValidationException"
)

var rules = []struct {
	name  string
	holds func(w world)
}{
	{"create gives name, version and an ARN with six more characters", func(w world) {
		out, err := w.c.CreateSecret(w.Context(), &sdk.CreateSecretInput{Name: &w.name, SecretString: aws.String(marker)})
		w.ok(err)
		form := regexp.MustCompile(`^arn:aws:secretsmanager:[a-z0-9-]+:\d{12}:secret:` + w.name + `-[A-Za-z0-9]{6}$`)
		if !form.MatchString(*out.ARN) || *out.Name != w.name || len(*out.VersionId) < 32 {
			w.Errorf("%s %s %s", *out.ARN, *out.Name, *out.VersionId)
		}
	}},
	{"create twice is refused", func(w world) {
		w.create(marker)
		_, err := w.c.CreateSecret(w.Context(), &sdk.CreateSecretInput{Name: &w.name, SecretString: aws.String(marker)})
		w.refused(err, exists)
	}},
	{"create repeated with the same token and value does nothing", func(w world) {
		in := &sdk.CreateSecretInput{Name: &w.name, SecretString: aws.String(marker), ClientRequestToken: aws.String(token())}
		first, err := w.c.CreateSecret(w.Context(), in)
		w.ok(err)
		second, err := w.c.CreateSecret(w.Context(), in)
		if w.ok(err); *first.ARN != *second.ARN || *second.VersionId != *in.ClientRequestToken {
			w.Errorf("%s, then %s", *first.ARN, *second.ARN)
		}
		in.SecretString = aws.String(marker + "2")
		_, err = w.c.CreateSecret(w.Context(), in)
		w.refused(err, exists)
	}},
	{"names have letters, digits and /_+=.@-", func(w world) {
		for _, name := range []string{"with space", "colon:", "ünïcode", strings.Repeat("x", 513)} {
			_, err := w.c.CreateSecret(w.Context(), &sdk.CreateSecretInput{Name: &name})
			w.refused(err, invalid)
		}
	}},
	{"text and bytes at once are refused", func(w world) {
		_, err := w.c.CreateSecret(w.Context(), &sdk.CreateSecretInput{Name: &w.name, SecretString: aws.String(marker), SecretBinary: []byte(marker)})
		w.refused(err, badValue)
	}},
	{"a value has at most 64 KiB", func(w world) {
		arn := w.create(marker + strings.Repeat("x", 65536-len(marker)))
		_, err := w.c.PutSecretValue(w.Context(), &sdk.PutSecretValueInput{SecretId: &arn, SecretString: aws.String(marker + strings.Repeat("é", 32768))})
		w.refused(err, invalid)
		_, err = w.c.PutSecretValue(w.Context(), &sdk.PutSecretValueInput{SecretId: &arn, SecretBinary: bytes.Repeat([]byte(marker), 4000)})
		w.refused(err, invalid)
	}},
	{"tokens have 32 to 64 characters", func(w world) {
		for _, token := range []string{"short", strings.Repeat("t", 65)} {
			_, err := w.c.CreateSecret(w.Context(), &sdk.CreateSecretInput{Name: &w.name, SecretString: aws.String(marker), ClientRequestToken: &token})
			w.refused(err, badValue)
		}
	}},
	{"a secret is found by name, ARN and ARN without its suffix", func(w world) {
		arn := w.create(marker)
		for _, id := range []string{w.name, arn, arn[:len(arn)-7]} {
			out, err := w.get(&sdk.GetSecretValueInput{SecretId: &id})
			if w.ok(err); *out.SecretString != marker || *out.ARN != arn || *out.Name != w.name || !slices.Equal(out.VersionStages, []string{"AWSCURRENT"}) ||
				time.Since(*out.CreatedDate).Abs() > time.Hour {
				w.Errorf("%s: %s %v %v", id, *out.ARN, out.VersionStages, out.CreatedDate)
			}
		}
	}},
	{"an ARN with another suffix is not found", func(w world) {
		arn := w.create(marker)
		_, err := w.get(&sdk.GetSecretValueInput{SecretId: aws.String(arn[:len(arn)-6] + "000000")})
		w.refused(err, notFound)
	}},
	{"a name that ends like a suffix is not found by an ARN without its own", func(w world) {
		w.name += "-abc123"
		arn := w.create(marker)
		_, err := w.get(&sdk.GetSecretValueInput{SecretId: aws.String(arn[:len(arn)-7])})
		w.refused(err, notFound)
		_, err = w.get(&sdk.GetSecretValueInput{SecretId: &arn})
		w.ok(err)
	}},
	{"what does not exist is not found", func(w world) {
		for _, id := range []string{w.name, "arn:aws:secretsmanager:us-east-1:000000000000:secret:" + w.name, "arn:aws:sqs:us-east-1:000000000000:x"} {
			_, err := w.get(&sdk.GetSecretValueInput{SecretId: &id})
			w.refused(err, notFound)
			_, err = w.c.DescribeSecret(w.Context(), &sdk.DescribeSecretInput{SecretId: &id})
			w.refused(err, notFound)
			_, err = w.c.PutSecretValue(w.Context(), &sdk.PutSecretValueInput{SecretId: &id, SecretString: aws.String(marker)})
			w.refused(err, notFound)
		}
	}},
	{"an id that cannot be a name is refused", func(w world) {
		_, err := w.get(&sdk.GetSecretValueInput{SecretId: aws.String("two words")})
		w.refused(err, invalid)
	}},
	{"bytes come back as bytes", func(w world) {
		arn := w.create(marker)
		raw := []byte{0, 255, '"', '\n'}
		_, err := w.c.PutSecretValue(w.Context(), &sdk.PutSecretValueInput{SecretId: &arn, SecretBinary: raw})
		w.ok(err)
		out, err := w.get(&sdk.GetSecretValueInput{SecretId: &arn})
		if w.ok(err); !bytes.Equal(out.SecretBinary, raw) || out.SecretString != nil {
			w.Errorf("%x, text %t", out.SecretBinary, out.SecretString != nil)
		}
	}},
	{"put moves AWSCURRENT, and AWSPREVIOUS follows", func(w world) {
		arn := w.create("1")
		two, three := w.put(arn, "2"), w.put(arn, "3")
		w.value(&sdk.GetSecretValueInput{SecretId: &arn}, "3")
		w.value(&sdk.GetSecretValueInput{SecretId: &arn, VersionStage: aws.String("AWSPREVIOUS")}, "2")
		w.value(&sdk.GetSecretValueInput{SecretId: &arn, VersionId: &two}, "2")
		w.value(&sdk.GetSecretValueInput{SecretId: &arn, VersionId: &three, VersionStage: aws.String("AWSCURRENT")}, "3")
		out, err := w.c.DescribeSecret(w.Context(), &sdk.DescribeSecretInput{SecretId: &arn})
		w.ok(err)
		want := map[string][]string{two: {"AWSPREVIOUS"}, three: {"AWSCURRENT"}}
		if fmt.Sprint(out.VersionIdsToStages) != fmt.Sprint(want) {
			w.Errorf("labels %v, want %v", out.VersionIdsToStages, want)
		}
	}},
	{"put with other labels leaves AWSCURRENT where it is", func(w world) {
		arn := w.create("1")
		for _, value := range []string{"2", "3"} {
			_, err := w.c.PutSecretValue(w.Context(), &sdk.PutSecretValueInput{SecretId: &arn, SecretString: &value, VersionStages: []string{"AWSPENDING"}})
			w.ok(err)
		}
		w.value(&sdk.GetSecretValueInput{SecretId: &arn}, "1")
		w.value(&sdk.GetSecretValueInput{SecretId: &arn, VersionStage: aws.String("AWSPENDING")}, "3")
	}},
	{"labels are 1 to 20", func(w world) {
		arn := w.create(marker)
		for _, stages := range [][]string{{}, slices.Repeat([]string{"x"}, 21), {""}, {strings.Repeat("x", 257)}} {
			_, err := w.c.PutSecretValue(w.Context(), &sdk.PutSecretValueInput{SecretId: &arn, SecretString: aws.String(marker + "2"), VersionStages: stages})
			w.refused(err, invalid)
		}
	}},
	{"the first version is current whatever its labels are", func(w world) {
		_, err := w.c.CreateSecret(w.Context(), &sdk.CreateSecretInput{Name: &w.name})
		w.ok(err)
		_, err = w.get(&sdk.GetSecretValueInput{SecretId: &w.name})
		w.refused(err, notFound)
		_, err = w.c.PutSecretValue(w.Context(), &sdk.PutSecretValueInput{SecretId: &w.name, SecretString: aws.String("1"), VersionStages: []string{"mine"}})
		w.ok(err)
		w.value(&sdk.GetSecretValueInput{SecretId: &w.name}, "1")
	}},
	{"put repeated with the same token and value does nothing", func(w world) {
		arn := w.create("1")
		in := &sdk.PutSecretValueInput{SecretId: &arn, SecretString: aws.String("2"), ClientRequestToken: aws.String(token())}
		for range 2 {
			_, err := w.c.PutSecretValue(w.Context(), in)
			w.ok(err)
		}
		w.value(&sdk.GetSecretValueInput{SecretId: &arn, VersionStage: aws.String("AWSPREVIOUS")}, "1")
		in.SecretString = aws.String(marker)
		_, err := w.c.PutSecretValue(w.Context(), in)
		w.refused(err, exists)
	}},
	{"put without a value is refused", func(w world) {
		arn := w.create(marker)
		for _, in := range []*sdk.PutSecretValueInput{{SecretId: &arn}, {SecretId: &arn, SecretString: aws.String("")}} {
			_, err := w.c.PutSecretValue(w.Context(), in)
			w.refused(err, badTiming)
		}
	}},
	{"a secret has at most 100 versions without a label", func(w world) {
		arn := w.create("1")
		second := w.put(arn, "2")
		for range 120 {
			w.put(arn, "x")
		}
		_, err := w.get(&sdk.GetSecretValueInput{SecretId: &arn, VersionId: &second})
		w.refused(err, notFound)
	}},
	{"versions and labels that do not exist are not found", func(w world) {
		arn := w.create(marker)
		_, err := w.get(&sdk.GetSecretValueInput{SecretId: &arn, VersionId: aws.String(token())})
		w.refused(err, notFound)
		_, err = w.get(&sdk.GetSecretValueInput{SecretId: &arn, VersionStage: aws.String("AWSPREVIOUS")})
		w.refused(err, notFound)
	}},
	{"a label of another version is refused", func(w world) {
		arn := w.create(marker)
		second := w.put(arn, "2")
		_, err := w.get(&sdk.GetSecretValueInput{SecretId: &arn, VersionId: &second, VersionStage: aws.String("AWSPREVIOUS")})
		w.refused(err, badTiming)
	}},
	{"describe tells everything but the value", func(w world) {
		arn := w.create(marker)
		out, err := w.c.DescribeSecret(w.Context(), &sdk.DescribeSecretInput{SecretId: &w.name})
		if w.ok(err); *out.ARN != arn || *out.Description != "of a test" || *out.KmsKeyId != "alias/mine" || out.CreatedDate == nil || out.LastChangedDate == nil || out.DeletedDate != nil {
			w.Errorf("%+v", out)
		}
	}},
	{"forced deletion takes effect at once, and a new secret of that name has a new ARN", func(w world) {
		arn := w.create(marker)
		out, err := w.c.DeleteSecret(w.Context(), &sdk.DeleteSecretInput{SecretId: &w.name, ForceDeleteWithoutRecovery: aws.Bool(true)})
		if w.ok(err); *out.ARN != arn || *out.Name != w.name || out.DeletionDate == nil {
			w.Errorf("%+v", out)
		}
		_, err = w.get(&sdk.GetSecretValueInput{SecretId: &arn})
		w.refused(err, notFound)
		if again := w.create(marker); again == arn {
			w.Error("the same ARN")
		}
	}},
	{"forced deletion of what does not exist succeeds", func(w world) {
		_, err := w.c.DeleteSecret(w.Context(), &sdk.DeleteSecretInput{SecretId: &w.name, ForceDeleteWithoutRecovery: aws.Bool(true)})
		w.ok(err)
		_, err = w.c.DeleteSecret(w.Context(), &sdk.DeleteSecretInput{SecretId: &w.name})
		w.refused(err, notFound)
	}},
	{"deletion is scheduled in 7 to 30 days, and not forced at the same time", func(w world) {
		w.create(marker)
		for _, in := range []*sdk.DeleteSecretInput{
			{RecoveryWindowInDays: aws.Int64(6)}, {RecoveryWindowInDays: aws.Int64(31)}, {RecoveryWindowInDays: aws.Int64(7), ForceDeleteWithoutRecovery: aws.Bool(true)},
		} {
			in.SecretId = &w.name
			_, err := w.c.DeleteSecret(w.Context(), in)
			w.refused(err, badValue)
		}
	}},
	{"a secret that is scheduled for deletion is described, and nothing else", func(w world) {
		arn := w.create(marker)
		out, err := w.c.DeleteSecret(w.Context(), &sdk.DeleteSecretInput{SecretId: &arn})
		if w.ok(err); time.Until(*out.DeletionDate).Round(time.Hour) != 30*24*time.Hour {
			w.Errorf("deletion at %v", out.DeletionDate)
		}
		_, err = w.get(&sdk.GetSecretValueInput{SecretId: &arn})
		w.refused(err, badTiming)
		_, err = w.c.PutSecretValue(w.Context(), &sdk.PutSecretValueInput{SecretId: &arn, SecretString: aws.String(marker)})
		w.refused(err, badTiming)
		_, err = w.c.CreateSecret(w.Context(), &sdk.CreateSecretInput{Name: &w.name, SecretString: aws.String(marker)})
		w.refused(err, badTiming)
		_, err = w.c.DeleteSecret(w.Context(), &sdk.DeleteSecretInput{SecretId: &arn})
		w.refused(err, badTiming)
		described, err := w.c.DescribeSecret(w.Context(), &sdk.DescribeSecretInput{SecretId: &arn})
		if w.ok(err); described.DeletedDate == nil {
			w.Error("no date of deletion")
		}
	}},
	{"list gives all in pages, without those that are scheduled for deletion", func(w world) {
		prefix := w.name
		for _, n := range []string{"1", "2", "3", "4"} {
			w.name = prefix + n
			w.create(marker)
		}
		_, err := w.c.DeleteSecret(w.Context(), &sdk.DeleteSecretInput{SecretId: aws.String(prefix + "3")})
		w.ok(err)
		for planned, want := range map[bool][]string{false: {"1", "2", "4"}, true: {"1", "2", "3", "4"}} {
			var got []string
			pages := sdk.NewListSecretsPaginator(w.c, &sdk.ListSecretsInput{MaxResults: aws.Int32(2), IncludePlannedDeletion: &planned})
			for pages.HasMorePages() {
				page, err := pages.NextPage(w.Context())
				if w.ok(err); len(page.SecretList) > 2 {
					w.Errorf("a page of %d", len(page.SecretList))
				}
				for _, entry := range page.SecretList {
					if rest, ok := strings.CutPrefix(*entry.Name, prefix); ok {
						got = append(got, rest)
					}
					if entry.DeletedDate == nil && len(entry.SecretVersionsToStages) == 0 && strings.HasPrefix(*entry.Name, prefix) {
						w.Errorf("%s has no versions", *entry.Name)
					}
				}
			}
			if slices.Sort(got); !slices.Equal(got, want) {
				w.Errorf("%q, want %q", got, want)
			}
		}
	}},
	{"pages have 1 to 100 secrets", func(w world) {
		for _, n := range []int32{0, 101} {
			_, err := w.c.ListSecrets(w.Context(), &sdk.ListSecretsInput{MaxResults: &n})
			w.refused(err, invalid)
		}
	}},
	{"a page token of others is refused", func(w world) {
		_, err := w.c.ListSecrets(w.Context(), &sdk.ListSecretsInput{NextToken: aws.String("bm9uc2Vuc2U=")})
		w.refused(err, "InvalidNextTokenException")
	}},
}

func (w world) get(in *sdk.GetSecretValueInput) (*sdk.GetSecretValueOutput, error) {
	return w.c.GetSecretValue(w.Context(), in)
}

// create creates the row's secret and gives its ARN.
func (w world) create(value string) string {
	w.Helper()
	out, err := w.c.CreateSecret(w.Context(), &sdk.CreateSecretInput{
		Name: &w.name, SecretString: &value, Description: aws.String("of a test"), KmsKeyId: aws.String("alias/mine"),
	})
	w.ok(err)
	return *out.ARN
}

// put gives the version.
func (w world) put(arn, value string) string {
	w.Helper()
	out, err := w.c.PutSecretValue(w.Context(), &sdk.PutSecretValueInput{SecretId: &arn, SecretString: &value})
	w.ok(err)
	return *out.VersionId
}

func (w world) value(in *sdk.GetSecretValueInput, want string) {
	w.Helper()
	out, err := w.get(in)
	if w.ok(err); *out.SecretString != want {
		w.Errorf("got %s, want %s", *out.SecretString, want)
	}
}

func (w world) ok(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

func (w world) refused(err error, code string) {
	w.Helper()
	var api smithy.APIError
	if !errors.As(err, &api) || api.ErrorCode() != code {
		w.Errorf("got %v, want %s", err, code)
		return
	}
	if strings.Contains(fmt.Sprintf("%v %+v", err, api), marker) {
		w.Errorf("the refusal shows the value: %v", err)
	}
}

func token() string { return rand.Text() + rand.Text() }

func TestDeletionAfterTheRecoveryWindow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := awslocal.New(awslocal.Options{}, secretsmanager.New(secretsmanager.Options{Region: "eu-west-1", AccountID: "123456789012"}))
		defer func() { _ = e.Close() }()
		w := world{t, client("http://awslocal", e.Client()), "orders"}
		arn := w.create(marker)
		if !strings.HasPrefix(arn, "arn:aws:secretsmanager:eu-west-1:123456789012:secret:orders-") {
			t.Errorf("ARN %s", arn)
		}
		_, err := w.c.DeleteSecret(t.Context(), &sdk.DeleteSecretInput{SecretId: &arn, RecoveryWindowInDays: aws.Int64(7)})
		w.ok(err)
		time.Sleep(7*24*time.Hour - time.Second)
		_, err = w.get(&sdk.GetSecretValueInput{SecretId: &arn})
		w.refused(err, badTiming)
		time.Sleep(time.Second)
		_, err = w.get(&sdk.GetSecretValueInput{SecretId: &arn})
		w.refused(err, notFound)
	})
}

// TestDocuments sends what no SDK would.
func TestDocuments(t *testing.T) {
	var observed []awslocal.Call
	e := awslocal.New(awslocal.Options{Observe: func(c awslocal.Call) { observed = append(observed, c) }}, secretsmanager.New(secretsmanager.Options{}))
	for _, row := range []struct{ name, op, body, code string }{
		{"no JSON", "CreateSecret", `{"SecretString":"` + marker, "SerializationException"},
		{"null", "CreateSecret", `null`, "SerializationException"},
		{"not UTF-8", "CreateSecret", "{\"SecretString\":\"" + marker + "\xff\"}", "SerializationException"},
		{"a wrong type", "CreateSecret", `{"Name":"x","SecretString":["` + marker + `"]}`, "SerializationException"},
		{"a number", "CreateSecret", `{"Name":"x","SecretString":12345678901234567890}`, "SerializationException"},
		{"names in another case", "CreateSecret", `{"name":"x","secretString":"` + marker + `"}`, badValue},
		{"a member that the endpoint does not know", "CreateSecret", `{"Name":"x","Tags":[]}`, badValue},
		{"no token", "CreateSecret", `{"Name":"x","SecretString":"` + marker + `"}`, badTiming},
		{"no name", "CreateSecret", `{"ClientRequestToken":"` + token() + `"}`, invalid},
		{"no id", "GetSecretValue", `{}`, invalid},
		{"an operation that the endpoint does not know", "RotateSecret", `{}`, "UnknownOperationException"},
	} {
		t.Run(row.name, func(t *testing.T) {
			r := httptest.NewRequest(http.MethodPost, "/", strings.NewReader(row.body))
			r.Header.Set("X-Amz-Target", "secretsmanager."+row.op)
			w := httptest.NewRecorder()
			e.ServeHTTP(w, r)
			var document struct {
				Type string `json:"__type"`
			}
			if err := json.Unmarshal(w.Body.Bytes(), &document); err != nil || w.Code != http.StatusBadRequest || !strings.HasSuffix(document.Type, "#"+row.code) {
				t.Errorf("status %d: %s", w.Code, w.Body)
			}
			if got := w.Header().Get("Content-Type"); got != "application/x-amz-json-1.1" {
				t.Errorf("content type %s", got)
			}
			refusal := observed[len(observed)-1].Err
			if text := fmt.Sprintf("%s %v %+v", w.Body, refusal, e.Counts()); strings.Contains(text, marker) || strings.Contains(text, "12345678901234567890") {
				t.Errorf("the value shows: %s", text)
			}
		})
	}
}
