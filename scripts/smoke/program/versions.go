package program

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatch"
	metrictypes "github.com/aws/aws-sdk-go-v2/service/cloudwatch/types"
	"github.com/aws/aws-sdk-go-v2/service/lambda"

	"github.com/waybillhq/waybill/shared/topology"
)

// versions looks whether what runs is what the alias names. It comes last, when this run's own events have made the functions run.
func (s *session) versions(ctx context.Context) {
	for _, f := range topology.New(topology.LowLatency).Functions {
		s.tell(ctx, "version "+string(f.Name), func(ctx context.Context) verdict { return s.version(ctx, f.Name) })
	}
}

// metricPause is the pause between two questions to CloudWatch.
const metricPause = 15 * time.Second

func (s *session) version(ctx context.Context, f topology.FunctionName) verdict {
	if why := s.noFunctions(f); why != "" {
		return skipped("%s", why)
	}
	name, alias, ok := functionOf(s.functions[f])
	if !ok {
		return failed("the ARN of an alias", s.functions[f], "correct "+f.AliasVariable()+", or deploy the stack again")
	}
	live, err := s.functionAPI.GetAlias(ctx, &lambda.GetAliasInput{FunctionName: &name, Name: &alias})
	if err != nil {
		return unanswered(err)
	}
	if live.RoutingConfig != nil && len(live.RoutingConfig.AdditionalVersionWeights) > 0 {
		return skipped("a release is under way: the alias divides its traffic between versions; run this again when it is over")
	}
	version := aws.ToString(live.FunctionVersion)
	var runs map[string]float64
	var all float64
	patience := s.metrics
	if !s.reached(f) {
		patience = 0 // nothing makes it run, so there is nothing to wait for
	}
	seen, err := until(ctx, patience, metricPause, func() (bool, error) {
		all, runs, err = s.executions(ctx, name, alias)
		return all > 0 && len(runs) > 0, err
	})
	if err != nil {
		return unanswered(err)
	}
	if !seen && all == 0 {
		return s.noRuns(ctx, f, alias)
	}
	if !seen {
		return skipped("the alias has run %.0f times, but CloudWatch tells nothing by ExecutedVersion; its only version is %s", all, version)
	}
	for other := range runs {
		if other != version {
			return s.otherVersion(ctx, name, alias, version, runs)
		}
	}
	return holds("version %s has run %.0f times through the alias, no other has", version, runs[version])
}

// otherVersion is the verdict where something else has run, unless the alias has changed meanwhile.
func (s *session) otherVersion(ctx context.Context, name, alias, version string, runs map[string]float64) verdict {
	now, err := s.functionAPI.GetAlias(ctx, &lambda.GetAliasInput{FunctionName: &name, Name: &alias})
	if err != nil {
		return unanswered(err)
	}
	if aws.ToString(now.FunctionVersion) != version {
		return skipped("a release has moved the alias from version %s to %s meanwhile: run this again", version, aws.ToString(now.FunctionVersion))
	}
	var seen []string
	for _, v := range slices.Sorted(maps.Keys(runs)) {
		seen = append(seen, fmt.Sprintf("version %s %.0f times", v, runs[v]))
	}
	return failed("version "+version+" alone", list(seen),
		"if a release ended less than a few minutes before this run, run it again; otherwise watch releases here, because the alarms that take them back may look at the wrong version, and report it")
}

// reached tells whether a function must have run since this run began: because of the clock, or of the events that were sent. Those are rejected
// at once, so none goes to the lane of slow destinations.
func (s *session) reached(f topology.FunctionName) bool {
	declared, _ := topology.New(topology.LowLatency).Function(f)
	switch declared.Source.Queue {
	case topology.Ingress, topology.Deliveries:
		return s.sentEvents
	}
	return declared.Every > 0
}

// noRuns is the verdict where CloudWatch has seen nothing of the alias.
func (s *session) noRuns(ctx context.Context, f topology.FunctionName, alias string) verdict {
	if !s.reached(f) {
		return skipped("it has not run since this began, and nothing that was sent makes it run")
	}
	if ctx.Err() != nil {
		return skipped("not finished")
	}
	return failed("runs of the alias "+alias+" since "+s.began.UTC().Format(time.TimeOnly)+" UTC", fmt.Sprintf("none within %v", s.metrics),
		"look whether the mapping or the schedule invokes the alias, and not the function; CloudWatch may be late: -only versions -metrics-wait 15m asks again")
}

// executions asks how often an alias has run since this run began, in all and by version.
func (s *session) executions(ctx context.Context, function, alias string) (all float64, byVersion map[string]float64, err error) {
	ofAlias := []metrictypes.Dimension{
		{Name: aws.String("FunctionName"), Value: &function}, {Name: aws.String("Resource"), Value: aws.String(function + ":" + alias)},
	}
	var filters []metrictypes.DimensionFilter
	for _, d := range ofAlias {
		filters = append(filters, metrictypes.DimensionFilter{Name: d.Name, Value: d.Value})
	}
	listed, err := s.metricsAPI.ListMetrics(ctx, &cloudwatch.ListMetricsInput{
		Namespace: aws.String(topology.AWSFunction), MetricName: aws.String("Invocations"),
		Dimensions: append(filters, metrictypes.DimensionFilter{Name: aws.String("ExecutedVersion")}),
	})
	if err != nil {
		return 0, nil, err
	}
	queries := []metrictypes.MetricDataQuery{invocations("all", ofAlias)}
	versions := map[string]string{} // by the id of the query
	for i, m := range listed.Metrics {
		id := fmt.Sprintf("v%d", i)
		for _, d := range m.Dimensions {
			if aws.ToString(d.Name) == "ExecutedVersion" {
				versions[id] = aws.ToString(d.Value)
			}
		}
		queries = append(queries, invocations(id, m.Dimensions))
	}
	const mostQueries = 500
	sums, err := s.sums(ctx, queries[:min(len(queries), mostQueries)])
	if err != nil {
		return 0, nil, err
	}
	byVersion = map[string]float64{}
	for id, version := range versions {
		if sums[id] > 0 {
			byVersion[version] = sums[id]
		}
	}
	return sums["all"], byVersion, nil
}

func invocations(id string, dimensions []metrictypes.Dimension) metrictypes.MetricDataQuery {
	return metrictypes.MetricDataQuery{Id: &id, MetricStat: &metrictypes.MetricStat{
		Metric: &metrictypes.Metric{Namespace: aws.String(topology.AWSFunction), MetricName: aws.String("Invocations"), Dimensions: dimensions},
		Period: aws.Int32(int32(time.Minute / time.Second)), Stat: aws.String("Sum"),
	}}
}

// sums adds up metrics since this run began. Of the minute in which it began only what came after its end counts, because it may hold runs of a version before.
func (s *session) sums(ctx context.Context, queries []metrictypes.MetricDataQuery) (map[string]float64, error) {
	from := s.began.Truncate(time.Minute)
	if s.began.After(from) {
		from = from.Add(time.Minute)
	}
	to := time.Now().Truncate(time.Minute).Add(time.Minute)
	sums := map[string]float64{}
	if !to.After(from) {
		return sums, nil
	}
	pages := cloudwatch.NewGetMetricDataPaginator(s.metricsAPI, &cloudwatch.GetMetricDataInput{StartTime: &from, EndTime: &to, MetricDataQueries: queries})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return nil, err
		}
		for _, r := range page.MetricDataResults {
			for _, v := range r.Values {
				sums[aws.ToString(r.Id)] += v
			}
		}
	}
	return sums, nil
}
