package status

import (
	"fmt"

	"github.com/s3ferry/s3ferry/internal/version"
)

// versions compares those of both sides, and with them that of the program that
// asks. A receiver understands the version before its own and a sender does not,
// so a sender that is ahead calls for attention; whatever else differs is noted.
// A version that nobody told is not compared.
func versions(own string, sides []Side) (why, notes []string) {
	of := map[string]string{}
	for _, side := range sides {
		of[side.Name] = side.Version
		if version.Newer(side.Version, own) {
			notes = append(notes, fmt.Sprintf("the %s side is of %s, and this s3ferry of %s: a newer one knows more of it", side.Name, side.Version, own))
		}
	}
	switch sender, receiver := of[sending], of[receiving]; {
	case version.Newer(sender, receiver):
		why = append(why, fmt.Sprintf("the sender is of %s, and the receiver of %s, which may not understand it: deploy the receiver, and from now on always first", sender, receiver))
	case version.Newer(receiver, sender):
		notes = append(notes, fmt.Sprintf("the receiver is of %s, and the sender of %s, which works: deploy the sender at your leisure", receiver, sender))
	}
	return why, notes
}
