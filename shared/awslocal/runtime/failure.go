package runtimeapi

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/waybillhq/waybill/shared/awslocal/mapping"
)

// The types of failures that Lambda itself reports. Others are the function's own.
const (
	TypeTimeout          = "Sandbox.Timedout"
	TypeExit             = "Runtime.ExitError"
	TypeEntrypoint       = "Runtime.InvalidEntrypoint"
	TypeResponseTooLarge = "Function.ResponseSizeTooLarge"
	TypeUnknown          = "Runtime.Unknown"
)

// Bounds of what is kept of a function's own error.
const (
	maxTypeBytes    = 256
	maxMessageBytes = 4 << 10
)

// Failure is what the caller of a function learns when an invocation or an init failed: Lambda's errorType and errorMessage. It
// wraps mapping.ErrTimeout, mapping.ErrCrashed or mapping.ErrResponseTooLarge where that is what happened.
type Failure struct {
	Type    string
	Message string // the function's own is cut after 4 KB
	cause   error
}

// Error gives type and message.
func (f *Failure) Error() string { return f.Type + ": " + f.Message }

// Unwrap gives mapping's error for it, or nil for the function's own.
func (f *Failure) Unwrap() error { return f.cause }

func prefix(requestID string) string {
	if requestID == "" {
		return "Error: "
	}
	return "RequestId: " + requestID + " Error: "
}

func timedOut(requestID string, limit time.Duration) *Failure {
	return &Failure{TypeTimeout, fmt.Sprintf("%sTask timed out after %.2f seconds", prefix(requestID), limit.Seconds()), mapping.ErrTimeout}
}

func exited(requestID string, state *os.ProcessState) *Failure {
	message := "Runtime exited without providing a reason"
	if state != nil && !state.Success() {
		message = "Runtime exited with error: " + state.String()
	}
	return &Failure{TypeExit, prefix(requestID) + message, mapping.ErrCrashed}
}

func unstartable(requestID string, err error) *Failure {
	return &Failure{TypeEntrypoint, prefix(requestID) + err.Error(), errors.Join(mapping.ErrCrashed, err)}
}

func tooLarge() *Failure {
	return &Failure{
		TypeResponseTooLarge, fmt.Sprintf("Response payload size exceeded maximum allowed payload size (%d bytes).", mapping.MaxPayloadBytes),
		mapping.ErrResponseTooLarge,
	}
}

// reported reads the error that a process posted. What is no such document gives the type that its header names.
func reported(body []byte, headerType string) *Failure {
	var doc struct {
		Type    string `json:"errorType"`
		Message string `json:"errorMessage"`
	}
	if json.Unmarshal(body, &doc) != nil || doc.Type == "" {
		doc.Type = headerType
	}
	if doc.Type == "" {
		doc.Type = TypeUnknown
	}
	return &Failure{Type: cut(doc.Type, maxTypeBytes), Message: cut(doc.Message, maxMessageBytes)}
}

// cut keeps n bytes at most and no half character.
func cut(s string, n int) string {
	if len(s) > n {
		for n > 0 && !utf8.RuneStart(s[n]) {
			n--
		}
		s = s[:n]
	}
	return strings.ToValidUTF8(s, "\uFFFD")
}
