package jsontree_test

import (
	"encoding/json"
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/waybillhq/waybill/shared/pattern/jsontree"
)

func TestParseKeepsWhatEncodingJSONLoses(t *testing.T) {
	document := "{ \"a\" : 1.50,\n\t\"list\":[ true , null,\"x\\u0041\"] ,\"a\":{}}"
	root, err := jsontree.Parse([]byte(document), 10)
	if err != nil {
		t.Fatal(err)
	}
	if got := []string{root.Members[0].Name, root.Members[1].Name, root.Members[2].Name}; !slices.Equal(got, []string{"a", "list", "a"}) {
		t.Errorf("names in order: %q", got)
	}
	if number, _ := root.Get("a"); number.Text != "1.50" || number.Kind != jsontree.Number {
		t.Errorf("number: %+v, want its text 1.50", number)
	}
	var repeated []string
	for m := range root.Repeated() {
		repeated = append(repeated, document[m.Offset:m.Offset+3])
	}
	if !slices.Equal(repeated, []string{`"a"`}) {
		t.Errorf("repeated: %q", repeated)
	}
	list, _ := root.Get("list")
	var items []string
	for _, item := range list.Items {
		items = append(items, document[item.Offset:item.End])
	}
	if want := []string{"true", "null", `"x\u0041"`}; !slices.Equal(items, want) {
		t.Errorf("items at their offsets: %q, want %q", items, want)
	}
	if list.Items[0].Text != "true" || list.Items[1].Text != "" || list.Items[1].Kind != jsontree.Null {
		t.Errorf("literals: %+v, %+v", list.Items[0], list.Items[1])
	}
	if list.Items[2].Text != "xA" {
		t.Errorf("decoded string: %q", list.Items[2].Text)
	}
	if got := document[list.Offset:list.End]; !strings.HasPrefix(got, "[ true") || !strings.HasSuffix(got, "]") {
		t.Errorf("extent of the array: %q", got)
	}
}

func TestParseRefuses(t *testing.T) {
	for _, test := range []struct {
		name, document string
		offset         int
		message, fix   string
	}{
		{"empty", "", 0, "unexpected end", "ends too early"},
		{"cut off", `{"a": [1`, 8, "unexpected end", "ends too early"},
		{"trailing comma", `{"a": 1,}`, 8, "invalid character '}'", "comma before"},
		{"trailing comma in an array", `[1, ]`, 4, "invalid character ']'", "comma before"},
		{"comment", "{\n// why\n}", 2, "invalid character '/'", "no comments"},
		{"single quotes", `{'a': 1}`, 1, "invalid character '\\''", `quote with "`},
		{"missing comma", `{"a": 1 "b": 2}`, 8, "invalid character '\"'", "comma or colon"},
		{"two values", `{} {}`, 3, "after top-level value", ""},
		{"byte order mark", "\xef\xbb\xbf{}", 0, "invalid character", "byte order mark"},
		{"not UTF-8", "{\"a\xff\": 1}", 3, "UTF-8", "UTF-8"},
		{"too deep", `[[[[]]]]`, 3, "more than 3 levels", "nest less"},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := jsontree.Parse([]byte(test.document), 3)
			var refusal *jsontree.SyntaxError
			if !errors.As(err, &refusal) {
				t.Fatalf("error %v is no *SyntaxError", err)
			}
			if refusal.Offset != test.offset || !strings.Contains(refusal.Message, test.message) || !strings.Contains(refusal.Fix, test.fix) {
				t.Errorf("got offset %d, %q, fix %q", refusal.Offset, refusal.Message, refusal.Fix)
			}
		})
	}
}

func TestPaths(t *testing.T) {
	path := jsontree.Index(jsontree.Field(jsontree.Field(jsontree.Field("", "data"), "odd name"), "$or"), 2)
	if want := `data["odd name"].$or[2]`; path != want {
		t.Errorf("path %s, want %s", path, want)
	}
}

// FuzzParse holds the tree against encoding/json: both accept the same documents and read the same values.
func FuzzParse(f *testing.F) {
	for _, seed := range []string{`{}`, `[1, 2.0, -0, 1e9]`, `{"a": {"b": [null, true, "\ud83d\ude00"]}, "a": 2}`, `"x"`, ` 7 `, `{"a":}`, `[,]`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, document []byte) {
		root, err := jsontree.Parse(document, 1000)
		if valid := json.Valid(document) && utf8.Valid(document); valid && err != nil && !strings.Contains(err.Error(), "levels deep") {
			t.Fatalf("refused %q: %v", document, err)
		}
		var want any
		decoder := json.NewDecoder(strings.NewReader(string(document)))
		decoder.UseNumber()
		if err != nil {
			return
		}
		if err := decoder.Decode(&want); err != nil {
			t.Fatalf("accepted %q, which encoding/json refuses: %v", document, err)
		}
		if got := plain(root); !reflect.DeepEqual(got, want) {
			t.Fatalf("%q\n got %#v\nwant %#v", document, got, want)
		}
		if extent := document[root.Offset:root.End]; !json.Valid(extent) || string(extent) != strings.Trim(string(document), " \t\r\n") {
			t.Fatalf("the root's extent is not the value: %q", extent)
		}
	})
}

func plain(n *jsontree.Node) any {
	switch n.Kind {
	case jsontree.Object:
		object := make(map[string]any)
		for _, m := range n.Members {
			object[m.Name] = plain(m.Value)
		}
		return object
	case jsontree.Array:
		array := make([]any, 0)
		for _, item := range n.Items {
			array = append(array, plain(item))
		}
		return array
	case jsontree.String:
		return n.Text
	case jsontree.Number:
		return json.Number(n.Text)
	case jsontree.Bool:
		return n.Text == "true"
	}
	return nil
}
