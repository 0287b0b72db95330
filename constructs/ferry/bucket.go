package ferry

import (
	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsiam"
	"github.com/aws/aws-cdk-go/awscdk/v2/awskms"
	"github.com/aws/aws-cdk-go/awscdk/v2/awss3"
	"github.com/aws/constructs-go/constructs/v10"
	"github.com/aws/jsii-runtime-go"
)

// newBucket makes a bucket that is private, encrypted (with a key of S3's unless
// one is given), refuses plain HTTP and outlives its stack.
func newBucket(scope constructs.Construct, id string, versioned bool, key awskms.IKey, rules ...*awss3.LifecycleRule) awss3.Bucket {
	encryption := awss3.BucketEncryption_S3_MANAGED
	if key != nil {
		encryption = awss3.BucketEncryption_KMS
	}
	return awss3.NewBucket(scope, jsii.String(id), &awss3.BucketProps{
		Versioned:         jsii.Bool(versioned),
		BlockPublicAccess: awss3.BlockPublicAccess_BLOCK_ALL(),
		ObjectOwnership:   awss3.ObjectOwnership_BUCKET_OWNER_ENFORCED,
		Encryption:        encryption,
		EncryptionKey:     key,
		BucketKeyEnabled:  enabledWith(key),
		EnforceSSL:        jsii.Bool(true),
		LifecycleRules:    &rules,
		RemovalPolicy:     awscdk.RemovalPolicy_RETAIN,
	})
}

// abortUploads ends multipart uploads that nobody completed within days.
func abortUploads(days int) *awss3.LifecycleRule {
	return &awss3.LifecycleRule{
		Id:                                  jsii.String("AbortIncompleteUploads"),
		AbortIncompleteMultipartUploadAfter: awscdk.Duration_Days(jsii.Number(days)),
	}
}

// expire removes the objects below prefix after days.
func expire(id, prefix string, days int) *awss3.LifecycleRule {
	return &awss3.LifecycleRule{
		Id: jsii.String(id), Prefix: jsii.String(prefix), Expiration: awscdk.Duration_Days(jsii.Number(days)),
	}
}

// enabledWith is true beside a key: S3 then asks KMS once for many objects.
func enabledWith(key awskms.IKey) *bool {
	if key == nil {
		return nil
	}
	return jsii.Bool(true)
}

// grantKey lets role use the key of the bucket, if the bucket has one.
func grantKey(bucket awss3.IBucket, role awsiam.IRole, actions ...string) {
	if key := bucket.EncryptionKey(); key != nil {
		key.Grant(role, *jsii.Strings(actions...)...)
	}
}
