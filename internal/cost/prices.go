package cost

// Price is a list price. Free tiers and the lower tiers of large volumes are
// left out.
type Price struct {
	Name   string  `json:"name"`
	USD    float64 `json:"usd"` // of one Unit
	Unit   string  `json:"unit"`
	Source string  `json:"source"` // URL
	Seen   string  `json:"seen"`   // day on which Source, or a copy of it, said so
	// Quoted, if there is one, is who says that Source says so, on the day Seen:
	// the tables of that page are made by a script and were not in any copy.
	Quoted string `json:"quoted,omitempty"`
}

// seen is the day on which the prices were looked up.
const seen = "2026-11-24"

// Where nothing else would do.
const (
	quotedSeen   = "2026-11-29"
	quotedBill   = "https://www.factualminds.com/blog/amazon-cloudwatch-pricing-metrics-logs-alarms-dashboards/"
	quotedAlarm  = "https://c3x.dev/resources/aws/aws_cloudwatch_metric_alarm"
	quotedMetric = "https://signoz.io/guides/cloudwatch-pricing"
)

// The prices of us-east-1. AWS China publishes its own, in CNY, which could not
// be confirmed: these stand for them, too.
var (
	OutOfRegion = Price{"egress", 0.09, "GiB to the internet, the first 10 TB of a month", "https://aws.amazon.com/s3/pricing/", seen, ""}
	S3Put       = Price{"s3-put", 0.005 / 1e3, "PUT, POST or LIST request", "https://aws.amazon.com/s3/pricing/", seen, ""}
	S3Get       = Price{"s3-get", 0.0004 / 1e3, "GET or HEAD request", "https://aws.amazon.com/s3/pricing/", seen, ""}
	SQSRequest  = Price{"sqs", 0.40 / 1e6, "request of up to 64 KiB", "https://aws.amazon.com/sqs/pricing/", seen, ""}
	APIRequest  = Price{"api", 3.50 / 1e6, "request", "https://docs.aws.amazon.com/whitepapers/latest/best-practices-api-gateway-private-apis-integration/cost-optimization.html", seen, ""}
	Invocation  = Price{"lambda", 0.20 / 1e6, "invocation", "https://aws.amazon.com/lambda/pricing/", seen, ""}
	SecondsX86  = Price{"lambda-x86", 0.0000166667, "GB-second", "https://aws.amazon.com/lambda/pricing/", seen, ""}
	SecondsARM  = Price{"lambda-arm", 0.0000133334, "GB-second", "https://aws.amazon.com/lambda/pricing/", seen, ""}
	logBytes    = Price{"logs", 0.50 / gib, "byte of logs", "https://aws.amazon.com/cloudwatch/pricing/", quotedSeen, quotedBill}
	alarm       = Price{"alarm", 0.10, "alarm a month", "https://aws.amazon.com/cloudwatch/pricing/", quotedSeen, quotedAlarm}
	dashboard   = Price{"dashboard", 3, "dashboard a month", "https://aws.amazon.com/cloudwatch/pricing/", quotedSeen, quotedBill}
	metrics     = Price{"metric", 0.30, "metric a month, by the hours in which it has values", "https://aws.amazon.com/cloudwatch/pricing/", quotedSeen, quotedMetric}
	secret      = Price{"secret", 0.40, "secret a month", "https://aws.amazon.com/secrets-manager/pricing/", "2026-09-20", ""}
	secretReads = Price{"secret-reads", 0.05 / 1e4, "read of a secret", "https://aws.amazon.com/secrets-manager/pricing/", "2026-09-20", ""}
)

// Prices returns every price that an estimate takes.
func Prices() []Price {
	return []Price{OutOfRegion, S3Put, S3Get, SQSRequest, APIRequest, Invocation, SecondsX86, SecondsARM, logBytes, alarm, dashboard, metrics, secret, secretReads}
}
