package topology_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/waybillhq/waybill/shared/topology"
)

func alarms(change func(*topology.Topology)) []topology.Alarm {
	top := topology.New(topology.LowLatency).WithCanary()
	change(&top)
	return top.Alarms(func(f topology.Function) int { return f.Source.MaximumConcurrency })
}

func alarm(t *testing.T, name string, change func(*topology.Topology)) topology.Alarm {
	t.Helper()
	all := alarms(change)
	i := slices.IndexFunc(all, func(a topology.Alarm) bool { return a.Name == name })
	if i < 0 {
		t.Fatalf("there is no alarm %s", name)
	}
	return all[i]
}

func unchanged(*topology.Topology) {}

// Bounds of CloudWatch.
// Source: https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/API_PutMetricAlarm.html
func TestAlarmsAreWhatCloudWatchTakesAndSayWhy(t *testing.T) {
	names, pages := map[string]bool{}, map[topology.PageName]bool{}
	for _, a := range alarms(unchanged) {
		if names[a.Name] {
			t.Errorf("%s is there twice", a.Name)
		}
		names[a.Name], pages[a.Page] = true, true
		if a.Threshold <= 0 || a.Breaching < 1 || a.Breaching > a.Periods || a.Period < time.Minute || a.Period%time.Minute != 0 {
			t.Errorf("%s: threshold %v, %d of %d periods of %v", a.Name, a.Threshold, a.Breaching, a.Periods, a.Period)
		}
		most := 24 * time.Hour
		if a.Period >= time.Hour {
			most *= 7
		}
		if a.Period > 24*time.Hour || a.Period*time.Duration(a.Periods) > most {
			t.Errorf("%s looks at %d times %v", a.Name, a.Periods, a.Period)
		}
		if a.Why == "" || a.Silence == "" || a.Missing == "" {
			t.Errorf("%s does not say why", a.Name)
		}
		// What is looked for below a bound is a sign of life, and its absence is what is looked for.
		if a.Below != (a.Missing == topology.MissingIsBad) {
			t.Errorf("%s: below is %v, missing data %s", a.Name, a.Below, a.Missing)
		}
	}
	for _, p := range topology.Pages() {
		if !pages[p.Name] || p.Means == "" {
			t.Errorf("page %s: nothing raises it, or it does not say what it means", p.Name)
		}
		delete(pages, p.Name)
	}
	if len(pages) > 0 {
		t.Errorf("alarms of pages that are not listed: %v", pages)
	}
}

func TestThresholdsFollowWhatTheyAreMadeFrom(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*topology.Topology)
		want   float64
	}{
		{"queue-ingress-age", unchanged, 60},
		{"queue-ingress-age", func(t *topology.Topology) { t.Limits.LatencyObjective *= 2 }, 120},
		{"queue-deliveries-age", unchanged, 16 * 60},
		{"queue-deliveries-age", func(t *topology.Topology) { t.Limits.LongestDelay -= time.Minute }, 15 * 60},
		{"queue-deliveries-in-flight", unchanged, 90_000},
		// 14 days of retention, of which a message may have spent 4 elsewhere, and 3 to act in.
		{"queue-deliveries-dlq-age", unchanged, 7 * 86400},
		{"queue-ingress-dlq-age", func(t *topology.Topology) { queue(t, topology.Ingress).Retention = 24 * time.Hour }, 10 * 86400},
		{"function-deliverer-duration", unchanged, 42_000},
		{"function-deliverer-duration", func(t *topology.Topology) { function(t, topology.Deliverer).Timeout = 30 * time.Second }, 21_000},
		{"function-router-concurrency", unchanged, 90},
		{"deliveries-retrying", unchanged, 2 * 86400},
		{"deliveries-parked", unchanged, 3 * 86400},
		{"deliveries-parked", func(t *topology.Topology) { t.Limits.LongestPark = 48 * time.Hour }, 86400},
		{"waker-lag", unchanged, 300},
	} {
		if got := alarm(t, c.name, c.change).Threshold; got != c.want {
			t.Errorf("%s is raised at %v, want %v", c.name, got, c.want)
		}
	}
}

// A retry of the default schedule comes a day after the one before it; what is known of a held delivery must outlast that.
func TestHeldDeliveriesAreNotForgottenBetweenAttempts(t *testing.T) {
	for _, name := range []string{"deliveries-retrying", "deliveries-throttled", "deliveries-oldest"} {
		if a := alarm(t, name, unchanged); a.Breaching != 1 || a.Period*time.Duration(a.Periods) < 24*time.Hour {
			t.Errorf("%s is forgotten after %v", name, a.Period*time.Duration(a.Periods))
		}
	}
}

