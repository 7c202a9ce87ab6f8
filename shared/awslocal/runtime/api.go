package runtimeapi

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/waybillhq/waybill/shared/awslocal/mapping"
)

// maxExtensions is how many extensions Lambda lets a function register.
const maxExtensions = 10

// task is an invocation on its way through a process.
type task struct {
	requestID   string
	functionARN string
	traceID     string
	deadline    time.Time
	payload     []byte
	over        chan struct{} // closed when the process has answered and asks for the next one

	// Guarded by the api's mutex.
	answered bool
	response []byte
	failure  *Failure
}

// phase is what a process does.
type phase int

const (
	starting phase = iota // has not asked for an invocation yet
	waiting               // asks for one, or will ask again after it lost its connection
	working               // has one
	answered              // has answered it and not asked for the next
)

// api is the Runtime API and the Extensions API of one process.
type api struct {
	function, handlerName string

	turn       chan *task    // holds the task that the process shall get
	ready      chan struct{} // closed at the end of a successful init
	initFailed chan struct{} // closed when the process reports that its init failed

	mu         sync.Mutex
	phase      phase
	task       *task // nil before and between invocations
	initError  *Failure
	extensions []extension
}

// extension is an internal extension. Lambda waits with the end of init until each has asked for an event.
type extension struct {
	name, id string
	asked    bool
}

func newAPI(function, handlerName string) *api {
	return &api{
		function: function, handlerName: handlerName,
		turn: make(chan *task, 1), ready: make(chan struct{}), initFailed: make(chan struct{}),
	}
}

func (a *api) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /2018-06-01/runtime/invocation/next", a.next)
	mux.HandleFunc("POST /2018-06-01/runtime/invocation/{id}/response", a.respond)
	mux.HandleFunc("POST /2018-06-01/runtime/invocation/{id}/error", a.fail)
	mux.HandleFunc("POST /2018-06-01/runtime/init/error", a.failInit)
	mux.HandleFunc("POST /2020-01-01/extension/register", a.register)
	mux.HandleFunc("GET /2020-01-01/extension/event/next", a.event)
	return mux
}

// give hands t to the process. The process waits, and has had no task since.
func (a *api) give(t *task) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.task = t
	a.turn <- t // has room: one task at a time
}

// answer gives what the process made of t.
func (a *api) answer(t *task) (response []byte, failure *Failure, ok bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return t.response, t.failure, t.answered
}

// requestID gives the invocation that the process has, or nothing.
func (a *api) requestID() string {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.task == nil {
		return ""
	}
	return a.task.requestID
}

func (a *api) initFailure() *Failure {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.initError
}

// extended tells whether the process wants a SIGTERM before its end.
func (a *api) extended() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.extensions) > 0
}

// next ends the invocation that the process had and waits for another.
func (a *api) next(w http.ResponseWriter, r *http.Request) {
	if !a.ask() {
		refuse(w, http.StatusForbidden, "InvalidStateTransition", "answer the invocation before asking for the next one")
		return
	}
	var t *task
	select {
	case t = <-a.turn:
	case <-r.Context().Done(): // the process is gone or has lost its connection; nobody reads an answer
		return
	}
	a.mu.Lock()
	a.phase = working
	a.mu.Unlock()
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Lambda-Runtime-Aws-Request-Id", t.requestID)
	h.Set("Lambda-Runtime-Deadline-Ms", strconv.FormatInt(t.deadline.UnixMilli(), 10))
	h.Set("Lambda-Runtime-Invoked-Function-Arn", t.functionARN)
	h.Set("Lambda-Runtime-Trace-Id", t.traceID)
	h.Set("Content-Length", strconv.Itoa(len(t.payload)))
	_, _ = w.Write(t.payload) // a process that cannot read it fails its invocation by that
}

// ask books that the process asks for an invocation and tells whether it may.
func (a *api) ask() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	switch a.phase {
	case working:
		return false
	case answered:
		close(a.task.over)
		a.task = nil
	}
	first := a.phase == starting
	a.phase = waiting
	if first {
		a.settleInit()
	}
	return true
}

// settleInit ends the init when everybody is ready. a.mu is held, and the init is not over.
func (a *api) settleInit() {
	unready := func(e extension) bool { return !e.asked }
	if a.phase == waiting && a.initError == nil && !slices.ContainsFunc(a.extensions, unready) {
		close(a.ready)
	}
}

// respond takes the response of an invocation.
func (a *api) respond(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(io.LimitReader(r.Body, mapping.MaxPayloadBytes+1))
	if err != nil {
		refuse(w, http.StatusBadRequest, "TruncatedResponse", "the response ended early")
		return
	}
	if len(body) > mapping.MaxPayloadBytes {
		if a.settle(w, r.PathValue("id"), nil, tooLarge()) {
			refuse(w, http.StatusRequestEntityTooLarge, "RequestEntityTooLarge",
				fmt.Sprintf("Exceeded maximum allowed payload size (%d bytes).", mapping.MaxPayloadBytes))
		}
		return
	}
	// A runtime that meets an error while it writes the response says so behind it.
	if kind := r.Trailer.Get("Lambda-Runtime-Function-Error-Type"); kind != "" {
		cause, _ := base64.StdEncoding.DecodeString(r.Trailer.Get("Lambda-Runtime-Function-Error-Body")) // none if it cannot be read
		if a.settle(w, r.PathValue("id"), nil, reported(cause, kind)) {
			accept(w)
		}
		return
	}
	if a.settle(w, r.PathValue("id"), body, nil) {
		accept(w)
	}
}

