// Package preflight tries the new version of a function before any traffic reaches it: CodeDeploy invokes it when a release begins, it invokes the version
// with the batch of package rehearsal, looks at the answer, and tells CodeDeploy whether to go on.
//
// Whatever goes wrong is told as failed, in time: the release then ends before it has begun. Only if CodeDeploy cannot be told is there an error, and
// CodeDeploy gives up by itself after an hour.
package preflight

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/waybillhq/waybill/shared/rehearsal"
	"github.com/waybillhq/waybill/shared/retry"
	"github.com/waybillhq/waybill/shared/telemetry"
	"github.com/waybillhq/waybill/shared/topology"
)

// Event is what CodeDeploy invokes a hook with.
// Source: https://docs.aws.amazon.com/codedeploy/latest/userguide/reference-appspec-file-structure-hooks.html
type Event struct {
	DeploymentID string `json:"DeploymentId"`
	ExecutionID  string `json:"LifecycleEventHookExecutionId"`
}

// Answer is what a version has answered.
type Answer struct {
	Payload []byte
	Failure string // "" or what Lambda calls a function error: it crashed, timed out or returned an error, and Payload tells of it
}

// Lambda invokes versions of functions. Implementations are safe for concurrent use and repeat nothing.
type Lambda interface {
	// Invoke waits for the answer. An error means that Lambda did not take the call, or that the answer was lost.
	Invoke(ctx context.Context, version string, payload []byte) (Answer, error)
}

// CodeDeploy hears how a hook came out. Implementations are safe for concurrent use.
type CodeDeploy interface {
	// Report tells it. That it was told already is no error.
	Report(ctx context.Context, of Event, succeeded bool) error
}

// Config configures a Preflight; the fields up to CodeDeploy are required.
type Config struct {
	Function   topology.Function // that the version is of
	Version    string            // qualified ARN of the new version
	Lambda     Lambda
	CodeDeploy CodeDeploy
	Logger     *slog.Logger // default slog.Default()
}

// Preflight tries one version. It is safe for concurrent use.
type Preflight struct{ cfg Config }

// New makes a Preflight. The error lists every missing setting.
func New(cfg Config) (*Preflight, error) {
	var problems []error
	for _, required := range []struct {
		name    string
		missing bool
	}{
		{"Function", cfg.Function.Name == "" || cfg.Function.Timeout <= 0}, {"Version", cfg.Version == ""},
		{"Lambda", cfg.Lambda == nil}, {"CodeDeploy", cfg.CodeDeploy == nil},
	} {
		if required.missing {
			problems = append(problems, fmt.Errorf("preflight: Config.%s is missing", required.name))
		}
	}
	if len(problems) > 0 {
		return nil, errors.Join(problems...)
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	return &Preflight{cfg}, nil
}

var errNoIDs = errors.New("preflight: the event names no deployment and no execution of a hook: CodeDeploy alone invokes this function")

// Handle tries the version and tells CodeDeploy. The error is for what CodeDeploy could not be told.
func (p *Preflight) Handle(ctx context.Context, e Event) error {
	if e.DeploymentID == "" || e.ExecutionID == "" {
		return errNoIDs
	}
	err := p.try(ctx)
	attrs := []slog.Attr{slog.String("deployment", e.DeploymentID), slog.String("version", p.cfg.Version)}
	if err != nil {
		p.cfg.Logger.LogAttrs(ctx, slog.LevelError, "the new version failed its rehearsal; the release is taken back", append(attrs, telemetry.Error(err))...)
	} else {
		p.cfg.Logger.LogAttrs(ctx, slog.LevelInfo, "the new version passed its rehearsal", attrs...)
	}
	if err := p.cfg.CodeDeploy.Report(ctx, e, err == nil); err != nil {
		return fmt.Errorf("preflight: CodeDeploy could not be told: %w", err)
	}
	return nil
}

// try plays the rehearsal. A panic of our own is a failure too: silence would keep CodeDeploy waiting.
func (p *Preflight) try(ctx context.Context) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("preflight panicked: %T", r)
		}
	}()
	if deadline, ok := ctx.Deadline(); ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadline(ctx, deadline.Add(-topology.PreflightReserve))
		defer cancel()
	}
	answer, err := p.invoke(ctx)
	switch {
	case err != nil:
		return err
	case answer.Failure != "":
		return fmt.Errorf("it ended in an error (%s): %.500s", answer.Failure, answer.Payload)
	}
	return rehearsal.Check(p.cfg.Function, answer.Payload)
}

// Pauses before an invocation is repeated.
const (
	firstPause   = time.Second
	longestPause = 15 * time.Second
)

// invoke invokes the version, again and again while Lambda does not take the call and there is time for a whole run of the function. To invoke it twice
// is harmless.
func (p *Preflight) invoke(ctx context.Context) (Answer, error) {
	began := time.Now()
	for pause := firstPause; ; pause = min(2*pause, longestPause) {
		payload, err := rehearsal.Payload(p.cfg.Function, rand.Text(), time.Now())
		if err != nil {
			return Answer{}, err
		}
		answer, err := p.cfg.Lambda.Invoke(ctx, p.cfg.Version, payload)
		if err == nil {
			return answer, nil
		}
		if time.Since(began)+pause > topology.PreflightPatience || !retry.Sleep(ctx, pause) {
			return Answer{}, fmt.Errorf("it could not be invoked in %v: %w", time.Since(began).Round(time.Second), err)
		}
		p.cfg.Logger.LogAttrs(ctx, slog.LevelWarn, "the new version could not be invoked; trying again", telemetry.Error(err))
	}
}
