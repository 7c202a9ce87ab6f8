package ssm_test

import (
	"crypto/rand"
	"encoding/base64"
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
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	sdk "github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/aws/aws-sdk-go-v2/service/ssm/types"
	"github.com/aws/smithy-go"

	"github.com/waybillhq/waybill/shared/awslocal"
	"github.com/waybillhq/waybill/shared/awslocal/ssm"
)

// marker is in every value: no refusal may show it.
const marker = "Qm9uZSBpcyB3aGl0ZQ"

// world is what a row of the table has: the AWS SDK on an endpoint, and a test to fail.
type world struct {
	*testing.T
	c    *sdk.Client
	name string // unlike that of any other row or run
}

// TestRules holds the service to one rule of SSM a row. With AWSLOCAL_ENDPOINT=http://… all rows ask that endpoint instead.
func TestRules(t *testing.T) {
	endpoint := os.Getenv("AWSLOCAL_ENDPOINT")
	if endpoint == "" {
		l, err := awslocal.Listen("127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		e := awslocal.New(awslocal.Options{}, ssm.New(ssm.Options{}))
		t.Cleanup(func() { _ = e.Close() })
		go func() { _ = e.Serve(l) }()
		endpoint = "http://" + l.Addr().String()
	}
	c := sdk.New(sdk.Options{
		BaseEndpoint: &endpoint, Region: awslocal.Region,
		Credentials: credentials.NewStaticCredentialsProvider("any", "thing", ""), RetryMaxAttempts: 1,
	})
	for _, row := range rules {
		t.Run(row.name, func(t *testing.T) { row.holds(world{t, c, "/waybill/test/" + rand.Text()[:12]}) })
	}
}

const (
	notFound = "ParameterNotFound"
	invalid  = "ValidationException"
)

var rules = []struct {
	name  string
	holds func(w world)
}{
	{"a new parameter has version 1 in the standard tier", func(w world) {
		out, err := w.put(&sdk.PutParameterInput{})
		if w.ok(err); out.Version != 1 || out.Tier != types.ParameterTierStandard {
			w.Errorf("version %d, tier %s", out.Version, out.Tier)
		}
	}},
	{"a parameter is found by name and by ARN", func(w world) {
		_, err := w.put(&sdk.PutParameterInput{Type: types.ParameterTypeString})
		w.ok(err)
		arn := *w.get(w.name, false).ARN
		if !regexp.MustCompile(`^arn:aws:ssm:[a-z0-9-]+:\d{12}:parameter` + w.name + `$`).MatchString(arn) {
			w.Errorf("ARN %s", arn)
		}
		p := w.get(arn, false)
		if *p.Name != w.name || *p.Value != marker || p.Version != 1 || p.Type != types.ParameterTypeString || *p.DataType != "text" ||
			time.Since(*p.LastModifiedDate).Abs() > time.Hour {
			w.Errorf("%s version %d type %s, %v", *p.Name, p.Version, p.Type, p.LastModifiedDate)
		}
	}},
	{"a name without a slash is found by its ARN too", func(w world) {
		w.name = "waybill-" + rand.Text()[:12]
		_, err := w.put(&sdk.PutParameterInput{})
		w.ok(err)
		if p := w.get(*w.get(w.name, true).ARN, true); *p.Name != w.name || !strings.HasSuffix(*p.ARN, ":parameter/"+w.name) {
			w.Errorf("%s %s", *p.Name, *p.ARN)
		}
	}},
	{"a SecureString without decryption is a ciphertext", func(w world) {
		_, err := w.put(&sdk.PutParameterInput{})
		w.ok(err)
		hidden := *w.get(w.name, false).Value
		raw, err := base64.StdEncoding.DecodeString(hidden)
		if err != nil || len(raw) < 100 || strings.Contains(hidden+string(raw), marker) || hidden != *w.get(w.name, false).Value {
			w.Errorf("%s, %v", hidden, err)
		}
		if clear := *w.get(w.name, true).Value; clear != marker {
			w.Errorf("with decryption %s", clear)
		}
		_, err = w.put(&sdk.PutParameterInput{Overwrite: aws.Bool(true)})
		if w.ok(err); *w.get(w.name, false).Value == hidden {
			w.Error("the ciphertext stays when the parameter is overwritten")
		}
	}},
	{"an existing parameter is overwritten only on request", func(w world) {
		_, err := w.put(&sdk.PutParameterInput{})
		w.ok(err)
		_, err = w.put(&sdk.PutParameterInput{})
		w.refused(err, "ParameterAlreadyExists")
		out, err := w.c.PutParameter(w.Context(), &sdk.PutParameterInput{Name: &w.name, Value: aws.String("2"), Overwrite: aws.Bool(true)})
		if w.ok(err); out.Version != 2 {
			w.Errorf("version %d", out.Version)
		}
		if p := w.get(w.name, true); *p.Value != "2" || p.Version != 2 || p.Type != types.ParameterTypeSecureString {
			w.Errorf("%s version %d type %s", *p.Value, p.Version, p.Type)
		}
	}},
	{"a parameter keeps its type", func(w world) {
		_, err := w.put(&sdk.PutParameterInput{})
		w.ok(err)
		_, err = w.put(&sdk.PutParameterInput{Type: types.ParameterTypeString, Overwrite: aws.Bool(true)})
		w.refused(err, "HierarchyTypeMismatchException")
	}},
	{"a new parameter needs a type", func(w world) {
		_, err := w.c.PutParameter(w.Context(), &sdk.PutParameterInput{Name: &w.name, Value: aws.String(marker), Overwrite: aws.Bool(true)})
		w.refused(err, invalid)
	}},
	{"types are known", func(w world) {
		for _, kind := range []types.ParameterType{"Secret", types.ParameterTypeStringList} {
			_, err := w.put(&sdk.PutParameterInput{Type: kind})
			w.refused(err, invalid)
		}
	}},
	{"a key is for a SecureString", func(w world) {
		_, err := w.put(&sdk.PutParameterInput{KeyId: aws.String("alias/mine"), Type: types.ParameterTypeString})
		w.refused(err, invalid)
		_, err = w.put(&sdk.PutParameterInput{KeyId: aws.String("alias/mine")})
		w.ok(err)
	}},
	{"values have 1 byte to 4 KiB", func(w world) {
		_, err := w.put(&sdk.PutParameterInput{Value: aws.String("")})
		w.refused(err, invalid)
		_, err = w.put(&sdk.PutParameterInput{Value: aws.String(marker + strings.Repeat("x", 4097-len(marker)))})
		w.refused(err, invalid)
		_, err = w.put(&sdk.PutParameterInput{Value: aws.String(strings.Repeat("x", 4096))})
		w.ok(err)
	}},
	{"values do not nest", func(w world) {
		_, err := w.put(&sdk.PutParameterInput{Value: aws.String(marker + "{{ssm:other}}")})
		w.refused(err, invalid)
	}},
	{"other tiers and data types are refused", func(w world) {
		_, err := w.put(&sdk.PutParameterInput{Tier: types.ParameterTierAdvanced})
		w.refused(err, invalid)
		_, err = w.put(&sdk.PutParameterInput{DataType: aws.String("aws:ec2:image")})
		w.refused(err, invalid)
		_, err = w.put(&sdk.PutParameterInput{Tier: types.ParameterTierStandard, DataType: aws.String("text"), Description: aws.String("of a test")})
		w.ok(err)
	}},
	{"names that cannot be given", func(w world) {
		for name, code := range map[string]string{
			"with space": invalid, "/a//b": invalid, "/a/": invalid, "/": invalid, "a/b": invalid, "colon:": invalid, "ssm-mine": invalid, "/SSM/mine": invalid,
			"aws-mine": "AccessDeniedException", "/AWS/mine": "AccessDeniedException",
			strings.Repeat("/x", 16):       "HierarchyLevelLimitExceededException",
			"/" + strings.Repeat("x", 980): invalid,
		} {
			w.name = name
			_, err := w.put(&sdk.PutParameterInput{})
			w.refused(err, code)
		}
		w.name = strings.Repeat("/x", 15)
		_, err := w.put(&sdk.PutParameterInput{Overwrite: aws.Bool(true)})
		w.ok(err)
	}},
	{"what does not exist is not found", func(w world) {
		for _, id := range []string{w.name, "arn:aws:ssm:us-east-1:000000000000:parameter" + w.name, "arn:aws:ssm:eu-west-9:000000000000:parameter" + w.name} {
			_, err := w.c.GetParameter(w.Context(), &sdk.GetParameterInput{Name: &id})
			w.refused(err, notFound)
		}
		_, err := w.c.DeleteParameter(w.Context(), &sdk.DeleteParameterInput{Name: &w.name})
		w.refused(err, notFound)
	}},
	{"an id that cannot be a name is refused", func(w world) {
		for _, id := range []string{"two words", "name:1"} {
			_, err := w.c.GetParameter(w.Context(), &sdk.GetParameterInput{Name: &id})
			w.refused(err, invalid)
		}
	}},
	{"a deleted parameter is gone, and its successor begins at version 1", func(w world) {
		for range 2 {
			out, err := w.put(&sdk.PutParameterInput{})
			if w.ok(err); out.Version != 1 {
				w.Errorf("version %d", out.Version)
			}
			_, err = w.c.DeleteParameter(w.Context(), &sdk.DeleteParameterInput{Name: &w.name})
			w.ok(err)
			_, err = w.c.GetParameter(w.Context(), &sdk.GetParameterInput{Name: &w.name})
			w.refused(err, notFound)
		}
	}},
	{"several are got at once, and those that do not exist are named", func(w world) {
		_, err := w.put(&sdk.PutParameterInput{})
		w.ok(err)
		missing := w.name + "-missing"
		for decrypt, want := range map[bool]bool{true: true, false: false} {
			out, err := w.c.GetParameters(w.Context(), &sdk.GetParametersInput{Names: []string{missing, w.name}, WithDecryption: &decrypt})
			if w.ok(err); len(out.Parameters) != 1 || (*out.Parameters[0].Value == marker) != want || !slices.Equal(out.InvalidParameters, []string{missing}) {
				w.Errorf("%d found, not found %q", len(out.Parameters), out.InvalidParameters)
			}
		}
	}},
	{"several are 1 to 10", func(w world) {
		for _, names := range [][]string{{}, slices.Repeat([]string{w.name}, 11)} {
			_, err := w.c.GetParameters(w.Context(), &sdk.GetParametersInput{Names: names})
			w.refused(err, invalid)
		}
		out, err := w.c.GetParameters(w.Context(), &sdk.GetParametersInput{Names: slices.Repeat([]string{w.name}, 10)})
		if w.ok(err); len(out.InvalidParameters) != 1 {
			w.Errorf("%q", out.InvalidParameters)
		}
	}},
}

// put puts the row's parameter, by default a SecureString with the marker.
func (w world) put(in *sdk.PutParameterInput) (*sdk.PutParameterOutput, error) {
	in.Name = &w.name
	if in.Value == nil {
		in.Value = aws.String(marker)
	}
	if in.Type == "" {
		in.Type = types.ParameterTypeSecureString
	}
	return w.c.PutParameter(w.Context(), in)
}

func (w world) get(id string, decrypt bool) *types.Parameter {
	w.Helper()
	out, err := w.c.GetParameter(w.Context(), &sdk.GetParameterInput{Name: &id, WithDecryption: &decrypt})
	w.ok(err)
	return out.Parameter
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
		w.Errorf("%s: got %v, want %s", w.name, err, code)
		return
	}
	if strings.Contains(fmt.Sprintf("%v %+v", err, api), marker) {
		w.Errorf("the refusal shows the value: %v", err)
	}
}

