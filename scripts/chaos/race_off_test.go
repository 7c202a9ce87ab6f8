//go:build !race

package chaos

const (
	defaultSeeds    = 150
	defaultReplays  = 25
	defaultBugSeeds = 2000
)
