package rollout

import (
	"slices"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	configv1 "keyward.dev/proto/gen/keyward/config/v1"

	"keyward.dev/shared/check/certs"
)

// Resource is a change of one resource. Before is nil if there was none, or it could not be read; After if it is removed.
type Resource struct {
	Kind          string
	Existed       bool
	Before, After proto.Message
}

// Urgent says whether the change takes something from somebody who calls, and so must not wait: a credential or consumer
// that is removed, a key that is replaced, ends earlier or is bound to certificates, a group that a consumer is no longer in, a certificate of a caller
// or of an authority that is believed no longer. What cannot be read counts as taken.
func (r Resource) Urgent() bool {
	switch r.Kind {
	case "credentials", "consumers", certs.Kind, certs.KindCA:
	default:
		return false
	}
	if !r.Existed {
		return false
	}
	switch was := r.Before.(type) {
	case *configv1.Certificate:
		is, _ := r.After.(*configv1.Certificate)
		return was.GetCurrent().GetPrivateKey() == nil && lost(believed(was), believed(is)) // with its key it is our own
	case *configv1.CaCertificate:
		is, _ := r.After.(*configv1.CaCertificate)
		return lost(authorities(was), authorities(is))
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

// believed are the ids of the versions with which others are compared.
func believed(c *configv1.Certificate) (ids []string) {
	for _, v := range []*configv1.CertificateVersion{c.GetCurrent(), c.GetNext()} {
		if v != nil {
			ids = append(ids, certs.VersionID(v))
		}
	}
	return ids
}

func authorities(c *configv1.CaCertificate) (ids []string) {
	for _, info := range certs.Authorities(c) {
		ids = append(ids, info.GetId())
	}
	return ids
}

// lost reports whether something is there no more.
func lost(was, is []string) bool {
	return slices.ContainsFunc(was, func(id string) bool { return !slices.Contains(is, id) })
}

func narrower(was, is *configv1.Credential) bool {
	return was.GetType() != is.GetType() || tied(was.GetBoundCertificate(), is.GetBoundCertificate()) || !proto.Equal(was.GetConfig(), is.GetConfig()) ||
		is.GetExpires() != nil && (was.GetExpires() == nil || earlier(is.GetExpires(), was.GetExpires())) ||
		is.GetNotBefore() != nil && (was.GetNotBefore() == nil || earlier(was.GetNotBefore(), is.GetNotBefore()))
}

// tied reports whether there are certificates of before with which a credential counts no more, or any at all where it counted
// with all.
func tied(was, is []string) bool { return len(is) > 0 && (len(was) == 0 || lost(was, is)) }

func earlier(a, b *timestamppb.Timestamp) bool { return a.AsTime().Before(b.AsTime()) }
