package runbooks_test

import (
	"bytes"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/aws/aws-lambda-go/lambdacontext"

	deliveries "github.com/waybillhq/waybill/scripts/deliveries/program"
	destinations "github.com/waybillhq/waybill/scripts/destinations/program"
	redrive "github.com/waybillhq/waybill/shared/redrive/program"

	"github.com/waybillhq/waybill/infra/runbooks"
	"github.com/waybillhq/waybill/shared/telemetry"
	"github.com/waybillhq/waybill/shared/topology"
)

func read(t *testing.T) map[topology.PageName]runbooks.Runbook {
	t.Helper()
	all, err := runbooks.Read()
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func TestEveryPageHasItsRunbookAndEveryRunbookItsPage(t *testing.T) {
	all := read(t)
	for _, page := range topology.Pages() {
		book, ok := all[page.Name]
		if !ok {
			t.Errorf("page %s has no runbook: write infra/runbooks/%s.md", page.Name, page.Name)
			continue
		}
		if begin := "# " + string(page.Name) + "\n\n" + page.Means + "\n"; !strings.HasPrefix(book.Text, begin) {
			t.Errorf("%s.md does not begin with its name and what the page says:\n%s", page.Name, begin)
		}
		delete(all, page.Name)
	}
	for name := range all {
		t.Errorf("%s.md: no page leads to it", name)
	}
}

// At 3 a.m. nobody looks for the right heading.
func TestRunbooksAnswerTheSameQuestionsInTheSameOrder(t *testing.T) {
	want := []string{"What it means", "How far it reaches", "How to see", "How to mend", "How to know that it is mended", "What not to do"}
	heading := regexp.MustCompile(`(?m)^## (.*)$`)
	for name, book := range read(t) {
		var got []string
		for _, match := range heading.FindAllStringSubmatch(book.Text, -1) {
			got = append(got, match[1])
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s.md has the headings %q, want %q", name, got, want)
		}
		if !strings.Contains(book.Text, "`"+string(name)+"`") {
			t.Errorf("%s.md does not say under which name its query is saved", name)
		}
		if lines := strings.Count(book.Text, "\n"); lines > 90 {
			t.Errorf("%s.md has %d lines: too many for 3 a.m.", name, lines)
		}
	}
}

// Fields of the platform: of CloudWatch Logs, of Lambda's own lines about a run, and of Lambda's handler for ours.
// Source: https://docs.aws.amazon.com/lambda/latest/dg/telemetry-schema-reference.html
var platform = []string{"@timestamp", "@message", "@log", "@logStream", "type", "record.status", "Function", telemetry.KeyRequestID}

// words of the query language that stand where fields do.
var words = strings.Fields("fields filter parse stats sort limit as by and or not in like asc desc count sum avg min max latest earliest pct bin ispresent")

// A query that asks for certain lines may use the fields of those; one that takes all lines of a level also those that any line can have; and
// one that asks for no line in particular adds up metrics.
func TestQueriesUseFieldsThatAreLogged(t *testing.T) {
	notFields := regexp.MustCompile(`"[^"]*"|/[^/\n]*[^/\n ]/|[^.\w]\d+[smhd]?\b`) // texts, patterns, numbers and durations
	name := regexp.MustCompile(`[@A-Za-z][A-Za-z0-9_.]*`)
	alias := regexp.MustCompile(`\bas (\w+)`)
	parsed := regexp.MustCompile(`\(\?<(\w+)>`) // out of a field
	lines := regexp.MustCompile(`message (?:=|in|like) (\[[^\]]*\]|"[^"]*"|/[^/]*/)`)
	line := regexp.MustCompile(`"([^"]*)"|/\^([^/]*)/`)
	for page, book := range read(t) {
		known := slices.Concat(platform, words, handlerKeys(t))
		asked := lines.FindAllStringSubmatch(book.Query.Text, -1)
		for _, match := range asked {
			for _, text := range line.FindAllStringSubmatch(match[1], -1) {
				known = append(known, logged(t).of(text[1]+text[2])...)
			}
		}
		if asked == nil {
			for _, m := range telemetry.Metrics() {
				if m.Kind == telemetry.Values { // a list, of which Logs Insights makes a field for each place
					m.Name += ".0"
				}
				known = append(known, m.Name)
			}
		}
		if asked == nil || regexp.MustCompile(`\blevel\b`).MatchString(book.Query.Text) {
			known = append(known, telemetry.Fields()...)
		}
		for _, match := range parsed.FindAllStringSubmatch(book.Query.Text, -1) {
			known = append(known, match[1])
		}
		text := notFields.ReplaceAllString(book.Query.Text, " ")
		for _, match := range alias.FindAllStringSubmatch(text, -1) {
			known = append(known, match[1])
		}
		for _, field := range name.FindAllString(text, -1) {
			if !slices.Contains(known, field) {
				t.Errorf("%s.md: its query uses %s, which no line has that it asks for", page, field)
			}
		}
	}
}

func TestQueriesLookForLinesThatAreWritten(t *testing.T) {
	written := logged(t)
	// What the queries compare message, then, outcome and the like with. Lambda's levels and states are not ours.
	text := regexp.MustCompile(`"([^"]*)"|/\^([^/]*)/`)
	theirs := []string{"ERROR", "WARN", "timeout", "error"}
	for page, book := range read(t) {
		for _, match := range text.FindAllStringSubmatch(book.Query.Text, -1) {
			whole, beginning := match[1], match[2]
			switch {
			case beginning != "" && slices.ContainsFunc(written.texts, func(s string) bool { return strings.HasPrefix(s, beginning) }):
			case whole != "" && (slices.Contains(theirs, whole) || slices.Contains(written.texts, whole)):
			default:
				t.Errorf("%s.md: its query looks for %q, which no program writes", page, whole+beginning)
			}
		}
	}
}

// handlerKeys are those that a line has in Lambda besides what the program says.
func handlerKeys(t *testing.T) []string {
	t.Helper()
	var line bytes.Buffer
	slog.New(slog.NewJSONHandler(&line, &slog.HandlerOptions{ReplaceAttr: lambdacontext.ReplaceAttr})).Info("")
	keys := regexp.MustCompile(`"(\w+)":`).FindAllStringSubmatch(line.String(), -1)
	if len(keys) != 3 {
		t.Fatalf("the line of Lambda's handler is %s", line.String())
	}
	return []string{keys[0][1], keys[1][1], keys[2][1]}
}

// source is what the functions, and what they are made of, can log.
type source struct {
	keys  map[string][]string // of the attributes of a line, by its message; a message of two parts stands with its first
	texts []string            // of messages and values
	named map[string]string   // the keys that have names, as "telemetry.KeyReason"
}

var logged = func() func(t *testing.T) source {
	once := sync.OnceValues(scan)
	return func(t *testing.T) source {
		t.Helper()
		s, err := once()
		if err != nil {
			t.Fatal(err)
		}
		if len(s.keys) < 20 || len(s.texts) < 100 || len(s.named) < 20 {
			t.Fatalf("only %d lines, %d texts and %d keys found: the test looks in the wrong place", len(s.keys), len(s.texts), len(s.named))
		}
		return s
	}
}()

// of gives the keys of the lines that begin so.
func (s source) of(message string) []string {
	var all []string
	for m, keys := range s.keys {
		if strings.HasPrefix(m, message) || strings.HasSuffix(m, " ") && strings.HasPrefix(message, m) {
			all = append(all, keys...)
		}
	}
	return all
}

func scan() (source, error) {
	s := source{keys: map[string][]string{}, named: map[string]string{}}
	var files []*ast.File
	for _, root := range []string{"../../functions", "../../shared"} {
		err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			if entry.IsDir() && (entry.Name() == "awslocal" || entry.Name() == "testdata") {
				return fs.SkipDir
			}
			if !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
				return nil
			}
			file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
			files = append(files, file)
			return err
		})
		if err != nil {
			return s, err
		}
	}
	for _, file := range files {
		ast.Inspect(file, s.note)
	}
	for _, file := range files {
		for _, d := range file.Decls {
			if f, ok := d.(*ast.FuncDecl); ok {
				s.lines(f)
			}
		}
	}
	// Messages that are put together of two parts, each of which stands in the source.
	for _, fate := range []string{"sent again", "dead-lettered", "returned"} {
		if slices.Contains(s.texts, "record ") && slices.Contains(s.texts, fate) {
			s.texts = append(s.texts, "record "+fate)
		}
	}
	return s, nil
}

