// The courier function: receipts in from the mailbox, into the log; what
// expired goes back into the outbox.
package main

import (
	"context"
	"log"

	"github.com/aws/aws-lambda-go/lambda"

	"github.com/s3ferry/s3ferry/internal/courier"
)

func main() {
	c, err := courier.FromEnvironment(context.Background())
	if err != nil {
		log.Fatalf("start courier: %v", err)
	}
	lambda.Start(c.Handle)
}
