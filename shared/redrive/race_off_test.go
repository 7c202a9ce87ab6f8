//go:build !race

package redrive_test

const shrink = 1
