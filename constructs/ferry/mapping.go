package ferry

import (
	"maps"
	"slices"
	"strings"

	"github.com/aws/aws-cdk-go/awscdk/v2"
)

// anyClass is every storage class that is not named.
const anyClass = "*"

// The storage classes of S3, and those of them that a general purpose bucket can
// hold.
// https://docs.aws.amazon.com/AmazonS3/latest/API/API_PutObject.html
var (
	kept = []string{
		"STANDARD", "REDUCED_REDUNDANCY", "STANDARD_IA", "ONEZONE_IA", "INTELLIGENT_TIERING",
		"GLACIER", "GLACIER_IR", "DEEP_ARCHIVE",
	}
	elsewhere = []string{"EXPRESS_ONEZONE", "OUTPOSTS", "SNOW", "FSX_OPENZFS", "FSX_ONTAP"}
)

// checkMapping checks what becomes of keys and storage classes, and the networks
// that they come from.
func (p *problems) checkMapping(props ReceiverProps) {
	if !*awscdk.Token_IsUnresolved(props.AddPrefix) {
		p.check(!strings.ContainsAny(props.AddPrefix, "*?$"), "AddPrefix", props.AddPrefix,
			"text without * ? $", "IAM reads these as patterns: choose another prefix")
		rest := strings.NewReplacer("{bucket}", "", "{region}", "").Replace(props.AddPrefix)
		p.check(!strings.ContainsAny(rest, "{}"), "AddPrefix", props.AddPrefix,
			"no braces but those of {bucket} and {region}", "spell the placeholder so, or leave out the braces")
		p.check(len(props.AddPrefix) <= maxPrefix, "AddPrefix", len(props.AddPrefix), "at most 512 bytes", "choose a shorter prefix")
	}
	p.check(len(props.StripPrefix) <= maxPrefix, "StripPrefix", len(props.StripPrefix), "at most 512 bytes", "choose a shorter prefix")
	for _, from := range slices.Sorted(maps.Keys(props.StorageClasses)) {
		to := props.StorageClasses[from]
		p.check(from == anyClass || slices.Contains(kept, from) || slices.Contains(elsewhere, from), "StorageClasses", from,
			"storage classes such as STANDARD, or *", "spell it as S3's API does")
		p.check(slices.Contains(kept, to), "StorageClasses", from+": "+to,
			"one of "+strings.Join(kept, ", "), "choose one that the destination can hold")
	}
	for _, network := range props.SourceNetworks {
		p.check(isPrivate(network), "SourceNetworks", network, "a private network such as 10.1.0.0/16",
			"write the network's own address and its length; public addresses need no leave")
	}
}

// maxPrefix leaves room in a key of 1,024 bytes, and in a function's environment
// of 4 KiB.
const maxPrefix = 512
