package configsvc

import (
	"context"

	"google.golang.org/protobuf/proto"

	"keyward.dev/controlplane/internal/admission"
	"keyward.dev/controlplane/internal/passwords"
)

// hashPasswords exchanges the passwords in changes for their hashes. The set it compares them with may be older than the one
// that the changes will meet: a hash of the same password is as good, whichever is stored by then.
func (s *Service) hashPasswords(ctx context.Context, group string, changes []admission.Change) error {
	work := passwords.Find(changes)
	if work.Empty() {
		return nil
	}
	view, err := s.cfg.Groups.Fresh(ctx, group)
	if err != nil {
		return classify(err)
	}
	return s.passwords.Replace(ctx, work, func(name string) proto.Message {
		if r, ok := view.Get("credentials", name); ok {
			return r.Message
		}
		return nil
	})
}
