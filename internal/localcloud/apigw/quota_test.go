package apigw

import (
	"testing"
	"time"
)

func TestAQuotaIsOfOneDay(t *testing.T) {
	q := quota{most: 2}
	late := time.Date(2026, 11, 24, 23, 59, 59, 0, time.UTC)
	for i, want := range []bool{true, true, false, false} {
		if got := q.allow(late); got != want {
			t.Errorf("request %d of a day: got %v, want %v", i+1, got, want)
		}
	}
	if !q.allow(late.Add(time.Second)) {
		t.Error("the next day's first request was refused")
	}
	unlimited := quota{}
	if !unlimited.allow(late) {
		t.Error("a request was refused without a quota")
	}
}