// note takes down all texts, and the constants for keys.
func (s *source) note(n ast.Node) bool {
	switch n := n.(type) {
	case *ast.BasicLit:
		if text, ok := literal(n); ok {
			s.texts = append(s.texts, text)
		}
	case *ast.ValueSpec:
		for i, value := range n.Values {
			if text, ok := literal(value); ok && strings.HasPrefix(n.Names[i].Name, "Key") {
				s.named["telemetry."+n.Names[i].Name] = text
			}
		}
	}
	return true
}

// lines takes down what a function logs. The attributes of a line may come together anywhere in it.
func (s *source) lines(f *ast.FuncDecl) {
	var messages, keys []string
	key := func(e ast.Expr) {
		if text, ok := literal(e); ok {
			keys = append(keys, text)
		} else if text, ok := s.named[dotted(e)]; ok {
			keys = append(keys, text)
		}
	}
	message := map[string]int{ // the place of a message among the arguments
		"LogAttrs": 2, "Debug": 0, "Info": 0, "Warn": 0, "Error": 0, "DebugContext": 1, "InfoContext": 1, "WarnContext": 1, "ErrorContext": 1,
	}
	ast.Inspect(f, func(n ast.Node) bool {
		call, ok := n.(*ast.CallExpr)
		if !ok {
			return true
		}
		selector, ok := call.Fun.(*ast.SelectorExpr)
		if !ok {
			return true
		}
		name := dotted(selector)
		at, logs := message[selector.Sel.Name]
		switch {
		case name == "telemetry.Error":
			keys = append(keys, telemetry.KeyError)
		case name == "telemetry.Wait":
			keys = append(keys, telemetry.KeyWait)
		case selector.Sel.Name == "Attrs":
			keys = append(keys, subject()...)
		case len(call.Args) > 0 && (strings.HasPrefix(name, "slog.") || name == "telemetry.Text"):
			key(call.Args[0])
		case logs && len(call.Args) > at:
			first := call.Args[at]
			if sum, ok := first.(*ast.BinaryExpr); ok {
				first = sum.X
			}
			if text, ok := literal(first); ok {
				messages = append(messages, text)
			}
			for i := at + 1; i < len(call.Args); i += 2 { // names before values
				key(call.Args[i])
			}
		}
		return true
	})
	for _, m := range messages {
		s.keys[m] = append(s.keys[m], keys...)
	}
}

