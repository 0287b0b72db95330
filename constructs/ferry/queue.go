package ferry

import (
	"time"

	"github.com/aws/aws-cdk-go/awscdk/v2/awskms"
	"github.com/aws/aws-cdk-go/awscdk/v2/awssqs"
	"github.com/aws/constructs-go/constructs/v10"
	"github.com/aws/jsii-runtime-go"
)

// retention is the longest that SQS keeps a message. Every queue keeps its
// messages that long, since SQS drops them without a word when it ends.
const retention = 14 * 24 * time.Hour

// newQueue makes a queue that is encrypted (with a key of SQS's unless one is
// given) and refuses plain HTTP. With deadLetters, a message received maxReceives
// times without being deleted goes there; without, maxReceives does not matter.
func newQueue(scope constructs.Construct, id string, visibility time.Duration, key awskms.IKey, deadLetters awssqs.IQueue, maxReceives int) awssqs.Queue {
	props := &awssqs.QueueProps{
		VisibilityTimeout: duration(visibility),
		RetentionPeriod:   duration(retention),
		Encryption:        awssqs.QueueEncryption_SQS_MANAGED,
		EnforceSSL:        jsii.Bool(true),
	}
	if key != nil {
		props.Encryption, props.EncryptionMasterKey = awssqs.QueueEncryption_KMS, key
	}
	if deadLetters != nil {
		props.DeadLetterQueue = &awssqs.DeadLetterQueue{Queue: deadLetters, MaxReceiveCount: jsii.Number(maxReceives)}
	}
	return awssqs.NewQueue(scope, jsii.String(id), props)
}
