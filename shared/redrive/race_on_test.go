//go:build race

package redrive_test

// shrink divides the numbers of the tests at SQS's real size, which take six times as long with the race detector.
const shrink = 10
