//go:build race

package chaos

// The race detector makes everything ten times slower; what it looks for does not need many seeds.
const (
	defaultSeeds    = 15
	defaultReplays  = 4
	defaultBugSeeds = 0
)
