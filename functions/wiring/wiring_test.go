package wiring

import (
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"

	"github.com/waybillhq/waybill/functions/waker"
	"github.com/waybillhq/waybill/shared/registry"
	"github.com/waybillhq/waybill/shared/retry"
	"github.com/waybillhq/waybill/shared/telemetry"
	"github.com/waybillhq/waybill/shared/topology"
)

// A connection that swallows a request costs the time for one answer, not the invocation.
func TestSilentConnectionIsGivenUp(t *testing.T) {
	var requests atomic.Int64
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body) // only then the server notices that the client has gone
		if requests.Add(1) == 1 {
			<-r.Context().Done()
			return
		}
		w.Header().Set("Content-Type", "application/x-amz-json-1.0")
		_, _ = fmt.Fprint(w, `{"TableNames":["here"]}`)
	}))
	t.Cleanup(server.Close)
	db := dynamodb.NewFromConfig(aws.Config{
		Region: "eu-central-1", Credentials: credentials.NewStaticCredentialsProvider("a", "b", ""),
		BaseEndpoint: aws.String(server.URL), HTTPClient: client(50 * time.Millisecond),
	})
	out, err := db.ListTables(t.Context(), &dynamodb.ListTablesInput{})
	if err != nil || len(out.TableNames) != 1 || requests.Load() != 2 {
		t.Errorf("%d requests: %v", requests.Load(), err)
	}
}

// Bounds that different packages declare must nest as the topology's relations suppose.
func TestBoundsOfPackagesNest(t *testing.T) {
	for _, profile := range []topology.Profile{topology.LowLatency, topology.HighVolume} {
		l := topology.New(profile).Limits
		if registry.MaxTimeout > l.AttemptTimeout {
			t.Errorf("a destination may ask for %v, an attempt has %v: its deliveries would be put off for ever", registry.MaxTimeout, l.AttemptTimeout)
		}
		if retry.MaxHorizon > l.Horizon {
			t.Errorf("schedules of %v outlast the %v for which the ledger remembers", retry.MaxHorizon, l.Horizon)
		}
		if 2*answerTime >= l.SettleHeadroom {
			t.Errorf("one dead connection costs %v of the %v for settling: no second try would fit", answerTime, l.SettleHeadroom/2)
		}
	}
}

func TestLogLevel(t *testing.T) {
	var out bytes.Buffer
	logger := slog.New(atLeast{slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelDebug}), slog.LevelWarn})
	for _, l := range []*slog.Logger{logger, logger.With("a", 1), logger.WithGroup("g")} {
		l.Info("quiet")
		l.Warn("loud")
	}
	if got := out.String(); strings.Contains(got, "quiet") || strings.Count(got, "loud") != 3 {
		t.Errorf("logged %q", got)
	}
}

// TestBlindWakerShowsNoSignOfLife: a run that could not see what there is to do must not look like one that has nothing to do.
func TestBlindWakerShowsNoSignOfLife(t *testing.T) {
	for blind, want := range map[bool]bool{true: false, false: true} {
		var out bytes.Buffer
		e, err := telemetry.New(telemetry.Config{Function: "waker", Writer: &out})
		if err != nil {
			t.Fatal(err)
		}
		b := telemetry.NewBatch()
		publish(b, waker.Report{Blind: blind})
		e.Emit(b)
		if got := strings.Contains(out.String(), `"WakerLag"`); got != want {
			t.Errorf("blind %v: a lag is published: %v, want %v", blind, got, want)
		}
	}
}