// TestDocuments sends what no SDK would.
func TestDocuments(t *testing.T) {
	e := awslocal.New(awslocal.Options{}, ssm.New(ssm.Options{Region: "eu-west-1", AccountID: "123456789012"}))
	for _, row := range []struct{ name, op, body, code string }{
		{"no JSON", "PutParameter", `{"Value":"` + marker, "SerializationException"},
		{"null", "PutParameter", `null`, "SerializationException"},
		{"not UTF-8", "PutParameter", "{\"Value\":\"" + marker + "\xff\"}", "SerializationException"},
		{"a wrong type", "PutParameter", `{"Name":"x","Value":["` + marker + `"]}`, "SerializationException"},
		{"names in another case", "PutParameter", `{"name":"x","value":"` + marker + `"}`, invalid},
		{"a member that the endpoint does not know", "PutParameter", `{"Name":"x","Value":"` + marker + `","Policies":""}`, invalid},
		{"no name", "GetParameter", `{}`, invalid},
		{"an operation that the endpoint does not know", "GetParametersByPath", `{}`, "UnknownOperationException"},
	} {
		t.Run(row.name, func(t *testing.T) {
			r := httptest.NewRequest(http.MethodPost, "/", strings.NewReader(row.body))
			r.Header.Set("X-Amz-Target", "AmazonSSM."+row.op)
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
			if text := fmt.Sprintf("%s %+v", w.Body, e.Counts()); strings.Contains(text, marker) {
				t.Errorf("the value shows: %s", text)
			}
		})
	}
}
