//go:build race

package system_test

// defaultSeeds is fewer with the race detector, which makes a seed six times as slow.
const defaultSeeds = 40
