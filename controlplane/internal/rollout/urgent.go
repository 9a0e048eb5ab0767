package rollout

import (
	"slices"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	configv1 "keyward.dev/proto/gen/keyward/config/v1"
)

// Resource is a change of one resource. Before is nil if there was none, or it could not be read; After if it is removed.
type Resource struct {
	Kind          string
	Existed       bool
	Before, After proto.Message
}

// Urgent says whether the change takes something from somebody who calls, and so must not wait: a credential or consumer
// that is removed, a key that is replaced or ends earlier, a group that a consumer is no longer in. What cannot be read
// counts as taken.
func (r Resource) Urgent() bool {
	if !r.Existed || r.Kind != "credentials" && r.Kind != "consumers" {
		return false
	}
	switch was := r.Before.(type) {
	case *configv1.Credential:
		is, ok := r.After.(*configv1.Credential)
		return !ok || narrower(was, is)
	case *configv1.Consumer:
		is, ok := r.After.(*configv1.Consumer)
		return !ok || slices.ContainsFunc(was.GetGroups(), func(g string) bool { return !slices.Contains(is.GetGroups(), g) })
	default:
		return true
	}
}

func narrower(was, is *configv1.Credential) bool {
	return was.GetType() != is.GetType() || !proto.Equal(was.GetConfig(), is.GetConfig()) ||
		is.GetExpires() != nil && (was.GetExpires() == nil || earlier(is.GetExpires(), was.GetExpires())) ||
		is.GetNotBefore() != nil && (was.GetNotBefore() == nil || earlier(was.GetNotBefore(), is.GetNotBefore()))
}

func earlier(a, b *timestamppb.Timestamp) bool { return a.AsTime().Before(b.AsTime()) }
