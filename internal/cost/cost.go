// Package cost estimates what carrying objects costs: requests as they were
// counted on the laptop cloud, times list prices, with egress apart.
package cost

import (
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/s3ferry/s3ferry/internal/envcfg"
)

const gib = 1 << 30

// Workload is what is to be carried.
type Workload struct {
	Objects float64
	Size    float64 // bytes of each
	// Per is how often: an estimate is then of 30 days, with what runs while
	// nothing is carried. 0: once, and without that.
	Per time.Duration
	// Link is what lies between the partitions.
	Link Link
	// Alone has every object come by itself, so that no message shares a request
	// or an invocation with another.
	Alone bool
}

// Link is what a receiver makes of a link, as docs/performance.md has it.
type Link struct {
	Name string
	Rate float64 // bytes a second of one invocation, with many connections
}

// The links that were measured.
var (
	Fair = Link{"fair", 86.1e6}
	Bad  = Link{"bad", 23.6e6}
)

// How long the functions work. Time on a laptop says nothing of time over a
// border, so these are not counted but taken: from docs/performance.md where it
// has them, from round trips of 200 ms where not.
const (
	receiverBatch = 0.35 // seconds for ten small objects, beside their bytes: 1,000 by 10 receivers in 3.5 s
	senderBatch   = 0.5  // seconds for a batch: ten HEADs at once, one POST over the border
	courierRound  = 0.5  // seconds

	// messageBytes is about what a signed transfer takes on its way, URL included.
	messageBytes = 3000

	// idlePolls is how often Lambda asks a queue in 30 days in which nothing comes:
	// five long polls of 20 seconds at a time.
	// https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-scaling.html
	idlePolls = 5 * month / 20

	month  = 30 * 24 * 3600 // seconds
	rounds = month / 60     // of the courier
)

// What each stack has, by its side.
var (
	alarms     = map[string]int{sending: 8, receiving: 5}
	dashboards = map[string]int{sending: 1, receiving: 1}
)

// The sides.
const (
	sending   = "sending"
	receiving = "receiving"
)

// The memory of the functions as they are deployed, in GB of Lambda's bill.
const (
	senderGB   = 0.5
	courierGB  = 0.25
	receiverGB = 2
)

// Line is one line of an estimate.
type Line struct {
	Side     string  `json:"side"` // "sending" or "receiving"
	Item     string  `json:"item"`
	Kind     string  `json:"kind"` // "carrying", "standing" or "egress"
	Price    string  `json:"price"`
	Quantity float64 `json:"quantity"`
	USD      float64 `json:"usd"`
}

// The kinds of lines.
const (
	Carrying = "carrying" // grows with what is carried
	Standing = "standing" // of 30 days, whatever is carried
	Egress   = "egress"
)

// Estimate is what a workload costs.
type Estimate struct {
	Objects float64 `json:"objects"` // in all
	Bytes   float64 `json:"bytes"`
	Lines   []Line  `json:"lines"`
}

// USD is the sum of the lines of the kinds.
func (e Estimate) USD(kinds ...string) float64 {
	var sum float64
	for _, line := range e.Lines {
		for _, kind := range kinds {
			if line.Kind == kind {
				sum += line.USD
			}
		}
	}
	return sum
}

// Check says what is wrong with a workload.
func (w Workload) Check() error {
	var problems []error
	if !(w.Objects > 0) || math.IsInf(w.Objects, 0) {
		problems = append(problems, fmt.Errorf("--objects: got %g, expected more than 0", w.Objects))
	}
	if !(w.Size >= 0) || w.Size > maxObject {
		problems = append(problems, fmt.Errorf("--size: got %g bytes, expected 0 to %g (48.8 TiB, the largest object of S3)", w.Size, float64(maxObject)))
	}
	if w.Per < 0 || w.Link.Rate <= 0 {
		problems = append(problems, fmt.Errorf("got a period of %s and a link of %g bytes a second, expected a period and a rate", w.Per, w.Link.Rate))
	}
	return errors.Join(problems...)
}

// maxObject is the size of the largest object of S3, in bytes.
// https://docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html
const maxObject = 10_000 * 5 << 30

