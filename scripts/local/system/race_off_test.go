//go:build !race

package system_test

const defaultSeeds = 200