// SQS leaves messages that were received three times out of the age, and a dry run of the redrive receives: a second alarm looks at the depth alone, for as long as the
// first would have waited, but no longer than CloudWatch can look back.
func TestDeadLettersThatWereLookedAtAreNotForgotten(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*topology.Topology)
		want   time.Duration
	}{
		"as it is":         {unchanged, 7 * 24 * time.Hour},
		"a quick source":   {func(t *topology.Topology) { queue(t, topology.Ingress).Retention = 24 * time.Hour }, 7 * 24 * time.Hour},
		"a lasting source": {func(t *topology.Topology) { queue(t, topology.Ingress).Retention = 6 * 24 * time.Hour }, 5 * 24 * time.Hour},
	} {
		a := alarm(t, "queue-ingress-dlq-lasting", c.change)
		if got := a.Period * time.Duration(a.Periods); got != c.want || a.Breaching != a.Periods || a.Statistic != "Maximum" {
			t.Errorf("%s: raised after %v, %d of %d, %s of the depth; want %v on end", name, got, a.Breaching, a.Periods, a.Statistic, c.want)
		}
	}
}

// Most of half an hour must be without a gap for a message that is put off again and again: the longest that it is put off for is four minutes, spread by a fifth.
func TestPutOffIsNoticed(t *testing.T) {
	const longest = 4 * time.Minute * 6 / 5
	for _, name := range []string{"function-router-faults", "function-deliverer-faults"} {
		if a := alarm(t, name, unchanged); a.Period < longest {
			t.Errorf("%s looks at %v, in which a message that is put off may not come", name, a.Period)
		}
	}
}

// DynamoDB has these metrics per operation of its API, and PartiQL is none.
func TestTablesAreWatchedPerOperation(t *testing.T) {
	var got []string
	for _, a := range alarms(unchanged) {
		if a.Name == "table-"+string(a.Table)+"-"+a.Operation+"-system-errors" && a.Table == topology.Waiting {
			got = append(got, a.Operation)
		}
	}
	want := []string{"BatchExecuteStatement", "BatchWriteItem", "DeleteItem", "Query", "Scan", "UpdateItem"}
	if !slices.Equal(got, want) {
		t.Errorf("system errors of %v, want %v", got, want)
	}
}

func TestEachQueueAndFunctionIsWatched(t *testing.T) {
	const more = "audit"
	all := alarms(func(t *topology.Topology) {
		source, _ := t.Queue(topology.Ingress)
		source.Name, source.DeadLetter = more, more+"-dlq"
		t.Queues = append(t.Queues, source, topology.Queue{Name: source.DeadLetter, Retention: 14 * 24 * time.Hour})
		reader, _ := t.Function(topology.Router)
		reader.Name, reader.Source.Queue, reader.Source.MaximumConcurrency = more, more, 0
		t.Functions = append(t.Functions, reader)
	})
	var got []string
	for _, a := range all {
		if strings.HasPrefix(a.Name, "queue-"+more) || strings.HasPrefix(a.Name, "function-"+more) {
			got = append(got, a.Name)
		}
	}
	want := []string{
		"queue-audit-dlq-depth", "queue-audit-dlq-age", "queue-audit-dlq-lasting", "queue-audit-age", "queue-audit-in-flight", "queue-audit-unread", "function-audit-idle", "function-audit-errors",
		"function-audit-throttles", "function-audit-duration", "function-audit-faults", "function-audit-panics", "function-audit-send-failures", // and no limit of which 90 % could be
	}
	if !slices.Equal(got, want) {
		t.Errorf("watched by %v, want %v", got, want)
	}
}

// Each burn alarm has its window among those that the objective is asked for.
func TestBurnRatesHaveTheirWindows(t *testing.T) {
	windows := topology.BurnWindows()
	for _, a := range alarms(unchanged) {
		if a.Namespace == topology.AWSObjective && !slices.Contains(windows, a.Window) {
			t.Errorf("%s: nobody computes a burn rate over %v", a.Name, a.Window)
		}
	}
	if want := []time.Duration{5 * time.Minute, 30 * time.Minute, time.Hour, 6 * time.Hour, 72 * time.Hour}; !slices.Equal(windows, want) {
		t.Errorf("windows %v, want %v", windows, want)
	}
}