// subject gives the keys of what says which delivery a line is about.
func subject() []string {
	var keys []string
	full := telemetry.Subject{Event: "e", Delivery: "d", Destination: "d", Tenant: "t", Trace: "t", Epoch: 1, Attempt: 1}
	for _, a := range full.Attrs() {
		keys = append(keys, a.Key)
	}
	return keys
}

// dotted is a name with its package: "telemetry.KeyReason".
func dotted(e ast.Expr) string {
	selector, ok := e.(*ast.SelectorExpr)
	if !ok {
		return ""
	}
	if pkg, ok := selector.X.(*ast.Ident); ok {
		return pkg.Name + "." + selector.Sel.Name
	}
	return ""
}

func literal(e ast.Expr) (string, bool) {
	l, ok := e.(*ast.BasicLit)
	if !ok || l.Kind != token.STRING {
		return "", false
	}
	text, err := strconv.Unquote(l.Value)
	return text, err == nil
}

// help is what a program says of itself, by the words after "go run ./scripts/".
func help(t *testing.T, words ...string) string {
	t.Helper()
	var out bytes.Buffer
	none := func(string) (string, bool) { return "", false }
	arguments := append(slices.Clone(words[1:]), "-help")
	switch words[0] {
	case "redrive":
		redrive.Run(t.Context(), arguments, redrive.Environment{Lookup: none}, &out, &out)
	case "destinations":
		destinations.Run(t.Context(), arguments, destinations.Environment{Lookup: none}, &out, &out)
	case "deliveries":
		deliveries.Run(t.Context(), arguments, deliveries.Environment{Lookup: none}, &out, &out)
	default:
		t.Errorf("no program scripts/%s that runbooks may name", words[0])
	}
	return out.String()
}

