package apigw

import (
	"sync"
	"time"
)

// quota counts the requests of a usage plan's period, a day of UTC.
// https://docs.aws.amazon.com/apigateway/latest/developerguide/api-gateway-api-usage-plans.html
type quota struct {
	most int // 0: no quota

	mu   sync.Mutex
	day  time.Time
	used int
}

func (q *quota) allow(now time.Time) bool {
	if q.most == 0 {
		return true
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if day := now.UTC().Truncate(24 * time.Hour); day != q.day {
		q.day, q.used = day, 0
	}
	if q.used == q.most {
		return false
	}
	q.used++
	return true
}
