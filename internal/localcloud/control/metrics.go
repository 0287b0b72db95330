package control

import (
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/aws/smithy-go/encoding/cbor"
)

// metricsPath is where the operations of CloudWatch are, in the CBOR protocol.
const metricsPath = "/service/GraniteServiceVersion20100801/operation/"

// Metric names a metric by one dimension.
type Metric struct{ Namespace, Name, Dimension string }

// serveMetrics answers GetMetricData with the values of this moment, and
// DescribeAlarms with none, since nothing here watches anything.
func (s *Server) serveMetrics(w http.ResponseWriter, r *http.Request) {
	operation := strings.TrimPrefix(r.URL.Path, metricsPath)
	w.Header().Set("Smithy-Protocol", "rpc-v2-cbor")
	w.Header().Set("Content-Type", "application/cbor")
	if failure := s.fault(r, operation); failure != nil {
		w.WriteHeader(http.StatusBadRequest)
		_, _ = w.Write(cbor.Encode(cbor.Map{"__type": cbor.String(failure.Code), "message": cbor.String(failure.Message)})) // the client is gone
		return
	}
	var out cbor.Map
	switch operation {
	case "GetMetricData":
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxRequest))
		if err != nil {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		out = s.getMetricData(body)
	case "DescribeAlarms":
		out = cbor.Map{"MetricAlarms": cbor.List{}}
	default:
		w.WriteHeader(http.StatusNotFound)
		return
	}
	_, _ = w.Write(cbor.Encode(out)) // the client is gone
}

// getMetricData answers each query that names a metric with one value, if there
// is any.
func (s *Server) getMetricData(body []byte) cbor.Map {
	request, _ := cbor.Decode(body)
	now := cbor.Tag{ID: 1, Value: cbor.Float64(float64(time.Now().Unix()))}
	results := cbor.List{}
	for _, query := range list(member(request, "MetricDataQueries")) {
		metric := member(member(query, "MetricStat"), "Metric")
		asked := Metric{Namespace: text(member(metric, "Namespace")), Name: text(member(metric, "MetricName"))}
		for _, dimension := range list(member(metric, "Dimensions")) {
			asked.Dimension = text(member(dimension, "Value"))
		}
		result := cbor.Map{"Id": member(query, "Id"), "StatusCode": cbor.String("Complete"), "Timestamps": cbor.List{}, "Values": cbor.List{}}
		if s.config.Metric != nil {
			if value, ok := s.config.Metric(asked); ok {
				result["Timestamps"], result["Values"] = cbor.List{&now}, cbor.List{cbor.Float64(value)}
			}
		}
		results = append(results, result)
	}
	return cbor.Map{"MetricDataResults": results}
}

func member(v cbor.Value, name string) cbor.Value {
	m, _ := v.(cbor.Map)
	return m[name]
}

func list(v cbor.Value) cbor.List {
	l, _ := v.(cbor.List)
	return l
}

func text(v cbor.Value) string {
	t, _ := v.(cbor.String)
	return string(t)
}
