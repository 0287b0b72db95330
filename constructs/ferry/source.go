package ferry

import (
	"fmt"
	"strings"

	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awss3"
	"github.com/aws/constructs-go/constructs/v10"
	"github.com/aws/jsii-runtime-go"
)

// Source is a bucket to carry from, beside a Sender's own.
type Source struct {
	// Bucket is in the region of the sender, which may decrypt with its
	// EncryptionKey. Default: a new bucket, as in SenderProps.
	Bucket awss3.IBucket
	// Events is how Bucket tells of new objects. Default: EventBridge.
	Events Events
	// Prefix and Suffix choose the keys to carry. Nothing outside Prefix can be
	// read or signed for. Default: all keys.
	Prefix string
	Suffix string
}

// toldAlready is how a bucket tells an outbox that was given.
const toldAlready Events = "Outbox"

// events is how the bucket tells of new objects, a new one included.
func (s Source) events() Events {
	if s.Bucket == nil && s.Events != toldAlready {
		return Notifications
	}
	return or(s.Events, EventBridge)
}

// AddSource has the sender carry from one more bucket, and returns the bucket.
// The receiver's trust parameter has to name it, too. Where buckets have keys in
// common, ReceiverProps.AddPrefix tells their objects apart.
func (s *Sender) AddSource(id string, source Source) awss3.IBucket {
	var bad problems
	bad.checkSource(s, "", source)
	if s.events == toldAlready {
		bad.check(source.Bucket != nil && source.Events == "", "Events", source.events(), "nothing, and a Bucket, beside the Outbox of the sender",
			"give a bucket that the queue is told of already, or another sender")
		source.Events = toldAlready
	}
	bad.report("Source", id)

	scope := constructs.NewConstruct(s, jsii.String(id))
	bucket := s.newSource(scope, source)
	s.grantRead(bucket, source.Prefix)
	return bucket
}

// checkSource checks what is given of a source; name is put before the names of
// the props that say what they are of.
func (p *problems) checkSource(scope constructs.Construct, name string, source Source) {
	p.check(source.Events == "" || source.Events == toldAlready || source.Events == EventBridge || source.Events == Notifications,
		name+"Events", source.Events, "EventBridge or Notifications", "use one of the package's constants")
	p.check(source.Events == "" || source.Events == toldAlready || source.Bucket != nil, name+"Events", source.Events,
		fmt.Sprintf("nothing without a %sBucket", name), "give the bucket, or leave it out: a new bucket notifies the outbox itself")
	p.check(*awscdk.Token_IsUnresolved(source.Prefix) || !strings.ContainsAny(source.Prefix, "*?$"),
		"Prefix", source.Prefix, "text without * ? $", "IAM reads these as patterns: shorten the prefix to what is before them")
	if source.Bucket != nil {
		p.check(!ofASender(source.Bucket), name+"Bucket", "that of another sender", "one that tells EventBridge of its objects",
			"make it with awss3.NewBucket and EventBridgeEnabled, and give it to both")
		p.checkRegion(scope, name+"Bucket", source.Bucket)
	}
	if source.Bucket != nil && source.Events == Notifications {
		p.checkOverlap(scope, name, source)
	}
}

// checkOverlap reports a notification that S3 would refuse beside one that
// another sender of the app asks for. What else the bucket has is known to S3
// only, which then fails the deployment and leaves the bucket as it was.
// https://docs.aws.amazon.com/AmazonS3/latest/userguide/notification-how-to-filtering.html
func (p *problems) checkOverlap(scope constructs.Construct, name string, source Source) {
	for _, c := range *scope.Node().Root().Node().FindAll(constructs.ConstructOrder_PREORDER) {
		other, ok := c.(*Sender)
		if !ok {
			continue
		}
		for _, theirs := range other.notified {
			p.check(*theirs.Bucket.BucketName() != *source.Bucket.BucketName() || !source.overlaps(theirs),
				name+"Events", source.Events, "other keys than "+*other.Node().Path()+" is notified of by this bucket",
				"use EventBridge, which tells several, or prefixes of which none begins with another")
		}
	}
}

// overlaps reports whether a key can be both sources'.
func (s Source) overlaps(other Source) bool {
	return (strings.HasPrefix(s.Prefix, other.Prefix) || strings.HasPrefix(other.Prefix, s.Prefix)) &&
		(strings.HasSuffix(s.Suffix, other.Suffix) || strings.HasSuffix(other.Suffix, s.Suffix))
}

// ofASender reports whether a sender made the bucket, which then notifies that
// sender's outbox and nobody else.
func ofASender(bucket awss3.IBucket) bool {
	for _, c := range *bucket.Node().Scopes() {
		if _, ok := c.(*Sender); ok {
			return true
		}
	}
	return false
}
