// Package runbooks holds what an engineer on call reads when an alarm has called: a document for each page, in which the
// query stands that shows what is going on. The stack saves that query in the account, so that document and account cannot differ.
package runbooks

import (
	"embed"
	"fmt"
	"regexp"
	"strings"

	"github.com/waybillhq/waybill/shared/topology"
)

//go:embed *.md
var documents embed.FS

// Documents that are no runbooks.
const (
	OnCall  = "on-call"          // what to know before the first page
	Example = "example-incident" // an incident as it was written down afterwards
)

// Query is a query of CloudWatch Logs Insights.
type Query struct {
	Functions []topology.FunctionName // whose logs it reads
	Text      string
}

// Runbook is one document.
type Runbook struct {
	Page  topology.PageName
	Text  string
	Query Query
}

// fence is the query of a runbook. The words after its language are the functions whose logs it reads.
var fence = regexp.MustCompile("(?ms)^```logs-insights ([a-z ]+)\n(.*?)\n```$")

// Read gives the runbooks by page. A document without exactly one query is an error.
func Read() (map[topology.PageName]Runbook, error) {
	files, err := documents.ReadDir(".")
	if err != nil {
		return nil, err
	}
	all := map[topology.PageName]Runbook{}
	for _, file := range files {
		name := strings.TrimSuffix(file.Name(), ".md")
		if name == OnCall || name == Example {
			continue
		}
		text, err := documents.ReadFile(file.Name())
		if err != nil {
			return nil, err
		}
		found := fence.FindAllStringSubmatch(string(text), -1)
		if len(found) != 1 {
			return nil, fmt.Errorf("infra/runbooks/%s: has %d blocks of the form ```logs-insights FUNCTION…, must have one", file.Name(), len(found))
		}
		query := Query{Text: found[0][2]}
		for function := range strings.FieldsSeq(found[0][1]) {
			query.Functions = append(query.Functions, topology.FunctionName(function))
		}
		page := topology.PageName(name)
		all[page] = Runbook{Page: page, Text: string(text), Query: query}
	}
	return all, nil
}
