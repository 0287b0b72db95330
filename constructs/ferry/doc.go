// Package ferry holds the constructs of s3ferry, which carries S3 objects
// between AWS partitions that share no credentials.
//
// A Sender belongs into the partition of the source bucket. A Mailbox, which is
// the only door into the other partition, and a Receiver belong into the
// partition of the destination bucket. Nothing refers across the border: after
// both sides are deployed, an operator puts the address of the mailbox, its API
// key and a signing key into the sender's link secret, and the matching public
// key into the receiver's trust parameter. The command s3ferry link does that
// for stacks that have the outputs of AddOutputs.
//
// A mailbox is for one sender and one receiver. A sender carries from several
// buckets if told to, several senders may read one bucket, and several receivers
// may write into one.
//
// Props are plain Go values whose zero means the documented default. Construct
// ids are part of the package's contract: they do not change between releases,
// so an update never replaces a queue or a bucket. Misuse panics with every
// problem of the props at once.
package ferry
