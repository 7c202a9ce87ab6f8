// Command bootstrap does what its event asks for, so that tests see how an environment takes it.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"sync/atomic"
	"time"

	"github.com/aws/aws-lambda-go/lambda"
	"github.com/aws/aws-lambda-go/lambdacontext"
)

type event struct {
	Do    string
	Text  string
	Code  int
	Count int

	Records []struct{ Body string } // an SQS event: the first body is the event
}

var (
	uses  int
	ticks atomic.Int64
)

func main() {
	start()
	if os.Getenv("TICK") != "" {
		go func() {
			for range time.Tick(5 * time.Millisecond) {
				ticks.Add(1)
			}
		}()
	}
	if path := os.Getenv("SIGTERM_FILE"); path != "" {
		lambda.StartWithOptions(handle, lambda.WithEnableSIGTERM(func() {
			if os.WriteFile(path, fmt.Appendf(nil, "%d", ticks.Load()), 0o600) == nil && os.Getenv("SIGTERM_IGNORE") == "" {
				os.Exit(0)
			}
		}))
	}
	lambda.Start(handle)
}

// start goes wrong as START says: always, or the first time, which a file remembers.
func start() {
	how, memory := os.Getenv("START"), os.Getenv("START_ONCE")
	if memory != "" {
		f, err := os.OpenFile(memory, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
		if err != nil {
			return
		}
		f.Close()
	}
	switch how {
	case "exit":
		os.Exit(7)
	case "hang":
		time.Sleep(time.Hour)
	case "error":
		post("/2018-06-01/runtime/init/error", `{"errorType":"Init.Bad","errorMessage":"no settings"}`)
		time.Sleep(time.Hour)
	case "extension": // that never asks for an event
		post("/2020-01-01/extension/register", `{"events":[]}`)
	}
}

func post(path, body string) {
	req, err := http.NewRequest(http.MethodPost, "http://"+os.Getenv("AWS_LAMBDA_RUNTIME_API")+path, strings.NewReader(body))
	if err != nil {
		panic(err)
	}
	req.Header.Set("Lambda-Extension-Name", "test")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		panic(err)
	}
	resp.Body.Close()
}

func handle(ctx context.Context, e event) (any, error) {
	uses++
	if len(e.Records) > 0 {
		body := e.Records[0].Body
		e = event{}
		if err := json.Unmarshal([]byte(body), &e); err != nil {
			return nil, err
		}
		if _, err := do(ctx, e); err != nil {
			return nil, err
		}
		return map[string]any{"batchItemFailures": []string{}}, nil
	}
	return do(ctx, e)
}

func do(ctx context.Context, e event) (any, error) {
	switch e.Do {
	case "echo":
		return e.Text, nil
	case "uses":
		return uses, nil
	case "pid":
		return os.Getpid(), nil
	case "context":
		lc, _ := lambdacontext.FromContext(ctx)
		deadline, _ := ctx.Deadline()
		return map[string]any{
			"requestID": lc.AwsRequestID, "arn": lc.InvokedFunctionArn, "trace": ctx.Value("x-amzn-trace-id"),
			"deadline": deadline.UnixMilli(), "environment": os.Environ(), "directory": workingDirectory(),
		}, nil
	case "error":
		return nil, errors.New(e.Text)
	case "panic":
		panic(e.Text)
	case "exit":
		os.Exit(e.Code)
	case "hang":
		fmt.Println("hangs")
		time.Sleep(time.Hour)
	case "wait": // until a file is there
		fmt.Println("waits")
		for {
			if _, err := os.Stat(e.Text); err == nil {
				return "done", nil
			}
			time.Sleep(time.Millisecond)
		}
	case "huge":
		return strings.Repeat("x", e.Count), nil
	case "raw":
		return strings.NewReader(e.Text), nil
	case "broken":
		return io.MultiReader(strings.NewReader("half"), brokenReader{}), nil
	case "log":
		fmt.Println("out " + e.Text)
		fmt.Fprintln(os.Stderr, "err "+e.Text)
		fmt.Print(strings.Repeat("y", e.Count))
		return nil, nil
	case "ticks":
		for begin := ticks.Load(); ticks.Load() < begin+int64(e.Count); {
			time.Sleep(time.Millisecond)
		}
		return ticks.Load(), nil
	case "child": // leaves a process behind that holds the output
		c := exec.Command("sleep", "1000")
		c.Stdout = os.Stdout
		if err := c.Start(); err != nil {
			return nil, err
		}
		return c.Process.Pid, nil
	case "linger": // leaves goroutines behind
		for range e.Count {
			go func() { select {} }()
		}
		return nil, nil
	case "call": // talks to the Runtime API by itself: method, path, body, Count bytes more
		part := strings.SplitN(e.Text, " ", 3)
		lc, _ := lambdacontext.FromContext(ctx)
		path := strings.ReplaceAll(part[1], "{id}", lc.AwsRequestID)
		req, err := http.NewRequestWithContext(ctx, part[0], "http://"+os.Getenv("AWS_LAMBDA_RUNTIME_API")+path, strings.NewReader(part[2]+strings.Repeat("x", e.Count)))
		if err != nil {
			return nil, err
		}
		req.Header.Set("Lambda-Extension-Name", "late")
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			return nil, err
		}
		defer resp.Body.Close()
		var doc struct{ ErrorType string }
		if err := json.NewDecoder(resp.Body).Decode(&doc); err != nil {
			return nil, err
		}
		fmt.Println("status", resp.StatusCode, doc.ErrorType)
		if resp.StatusCode == http.StatusAccepted && e.Code != 0 {
			os.Exit(e.Code)
		}
		return fmt.Sprintf("%d %s", resp.StatusCode, doc.ErrorType), nil
	}
	return nil, fmt.Errorf("cannot do %q", e.Do)
}

func workingDirectory() string {
	dir, _ := os.Getwd()
	return dir
}

type brokenReader struct{}

func (brokenReader) Read([]byte) (int, error) { return 0, errors.New("the source broke") }
