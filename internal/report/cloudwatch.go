package report

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs"

	"github.com/s3ferry/s3ferry/internal/wire"
)

// pattern picks the lines with receipts, of these outcomes only if there are any.
//
// https://docs.aws.amazon.com/AmazonCloudWatch/latest/logs/FilterAndPatternSyntax.html
func pattern(only []wire.Outcome) string {
	if len(only) == 0 {
		return `{ $.message = "receipt" }`
	}
	terms := make([]string, len(only))
	for i, outcome := range only {
		terms[i] = fmt.Sprintf("$.outcome = %q", outcome)
	}
	return `{ $.message = "receipt" && (` + strings.Join(terms, " || ") + `) }`
}

// Fetch hands the receipts that a log group has taken since then to keep, from
// the oldest on; of these outcomes only if there are any.
func Fetch(ctx context.Context, logs cloudwatchlogs.FilterLogEventsAPIClient, group string, since time.Time, keep func(Receipt), only ...wire.Outcome) error {
	pages := cloudwatchlogs.NewFilterLogEventsPaginator(logs, &cloudwatchlogs.FilterLogEventsInput{
		LogGroupName: aws.String(group), FilterPattern: aws.String(pattern(only)), StartTime: aws.Int64(since.UnixMilli()),
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
