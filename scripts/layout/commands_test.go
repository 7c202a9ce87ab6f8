package layout

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/waybillhq/waybill/shared/topology"
)

// command is one command line that a document shows.
type command struct {
	document string
	words    []string
}

// commands gives every command of go or make that stands in a document, in a block or within a sentence.
func commands(document, text string) (found []command) {
	var lines []string
	for _, block := range fence.FindAllString(text, -1) {
		lines = append(lines, strings.Split(strings.ReplaceAll(block, "\\\n", " "), "\n")...)
	}
	for _, s := range span.FindAllString(fence.ReplaceAllString(text, ""), -1) {
		lines = append(lines, strings.Trim(s, "`"))
	}
	for _, line := range lines {
		w := words(strings.TrimPrefix(strings.TrimSpace(line), "$ "))
		if len(w) > 1 && (w[0] == "make" || len(w) > 2 && w[0] == "go" && w[1] == "run") {
			found = append(found, command{document, w})
		}
	}
	return found
}

// words splits a line as a shell does, as far as documents need it: quotes, and comments after a blank.
func words(line string) (all []string) {
	var word strings.Builder
	quote, inside := rune(0), false
	for _, r := range line + " " {
		switch {
		case quote != 0 && r == quote:
			quote = 0
		case quote != 0:
			word.WriteRune(r)
		case r == '\'' || r == '"':
			quote, inside = r, true
		case r == '#' && !inside:
			return all
		case r == ' ':
			if inside {
				all = append(all, word.String())
			}
			word.Reset()
			inside = false
		default:
			word.WriteRune(r)
			inside = true
		}
	}
	return all
}

func TestWords(t *testing.T) {
	for line, want := range map[string][]string{
		`make run ARGS="-exit -trace A-1"   # comment`: {"make", "run", "ARGS=-exit -trace A-1"},
		`x -reason 'http-5*' a#b ''`:                   {"x", "-reason", "http-5*", "a#b", ""},
		`# nothing`:                                    nil,
	} {
		if got := words(line); !slices.Equal(got, want) {
			t.Errorf("%s: %q", line, got)
		}
	}
}

var makeTarget = regexp.MustCompile(`(?m)^([a-z-]+):`)

// Every target of make that a document shows is one.
func TestTargetsThatDocumentsShowExist(t *testing.T) {
	exists := map[string]bool{}
	for _, target := range makeTarget.FindAllStringSubmatch(read(t, "Makefile"), -1) {
		exists[target[1]] = true
	}
	shown := 0
	for _, document := range files(t, ".md") {
		for _, c := range commands(document, read(t, document)) {
			if c.words[0] != "make" {
				continue
			}
			shown++
			if target := c.words[1]; !exists[target] && !strings.Contains(target, "=") {
				t.Errorf("%s shows make %s, which does not exist", document, target)
			}
		}
	}
	if shown < 5 {
		t.Errorf("only %d commands found", shown)
	}
}

// Every program that a document runs exists, and so does each of its flags that a document shows: programs are asked for -help.
func TestFlagsThatDocumentsShowExist(t *testing.T) {
	if testing.Short() {
		t.Skip("it builds the programs")
	}
	p := programs{folder: t.TempDir(), helps: map[string]string{}}
	shown := 0
	for _, document := range files(t, ".md") {
		for _, c := range commands(document, read(t, document)) {
			name, arguments, ok := c.program()
			if !ok {
				continue
			}
			for _, word := range arguments {
				flag := flagOf(word)
				if flag == "" {
					continue
				}
				shown++
				if !p.has(t, name, arguments, flag) {
					t.Errorf("%s shows %q: there is no flag -%s", document, strings.Join(c.words, " "), flag)
				}
			}
		}
	}
	if shown < 10 {
		t.Errorf("only %d flags found", shown)
	}
	for _, program := range []string{"local", "redrive", "deliveries", "coldstart", "smoke"} {
		p.help(t, program)
	}
	for _, command := range subcommand.FindAllStringSubmatch(p.help(t, "destinations"), -1) {
		p.help(t, "destinations "+command[1])
	}
	for _, document := range files(t, ".md") {
		for _, s := range span.FindAllString(fence.ReplaceAllString(read(t, document), ""), -1) {
			if flag := flagOf(strings.Trim(s, "`")); flag != "" && flag != "c" && !p.anyHas(flag) { // -c is the CDK's
				t.Errorf("%s speaks of -%s, which no program knows", document, flag)
			}
		}
	}
}

