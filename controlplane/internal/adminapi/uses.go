package adminapi

import (
	"context"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/timestamppb"

	adminv1 "keyward.dev/proto/gen/keyward/admin/v1"
	configv1 "keyward.dev/proto/gen/keyward/config/v1"

	"keyward.dev/controlplane/internal/snapshot"
	"keyward.dev/controlplane/internal/store"
)

// Uses knows when credentials were used; *store.Store does.
type Uses interface {
	// LastUsed leaves out those of which no use is known.
	LastUsed(ctx context.Context, uids []string) (map[string]time.Time, error)
	CredentialUsage(ctx context.Context, q store.UsageQuery) (found []store.Usage, since time.Time, err error)
}

// usesWait bounds how long an answer about the configuration, which comes from memory, waits for the database to say when
// credentials were used.
const usesWait = time.Second

// tellUses says of credentials when they were used last, and of resources of other kinds nothing. While the database is down
// it is left out: reading goes on, and whoever would delete a credential because of that cannot.
func (s *resources) tellUses(ctx context.Context, kind string, rendered ...*anypb.Any) error {
	if kind != credentials || len(rendered) == 0 {
		return nil
	}
	uids := make([]string, 0, len(rendered))
	of := make(map[*anypb.Any]*configv1.Credential, len(rendered))
	for _, r := range rendered {
		c := &configv1.Credential{}
		if err := r.UnmarshalTo(c); err != nil {
			return err
		}
		of[r], uids = c, append(uids, c.GetUid())
	}
	used := s.usesOf(ctx, uids)
	for r, c := range of {
		at, ok := used[c.GetUid()]
		if !ok {
			continue
		}
		c.LastUsed = timestamppb.New(at)
		if err := r.MarshalFrom(c); err != nil {
			return err
		}
	}
	return nil
}

// usesOf is empty while the database cannot be asked.
func (s *resources) usesOf(ctx context.Context, uids []string) map[string]time.Time {
	ctx, cancel := context.WithTimeout(ctx, usesWait)
	defer cancel()
	used, err := s.uses.LastUsed(ctx, uids)
	if err != nil {
		used = nil
	}
	return used
}

// ListGroupCredentials answers credentials of all consumers, or those of them that nobody uses.
func (s *resources) ListGroupCredentials(ctx context.Context, req *adminv1.ListGroupCredentialsRequest) (*adminv1.ListGroupCredentialsResponse, error) {
	out, err := s.groupCredentials(ctx, req)
	return out, failure(err)
}

func (s *resources) groupCredentials(ctx context.Context, req *adminv1.ListGroupCredentialsRequest) (*adminv1.ListGroupCredentialsResponse, error) {
	size, err := pageSize(req.GetPageSize())
	if err != nil {
		return nil, err
	}
	sel, err := parseSelector(req.GetSelector())
	if err != nil {
		return nil, err
	}
	unused := req.GetUnusedFor()
	if unused != nil && (unused.CheckValid() != nil || unused.AsDuration() <= 0) {
		return nil, malformed("unused_for", "must be more than nothing")
	}
	list := "credentials\x01" + req.GetGroup() + "\x01" + req.GetSelector() + "\x01" + unused.AsDuration().String()
	after, err := afterToken(list, req.GetPageToken())
	if err != nil {
		return nil, err
	}
	view, err := s.view(ctx, req.GetGroup(), 0)
	if err != nil {
		return nil, err
	}
	q := store.UsageQuery{Group: req.GetGroup(), After: after, Limit: size}
	if unused != nil {
		q.UnusedSince = s.now().Add(-unused.AsDuration())
	}
	found, since, err := s.uses.CredentialUsage(ctx, q)
	if err != nil {
		return nil, err
	}
	out := &adminv1.ListGroupCredentialsResponse{AtRevision: view.Revision, RecordedSince: timestamppb.New(since)}
	last, err := fillUsage(out, view, sel, found)
	if err != nil {
		return nil, err
	}
	if last != "" && (len(found) == size || last != found[len(found)-1].Name) {
		out.NextPageToken = pageToken(list, last)
	}
	return out, nil
}

// fillUsage renders what was found as far as it fits and answers the name of the last one that was looked at. The database can
// be ahead of the view: what that does not have is left out.
func fillUsage(out *adminv1.ListGroupCredentialsResponse, view *snapshot.View, sel selector, found []store.Usage) (last string, err error) {
	bytes := 0
	for _, u := range found {
		r, ok := view.Get(credentials, u.Name)
		if !ok || r.UID != u.UID || r.Message == nil || !sel.matches(r.Labels) {
			last = u.Name
			continue
		}
		if bytes > 0 && bytes+len(r.Record) > maxPageBytes {
			break
		}
		m, err := visible(r, view)
		if err != nil {
			return "", err
		}
		if c, ok := m.(*configv1.Credential); ok && !u.Used.IsZero() {
			c.LastUsed = timestamppb.New(u.Used)
		}
		packed, err := anypb.New(m)
		if err != nil {
			return "", err
		}
		out.Resources = append(out.Resources, packed)
		bytes, last = bytes+proto.Size(packed), u.Name
	}
	return last, nil
}