// fail takes the error of an invocation.
func (a *api) fail(w http.ResponseWriter, r *http.Request) {
	f, err := readFailure(r)
	if err != nil {
		refuse(w, http.StatusBadRequest, "TruncatedResponse", "the error ended early")
		return
	}
	if a.settle(w, r.PathValue("id"), nil, f) {
		accept(w)
	}
}

// settle books the answer to an invocation, or refuses it and reports false.
func (a *api) settle(w http.ResponseWriter, requestID string, response []byte, failure *Failure) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	switch {
	case a.task == nil || a.task.requestID != requestID:
		refuse(w, http.StatusBadRequest, "InvalidRequestID", "this process has no invocation of that id")
		return false
	case a.phase != working:
		refuse(w, http.StatusForbidden, "InvalidStateTransition", "an invocation has one answer")
		return false
	}
	a.phase = answered
	a.task.answered, a.task.response, a.task.failure = true, response, failure
	return true
}

// failInit takes the error of an init.
func (a *api) failInit(w http.ResponseWriter, r *http.Request) {
	f, err := readFailure(r)
	if err != nil {
		refuse(w, http.StatusBadRequest, "TruncatedResponse", "the error ended early")
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.phase != starting || a.initError != nil {
		refuse(w, http.StatusForbidden, "InvalidStateTransition", "init is over")
		return
	}
	a.initError = f
	accept(w)
	close(a.initFailed)
}

// register takes an internal extension: all that comes of it is a SIGTERM before the end.
func (a *api) register(w http.ResponseWriter, r *http.Request) {
	var doc struct {
		Events []string `json:"events"`
	}
	name := r.Header.Get("Lambda-Extension-Name")
	if err := json.NewDecoder(io.LimitReader(r.Body, maxMessageBytes)).Decode(&doc); err != nil || name == "" || len(name) > maxTypeBytes {
		refuse(w, http.StatusBadRequest, "InvalidRequestFormat", "name the extension in Lambda-Extension-Name and its events in the body")
		return
	}
	if len(doc.Events) > 0 {
		refuse(w, http.StatusForbidden, "Extension.EventsNotSupported", "extensions get no events here; register for none")
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	taken := func(e extension) bool { return e.name == name }
	if a.phase != starting || len(a.extensions) == maxExtensions || slices.ContainsFunc(a.extensions, taken) {
		refuse(w, http.StatusForbidden, "Extension.RegistrationClosed", "extensions register during init, once each, and 10 at most")
		return
	}
	var random [16]byte
	rand.Read(random[:]) // never fails
	e := extension{name: name, id: fmt.Sprintf("%x-%x-%x-%x-%x", random[0:4], random[4:6], random[6:8], random[8:10], random[10:])}
	a.extensions = append(a.extensions, e)
	w.Header().Set("Lambda-Extension-Identifier", e.id)
	reply(w, http.StatusOK, map[string]string{"functionName": a.function, "functionVersion": version, "handler": a.handlerName})
}

// event never answers: nobody is registered for one. Asking ends the extension's part of the init.
func (a *api) event(w http.ResponseWriter, r *http.Request) {
	a.mu.Lock()
	i := slices.IndexFunc(a.extensions, func(e extension) bool { return e.id == r.Header.Get("Lambda-Extension-Identifier") })
	if i >= 0 && !a.extensions[i].asked {
		a.extensions[i].asked = true
		a.settleInit()
	}
	a.mu.Unlock()
	if i < 0 {
		refuse(w, http.StatusForbidden, "Extension.UnknownExtensionIdentifier", "register the extension first")
		return
	}
	<-r.Context().Done()
}

// readFailure reads a posted error, as much of it as a response may have.
func readFailure(r *http.Request) (*Failure, error) {
	body, err := io.ReadAll(io.LimitReader(r.Body, mapping.MaxPayloadBytes))
	if err != nil {
		return nil, errors.New("the error could not be read")
	}
	return reported(body, r.Header.Get("Lambda-Runtime-Function-Error-Type")), nil
}

func accept(w http.ResponseWriter) {
	reply(w, http.StatusAccepted, map[string]string{"status": "OK"})
}

func refuse(w http.ResponseWriter, status int, kind, message string) {
	reply(w, status, map[string]string{"errorType": kind, "errorMessage": message})
}

func reply(w http.ResponseWriter, status int, doc map[string]string) {
	body, _ := json.Marshal(doc) // strings always can be
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(body) // a process that cannot read it meets that itself
}
