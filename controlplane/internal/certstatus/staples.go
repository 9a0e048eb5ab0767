package certstatus

import (
	"context"
	"crypto/x509"
	"errors"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	configv1 "keyward.dev/proto/gen/keyward/config/v1"
	systemv1 "keyward.dev/proto/gen/keyward/system/v1"

	"keyward.dev/shared/check/certs"
	"keyward.dev/shared/check/revocation"
)

// staple is the answer of a responder that is sent with a version of a certificate.
type staple struct {
	holder       string
	id, url      string
	leaf, issuer *x509.Certificate
}

// staples are those of the versions of a certificate that clients are shown, or may be soon.
func staples(m *configv1.Certificate, tls *configv1.ServerTls) []subject {
	var out []subject
	for _, slot := range certs.Slots(m) {
		byName := slot.Name != "previous" && (len(m.GetSnis()) > 0 || slices.Contains(tls.GetDefaultCertificate(), m.GetName()))
		if !byName && !slices.Contains(tls.GetDefaultCertificate(), certs.VersionID(slot.Version)) {
			continue
		}
		chain := certs.Chain(slot.Version)
		if len(chain) == 0 {
			continue
		}
		wanted, _ := revocation.Stapling(tls.GetOcspStapling(), chain[0])
		url, issuer, ok := revocation.ResponderOf(chain)
		if !wanted || !ok {
			continue // gateways tell of those that they must not show
		}
		out = append(out, &staple{certs.Kind + "/" + m.GetName(), certs.VersionID(slot.Version), url, chain[0], issuer})
	}
	return out
}

func (s *staple) at() site { return site{revocation.KindStaple, s.id, s.holder, s.url} }

// fetch answers nothing, and no error, if the certificate is revoked: then no answer from before may be sent any more.
func (s *staple) fetch(ctx context.Context, by Fetcher, now time.Time) ([]byte, error) {
	// Without a nonce: the answer is for many, and responders that sign ahead give the same one faster.
	question, err := revocation.Question(s.leaf, s.issuer, nil)
	if err != nil {
		return nil, err
	}
	text, err := by.Post(ctx, s.url, "application/ocsp-request", question, revocation.MaxAnswer)
	if err != nil {
		return nil, err
	}
	a, err := revocation.ReadAnswer(text, s.leaf, s.issuer, nil, now)
	switch {
	case err != nil:
		return nil, err
	case a.Status == revocation.Revoked:
		return nil, nil
	case a.Status != revocation.Good:
		return nil, errors.New("the responder does not know the certificate")
	case a.NextUpdate.IsZero():
		return nil, errors.New("the answer of the responder does not say until when it is in force")
	}
	return text, nil
}

// read reads an answer that was checked when it was fetched.
func (s *staple) read(value []byte) (a revocation.Answer, half time.Time, ok bool) {
	a, err := revocation.ReadAnswer(value, s.leaf, s.issuer, nil, time.Time{})
	return a, a.ThisUpdate.Add(a.NextUpdate.Sub(a.ThisUpdate) / 2), err == nil
}

// replaces takes another answer once half of the life of the one before is over.
func (s *staple) replaces(kept, fetched []byte, now time.Time) (bool, error) {
	before, half, ok := s.read(kept)
	after, _, good := s.read(fetched)
	switch {
	case !ok || !good: // revoked, or not any more
		return true, nil
	case after.ThisUpdate.Before(before.ThisUpdate):
		return false, errors.New("is older than the one before")
	}
	return !now.Before(half) && before.NextUpdate.Before(after.NextUpdate), nil
}

func (s *staple) record(value []byte, failing *timestamppb.Timestamp) proto.Message {
	m := &systemv1.OcspStaple{Certificate: s.id, Answer: value, FailingSince: failing}
	if a, _, ok := s.read(value); ok {
		m.Until = timestamppb.New(a.NextUpdate)
	}
	return m
}

const (
	// soonest is how often a responder is asked at most, latest how seldom.
	soonest = 10 * time.Second
	latest  = 24 * time.Hour
)

func (s *staple) due(kept []byte, now time.Time) time.Time {
	_, half, ok := s.read(kept)
	switch {
	case !ok:
		return now.Add(time.Hour)
	case half.Before(now.Add(soonest)):
		return now.Add(soonest)
	case half.After(now.Add(latest)):
		return now.Add(latest)
	}
	return half
}
