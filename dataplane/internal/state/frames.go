package state

import (
	"errors"
	"fmt"

	syncv1 "keyward.dev/proto/gen/keyward/sync/v1"
	"keyward.dev/shared/digest"
)

// ErrSum says that frames do not add up to what they were to be.
var ErrSum = errors.New("the records do not add up")

// Kept says which set frames are to add up to that were kept somewhere.
type Kept struct {
	Epoch    uint64
	Revision int64
	Digest   [digest.Size]byte
}

// FromFrames folds frames that were kept as if they were streamed, so that they are held to everything that a stream is. feed
// hands every frame to fold and ends with its first error.
func FromFrames(k Kept, limits Limits, feed func(fold func(*syncv1.Frame) error) error) (*Set, error) {
	f := NewFolder(Empty(), limits)
	begin := &syncv1.ConfigResponse{Message: &syncv1.ConfigResponse_Begin{Begin: &syncv1.Begin{Reset_: true, Epoch: k.Epoch}}}
	if _, err := f.Fold(begin); err != nil {
		return nil, err
	}
	err := feed(func(frame *syncv1.Frame) error {
		_, err := f.Fold(&syncv1.ConfigResponse{Message: &syncv1.ConfigResponse_Frame{Frame: frame}})
		return err
	})
	if err != nil {
		return nil, err
	}
	commit := &syncv1.Commit{Epoch: k.Epoch, Revision: k.Revision, Digest: k.Digest[:]}
	set, err := f.Fold(&syncv1.ConfigResponse{Message: &syncv1.ConfigResponse_Commit{Commit: commit}})
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrSum, err)
	}
	return set, nil
}