// New estimates what a workload costs that Check finds nothing wrong with.
func New(w Workload) Estimate {
	n := w.Objects
	if w.Per > 0 {
		n *= float64(month) / w.Per.Seconds()
	}
	b := builder{Estimate: Estimate{Objects: n, Bytes: n * w.Size}, kind: Carrying}
	b.carry(w, n)
	if w.Per > 0 {
		b.stand()
	}
	b.kind = Egress
	b.add(sending, "objects", OutOfRegion, n*w.Size/gib)
	b.add(sending, "messages", OutOfRegion, n*messageBytes/gib)
	return b.Estimate
}

type builder struct {
	Estimate
	kind string
}

func (b *builder) add(side, item string, p Price, quantity float64) {
	if quantity > 0 {
		b.Lines = append(b.Lines, Line{side, item, b.kind, p.Name, quantity, quantity * p.USD})
	}
}

// carry adds what n objects take.
func (b *builder) carry(w Workload, n float64) {
	all := counts()
	small := all.Burst
	if w.Alone {
		small = all.Single
	}
	invocations := func(function string) float64 { return small.Invocations[function] / float64(small.Objects) }
	_, heads := small.s3("source")
	puts, looks := small.s3("destination")
	_, gets := small.s3("border")
	if parts := math.Ceil(w.Size / envcfg.DefaultPartSize); parts > 1 {
		puts, looks, gets = all.large(parts)
	}

	b.add(sending, "S3 requests of the sender", S3Get, n*heads)
	b.add(sending, "S3 requests over signed URLs", S3Get, n*gets)
	// S3's notification, and Lambda's receive and delete for each batch.
	b.add(sending, "SQS, outbox", SQSRequest, n*(1+2*invocations("sender")))
	b.add(sending, "invocations of the sender", Invocation, n*invocations("sender"))
	b.add(sending, "time of the sender", SecondsARM, n*invocations("sender")*senderBatch*senderGB)
	b.add(sending, "logs of sender and courier", logBytes, n*(small.LogBytes["sender"]+small.LogBytes["courier"])/float64(small.Objects))

	// What a round of the courier asks before it has a receipt is standing.
	requests := small.per("api ") - invocations("courier")*all.Idle.per("api ")
	b.add(receiving, "API requests", APIRequest, n*requests)
	// One for each API request, Lambda's two for each batch, the receiver's own.
	b.add(receiving, "SQS, inbox and receipts", SQSRequest, n*(requests+2*invocations("receiver")+small.per("services AmazonSQS")))
	b.add(receiving, "S3 requests, reading", S3Get, n*looks)
	b.add(receiving, "S3 requests, writing", S3Put, n*puts)
	b.add(receiving, "invocations of the receiver", Invocation, n*invocations("receiver"))
	b.add(receiving, "time of the receiver", SecondsX86, n*(invocations("receiver")*receiverBatch+w.Size/w.Link.Rate)*receiverGB)
	b.add(receiving, "logs of the receiver", logBytes, n*small.LogBytes["receiver"]/float64(small.Objects))
}

// stand adds what runs for 30 days although nothing is carried.
func (b *builder) stand() {
	b.kind = Standing
	idle := counts().Idle
	b.add(sending, "rounds of the courier", Invocation, rounds)
	b.add(sending, "time of the courier", SecondsARM, rounds*courierRound*courierGB)
	b.add(sending, "link secret", secret, 1)
	b.add(sending, "reads of the link secret", secretReads, rounds) // what is read is believed for a minute
	b.add(sending, "Lambda's polls of the outbox", SQSRequest, idlePolls)
	b.watch(sending)
	b.add(receiving, "API requests of the courier", APIRequest, rounds*idle.per("api "))
	b.add(receiving, "receipts looked for", SQSRequest, rounds*idle.per("api "))
	b.add(receiving, "Lambda's polls of the inbox", SQSRequest, idlePolls)
	b.watch(receiving)
}

// watch adds what shows how a side does.
func (b *builder) watch(side string) {
	b.add(side, "alarms", alarm, float64(alarms[side]))
	b.add(side, "dashboard", dashboard, float64(dashboards[side]))
	b.add(side, "metrics, if objects come every hour", metrics, float64(counts().Metrics[side]))
}
