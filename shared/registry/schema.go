package registry

import (
	_ "embed"
	"slices"
)

//go:embed destinations.schema.json
var schema []byte

// Schema gives the JSON Schema (2020-12) of the files that Parse reads, whose descriptions help in editors. It refuses what a schema can tell, and
// nothing that Parse takes with zero Options.
func Schema() []byte { return slices.Clone(schema) }