var command = regexp.MustCompile("go run \\./scripts/([^\n`|]*)")

// documents are all of them, also those that are no runbooks.
func documents(t *testing.T) map[string]string {
	t.Helper()
	files, err := filepath.Glob("*.md")
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]string{}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		all[file] = string(text)
	}
	return all
}

func TestCommandsHaveTheFlagsThatRunbooksName(t *testing.T) {
	flag := regexp.MustCompile(`(?m)^  -([a-z-]+)`)
	commands := 0
	for file, text := range documents(t) {
		for _, match := range command.FindAllStringSubmatch(text, -1) {
			commands++
			words := strings.Fields(match[1])
			program := words[:1]
			if words[0] == "destinations" {
				if len(words) < 2 || !strings.Contains(help(t, "destinations"), "\n  "+words[1]+" ") {
					t.Errorf("%s: %s: destinations has no such command", file, match[0])
					continue
				}
				program = words[:2]
			}
			var known []string
			for _, f := range flag.FindAllStringSubmatch(help(t, program...), -1) {
				known = append(known, f[1])
			}
			if len(known) == 0 {
				t.Errorf("%s: %s: the program lists no flags", file, match[0])
			}
			for _, word := range words[1:] {
				if name, ok := strings.CutPrefix(word, "-"); ok && !slices.Contains(known, name) {
					t.Errorf("%s: %s: there is no flag -%s", file, match[0], name)
				}
			}
		}
	}
	if commands < 40 {
		t.Errorf("only %d commands found: the test looks for the wrong thing", commands)
	}
}

// A runbook that sends its reader on must send him somewhere, and names no file, alarm or page that is not.
func TestRunbooksNameThingsThatExist(t *testing.T) {
	known := []string{runbooks.Example, runbooks.OnCall}
	for _, page := range topology.Pages() {
		known = append(known, string(page.Name))
	}
	top := topology.New(topology.LowLatency).WithCanary()
	for _, a := range top.Alarms(func(f topology.Function) int { return f.Source.MaximumConcurrency }) {
		known = append(known, a.Name)
	}
	metrics := telemetry.Metrics()
	quoted := regexp.MustCompile("`((?:ingress|deliveries|dead|function|tables?|waker|waiting|stale|store|objective|queue|ledger)-[a-z-]+)`")
	metric := regexp.MustCompile("`([A-Z][a-z]+(?:[A-Z][a-z]+)*)`")
	for file, text := range documents(t) {
		for _, match := range quoted.FindAllStringSubmatch(text, -1) {
			if !slices.Contains(known, match[1]) {
				t.Errorf("%s names %s, which is neither page nor alarm", file, match[1])
			}
		}
		for _, match := range metric.FindAllStringSubmatch(text, -1) {
			aws := []string{"AccessDenied", "ValidationError"}
			if !slices.Contains(aws, match[1]) && !slices.ContainsFunc(metrics, func(m telemetry.Definition) bool { return m.Name == match[1] }) {
				t.Errorf("%s names the metric %s, which no function publishes", file, match[1])
			}
		}
	}
}

// Commands of a shell are at least such as a shell can read.
func TestShellCommandsAreWellFormed(t *testing.T) {
	shell, err := exec.LookPath("bash")
	if err != nil {
		t.Skip("bash is not installed")
	}
	block := regexp.MustCompile("(?ms)^```sh\n(.*?)\n```$")
	for file, text := range documents(t) {
		for _, match := range block.FindAllStringSubmatch(text, -1) {
			cmd := exec.CommandContext(t.Context(), shell, "-n")
			cmd.Stdin = strings.NewReader(match[1])
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Errorf("%s: %v\n%s\n%s", file, err, out, match[1])
			}
		}
	}
}