// program gives the name of the folder in scripts that a command runs, and what it hands over.
func (c command) program() (name string, arguments []string, ok bool) {
	if c.words[0] == "go" {
		name, ok = strings.CutPrefix(c.words[2], "./scripts/")
		return name, c.words[3:], ok
	}
	if c.words[1] != "run" {
		return "", nil, false
	}
	for _, word := range c.words[2:] {
		if handed, ok := strings.CutPrefix(word, "ARGS="); ok {
			arguments = append(arguments, words(handed)...)
		}
	}
	return "local", arguments, true
}

// subcommand finds one in what a program with subcommands says about itself.
var subcommand = regexp.MustCompile(`(?m)^  ([a-z]+)(?: [A-Z]+)?  +[a-z]`)

var flagWord = regexp.MustCompile(`^-([a-z][a-z-]*)(?:[= ].*)?$`)

func flagOf(word string) string {
	if m := flagWord.FindStringSubmatch(word); m != nil && m[1] != "help" {
		return m[1]
	}
	return ""
}

// programs knows what programs say about themselves. Each is built once.
type programs struct {
	folder string
	helps  map[string]string // by name, or by name and subcommand
}

// has tells whether a program, or the subcommand that the arguments name, has a flag.
func (p programs) has(t *testing.T, name string, arguments []string, flag string) bool {
	t.Helper()
	if name == "destinations" && len(arguments) > 0 && flagOf(arguments[0]) == "" {
		name += " " + arguments[0]
	}
	return names(p.help(t, name), flag)
}

// help asks a program, or "program subcommand", what it has to say about itself.
func (p programs) help(t *testing.T, command string) string {
	t.Helper()
	if help, known := p.helps[command]; known {
		return help
	}
	name, sub, _ := strings.Cut(command, " ")
	program := filepath.Join(p.folder, name)
	if _, err := os.Stat(program); err != nil {
		if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", program, module+"scripts/"+name).CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", name, err, out)
		}
	}
	out, err := exec.CommandContext(t.Context(), program, append(strings.Fields(sub), "-help")...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s -help: %v\n%s", command, err, out)
	}
	p.helps[command] = string(out)
	return p.helps[command]
}

func (p programs) anyHas(flag string) bool {
	for _, help := range p.helps {
		if names(help, flag) {
			return true
		}
	}
	return false
}

// names tells whether what a program says about itself describes a flag.
func names(help, flag string) bool {
	return regexp.MustCompile(`(?m)^  -` + regexp.QuoteMeta(flag) + `( |$)`).MatchString(help)
}

var variable = regexp.MustCompile(`WAYBILL_[A-Z_]+`)

// Every environment variable that a document names is one that some program reads. Where a document leaves out a part (WAYBILL_QUEUE_…_URL) what
// stands before it counts.
func TestVariablesThatDocumentsNameExist(t *testing.T) {
	var code strings.Builder
	for _, path := range files(t, ".go") {
		if !strings.HasSuffix(path, "_test.go") {
			code.WriteString(read(t, path))
		}
	}
	for _, queue := range topology.New(topology.LowLatency).Queues { // programs derive these
		code.WriteString(" " + queue.Name.URLVariable())
	}
	for _, table := range topology.New(topology.LowLatency).Tables {
		code.WriteString(" " + table.Name.NameVariable())
	}
	for _, document := range files(t, ".md") {
		for _, name := range variable.FindAllString(read(t, document), -1) {
			if !strings.Contains(code.String(), name) {
				t.Errorf("%s names %s, which no program knows", document, name)
			}
		}
	}
}
