package report

import (
	"context"
	"fmt"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs"
)

// pattern picks the lines with receipts.
//
// https://docs.aws.amazon.com/AmazonCloudWatch/latest/logs/FilterAndPatternSyntax.html
const pattern = `{ $.message = "receipt" }`

// Fetch hands the receipts that a log group has taken since then to keep.
func Fetch(ctx context.Context, logs cloudwatchlogs.FilterLogEventsAPIClient, group string, since time.Time, keep func(Receipt)) error {
	pages := cloudwatchlogs.NewFilterLogEventsPaginator(logs, &cloudwatchlogs.FilterLogEventsInput{
		LogGroupName: aws.String(group), FilterPattern: aws.String(pattern), StartTime: aws.Int64(since.UnixMilli()),
	})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return fmt.Errorf("read log group %s: %w", group, err)
		}
		for _, event := range page.Events {
			if r, ok := Decode([]byte(aws.ToString(event.Message))); ok {
				keep(r)
			}
		}
	}
	return nil
}
