// The receiver function: transfers in from the inbox, objects out into the
// destination bucket.
package main

import (
	"context"
	"log"

	"github.com/aws/aws-lambda-go/lambda"

	"github.com/s3ferry/s3ferry/internal/receiver"
)

func main() {
	r, err := receiver.FromEnvironment(context.Background())
	if err != nil {
		log.Fatalf("start receiver: %v", err)
	}
	lambda.Start(r.Handle)
}
