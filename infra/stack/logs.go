package stack

import (
	"github.com/aws/aws-cdk-go/awscdk/v2/awslogs"
	"github.com/aws/constructs-go/constructs/v10"
	"github.com/aws/jsii-runtime-go"
)

// keeps are the retentions that CloudWatch Logs knows, in days, up to ten years.
var keeps = [...]struct {
	days int
	as   awslogs.RetentionDays
}{
	{1, awslogs.RetentionDays_ONE_DAY}, {3, awslogs.RetentionDays_THREE_DAYS}, {5, awslogs.RetentionDays_FIVE_DAYS},
	{7, awslogs.RetentionDays_ONE_WEEK}, {14, awslogs.RetentionDays_TWO_WEEKS}, {30, awslogs.RetentionDays_ONE_MONTH},
	{60, awslogs.RetentionDays_TWO_MONTHS}, {90, awslogs.RetentionDays_THREE_MONTHS}, {120, awslogs.RetentionDays_FOUR_MONTHS},
	{150, awslogs.RetentionDays_FIVE_MONTHS}, {180, awslogs.RetentionDays_SIX_MONTHS}, {365, awslogs.RetentionDays_ONE_YEAR},
	{400, awslogs.RetentionDays_THIRTEEN_MONTHS}, {545, awslogs.RetentionDays_EIGHTEEN_MONTHS}, {731, awslogs.RetentionDays_TWO_YEARS},
	{1096, awslogs.RetentionDays_THREE_YEARS}, {1827, awslogs.RetentionDays_FIVE_YEARS}, {2192, awslogs.RetentionDays_SIX_YEARS},
	{2557, awslogs.RetentionDays_SEVEN_YEARS}, {2922, awslogs.RetentionDays_EIGHT_YEARS}, {3288, awslogs.RetentionDays_NINE_YEARS},
	{3653, awslogs.RetentionDays_TEN_YEARS},
}

func retention(days int) (awslogs.RetentionDays, bool) {
	for _, k := range keeps {
		if k.days == days {
			return k.as, true
		}
	}
	return "", false
}

func retentionDays() []int {
	var days []int
	for _, k := range keeps {
		days = append(days, k.days)
	}
	return days
}

func (b *builder) addLogs(scope constructs.Construct) awslogs.LogGroup {
	keep, _ := retention(b.props.logDays())
	props := &awslogs.LogGroupProps{Retention: keep, RemovalPolicy: b.removal()}
	if b.key != nil {
		props.EncryptionKey = b.key
	}
	return awslogs.NewLogGroup(scope, jsii.String("logs"), props)
}
