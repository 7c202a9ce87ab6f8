package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"regexp"
	"slices"
	"strings"

	"github.com/waybillhq/waybill/infra/stack"
	"github.com/waybillhq/waybill/shared/topology"
)

// read makes props from CDK's context. The keys stage, profile, name, destinations and alarmEmail are words, as `-c stage=prod` gives them; what else a stage
// is to have stands under its name, dev or prod, in cdk.json. All that cannot be read is reported at once; whether what was read makes
// sense is for the stack to say.
func read(context func(key string) any) (id string, props stack.Props, err error) {
	r := reader{context: context}
	stage := stack.Stage(r.word("stage", string(stack.Dev)))
	profile := topology.Profile(r.word("profile", string(topology.LowLatency)))
	id = r.word("name", "waybill-"+string(stage))
	if !stackName.MatchString(id) {
		r.add("context name: %q: begin with a letter and go on with letters, digits and hyphens, at most 80 characters, because names of alarms and more begin with it", id)
	}
	props = stack.Props{Stage: stage, Topology: topology.New(profile)}
	if stage == stack.Dev || stage == stack.Prod { // any other is reported by the stack
		r.options(string(stage), &props.Options)
	}
	props.Destinations = r.word("destinations", props.Destinations)
	if email := r.word("alarmEmail", ""); email != "" && !slices.Contains(props.Alarms.Email, email) {
		props.Alarms.Email = append(props.Alarms.Email, email)
	}
	return id, props, errors.Join(r.problems...)
}

// settings are the keys that read asks for.
func settings() []string {
	return []string{"stage", "profile", "name", "destinations", "alarmEmail", string(stack.Dev), string(stack.Prod)}
}

// plainWord is how a setting of ours looks. CDK's own keys and those of its caches have other characters too.
var plainWord = regexp.MustCompile(`^[A-Za-z]+$`)

// unknown reports keys that look like settings and are none, as in -c destination=FILE: CDK itself says nothing about them.
func unknown(context any) error {
	all, _ := context.(map[string]any)
	var r reader
	for _, key := range slices.Sorted(maps.Keys(all)) {
		if plainWord.MatchString(key) && !slices.Contains(settings(), key) {
			r.add("context %s: there is no such setting: write one of %q", key, settings())
		}
	}
	return errors.Join(r.problems...)
}

// stackName is what CloudFormation accepts, and of its length what leaves room in names that begin with it.
var stackName = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9-]{0,79}$`)

type reader struct {
	context  func(key string) any
	problems []error
}

func (r *reader) add(format string, args ...any) {
	r.problems = append(r.problems, fmt.Errorf(format, args...))
}

// word is a text; without it, or when it is empty, otherwise.
func (r *reader) word(key, otherwise string) string {
	switch value := r.context(key).(type) {
	case nil:
	case string:
		if value != "" {
			return value
		}
	default:
		r.add("context %s: is %v: write a text, as in -c %s=%s", key, value, key, otherwise)
	}
	return otherwise
}

// options reads each option by itself, so that one that is wrong does not hide the next.
func (r *reader) options(key string, options *stack.Options) {
	value := r.context(key)
	if value == nil {
		return
	}
	all, ok := value.(map[string]any)
	if !ok {
		r.add("context %s: is %v: write an object with the options of the stage, as cdk.json has it", key, value)
		return
	}
	for _, name := range slices.Sorted(maps.Keys(all)) {
		text, err := json.Marshal(map[string]any{name: all[name]})
		if err != nil {
			r.add("context %s.%s: %w", key, name, err)
			continue
		}
		decoder := json.NewDecoder(bytes.NewReader(text))
		decoder.DisallowUnknownFields()
		if err := decoder.Decode(options); err != nil {
			r.add("context %s.%s: %s: see the table of options in infra/README.md", key, name, plainly(err))
		}
	}
}

// plainly says what the decoder complains about without Go's types.
func plainly(err error) string {
	var mistyped *json.UnmarshalTypeError
	if !errors.As(err, &mistyped) {
		return strings.TrimPrefix(err.Error(), "json: ")
	}
	want := map[reflect.Kind]string{
		reflect.Bool: "true or false", reflect.String: "a text", reflect.Slice: "a list", reflect.Struct: "an object", reflect.Map: "an object",
	}[mistyped.Type.Kind()]
	if want == "" {
		want = "a whole number"
	}
	return fmt.Sprintf("%s is a JSON %s, write %s", mistyped.Field, mistyped.Value, want)
}
