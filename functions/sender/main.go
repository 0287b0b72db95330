// The sender function: events in from the outbox, signed transfers out to the
// mailbox.
package main

import (
	"context"
	"log"

	"github.com/aws/aws-lambda-go/lambda"

	"github.com/s3ferry/s3ferry/internal/sender"
)

func main() {
	s, err := sender.FromEnvironment(context.Background())
	if err != nil {
		log.Fatalf("start sender: %v", err)
	}
	lambda.Start(s.Handle)
}
