package localcloud

import (
	"time"

	"github.com/s3ferry/s3ferry/internal/localcloud/control"
)

// metric is what CloudWatch would tell of the queues.
func (c *Cloud) metric(m control.Metric) (float64, bool) {
	queue, ok := c.queues[m.Dimension]
	if !ok || m.Namespace != "AWS/SQS" || m.Name != "ApproximateAgeOfOldestMessage" {
		return 0, false
	}
	oldest, ok := queue.Oldest()
	return time.Since(oldest).Seconds(), ok
}
