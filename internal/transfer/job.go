package transfer

import (
	"context"
	"errors"

	"github.com/s3ferry/s3ferry/internal/fault"
	"github.com/s3ferry/s3ferry/internal/journal"
	"github.com/s3ferry/s3ferry/internal/wire"
)

// job is one call of Put, PutSegment, Delete or Tag.
type job struct {
	*Engine
	t *wire.Transfer

	key          string            // of the destination object
	storageClass string            // of the destination object
	metadata     map[string]string // of the destination object
	overflow     bool              // our entries had no room: the journal holds the order
	order        *journal.Order    // what Advance returned; nil until then

	doubtful  bool         // there may be an upload that no entry names: see sweep
	announced bool         // the event is in the journal as the newest of its key, or was
	again     *wire.Source // see Result.Again
	retag     *wire.Source // see Result.Retag

	finished, remaining int // parts
	segments            []int
	told                func(context.Context) error
	residue             error
}

func (e *Engine) newJob(t *wire.Transfer) (*job, error) {
	j := &job{Engine: e, t: t, remaining: 1, storageClass: e.Mapping.storageClass(t.Object.StorageClass)}
	var err error
	if j.key, err = e.Mapping.key(t.Source); err != nil {
		return nil, err
	}
	if err := checkStorageClass(j.storageClass); err != nil {
		return nil, err
	}
	j.metadata, j.overflow, err = metadata(t)
	if err != nil {
		return nil, err
	}
	return j, nil
}

// leave notes an error that does not change how the transfer ends.
func (j *job) leave(err error) { j.residue = errors.Join(j.residue, err) }

func checkStorageClass(class string) error {
	if unreachable[class] {
		return fault.Permanentf("storage-class", "storage class: got %s, which a general purpose bucket cannot hold, expected another", class)
	}
	return nil
}

// unreachable are the storage classes that belong to other kinds of buckets.
// https://docs.aws.amazon.com/AmazonS3/latest/API/API_PutObject.html
var unreachable = map[string]bool{
	"OUTPOSTS": true, "SNOW": true, "EXPRESS_ONEZONE": true, "FSX_OPENZFS": true, "FSX_ONTAP": true,
}
