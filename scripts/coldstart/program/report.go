package program

import (
	"cmp"
	"fmt"
	"io"
	"runtime"
	"slices"
	"text/tabwriter"
	"time"
)

func report(out io.Writer, rounds int, loadBefore string, candidates []*candidate) error {
	fmt.Fprintf(out, "%s, %d × %s, %s/%s, %s, load average %s before and %s after, medians of %d rounds\n\n", time.Now().UTC().Format(time.DateOnly), runtime.NumCPU(),
		processorModel(), runtime.GOOS, runtime.GOARCH, runtime.Version(), loadBefore, loadAverage(), rounds)
	var baseline *candidate
	for _, c := range candidates {
		if c.name == sdkOnly {
			baseline = c
		}
	}
	slices.SortFunc(candidates, func(a, b *candidate) int { return cmp.Or(cmp.Compare(rank(a), rank(b)), cmp.Compare(a.name, b.name)) })
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(table, "function\tfirst poll\tquartiles\t× SDK only\tprocessor\t× SDK only\tpeak memory\tfirst answer\tprogram\tzip\t")
	for _, c := range candidates {
		poll := sorted(c.samples, func(s sample) time.Duration { return s.poll })
		fmt.Fprintf(table, "%s\t%s\t%s–%s\t%.2f\t%s\t%.2f\t%.1f MB\t%s\t%.1f MB\t%.1f MB\t\n", c.name,
			ms(quantile(poll, 0.5)), ms(quantile(poll, 0.25)), ms(quantile(poll, 0.75)), times(c, baseline, func(s sample) time.Duration { return s.poll }),
			ms(quantile(sorted(c.samples, func(s sample) time.Duration { return s.processor }), 0.5)), times(c, baseline, func(s sample) time.Duration { return s.processor }),
			megabytes(quantile(sorted(c.samples, func(s sample) int64 { return s.peakBytes }), 0.5)),
			ms(quantile(sorted(c.samples, func(s sample) time.Duration { return s.answer }), 0.5)),
			megabytes(c.artifact.ProgramBytes), megabytes(c.artifact.ZipBytes))
	}
	return table.Flush()
}

// rank puts the baselines first.
func rank(c *candidate) int {
	if i := slices.Index([]string{hello, sdkOnly}, c.name); i >= 0 {
		return i
	}
	return 2
}

// times gives the median of how many times as much a candidate took as the baseline did in the same round.
func times(c, baseline *candidate, of func(sample) time.Duration) float64 {
	ratios := make([]float64, len(c.samples))
	for i := range c.samples {
		ratios[i] = float64(of(c.samples[i])) / max(float64(of(baseline.samples[i])), 1)
	}
	slices.Sort(ratios)
	return quantile(ratios, 0.5)
}

func sorted[T cmp.Ordered](samples []sample, of func(sample) T) []T {
	values := make([]T, len(samples))
	for i, s := range samples {
		values[i] = of(s)
	}
	slices.Sort(values)
	return values
}

// quantile gives the value below which that part of the values lies.
func quantile[T any](sorted []T, part float64) T {
	return sorted[min(int(part*float64(len(sorted))), len(sorted)-1)]
}

func ms(d time.Duration) string { return fmt.Sprintf("%.1f ms", float64(d)/float64(time.Millisecond)) }

func megabytes(n int64) float64 { return float64(n) / 1e6 }
