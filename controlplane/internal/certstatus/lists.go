package certstatus

import (
	"context"
	"crypto/x509"
	"errors"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	configv1 "keyward.dev/proto/gen/keyward/config/v1"
	systemv1 "keyward.dev/proto/gen/keyward/system/v1"

	"keyward.dev/shared/check/certs"
	"keyward.dev/shared/check/revocation"
)

// list is a revocation list that a CA certificate names.
type list struct {
	authority    string
	url          string
	refresh      time.Duration
	certificates []*x509.Certificate
}

// lists are those that a CA certificate names.
func lists(m *configv1.CaCertificate) []subject {
	authorities, vs := certs.OpenCA(m)
	if len(vs) > 0 {
		return nil // it was admitted by another version; nothing signed by it could be checked
	}
	rules, vs := revocation.Open(m, authorities)
	if len(vs) > 0 || rules == nil {
		return nil
	}
	var out []subject
	for _, url := range rules.URLs {
		out = append(out, &list{m.GetName(), url, rules.Refresh, authorities})
	}
	return out
}

func (l *list) at() site {
	return site{revocation.Kind, revocation.RecordName(l.authority, l.url), certs.KindCA + "/" + l.authority, l.url}
}

func (l *list) fetch(ctx context.Context, by Fetcher, now time.Time) ([]byte, error) {
	text, err := by.Get(ctx, l.url, revocation.MaxList)
	if err != nil {
		return nil, err
	}
	got, err := revocation.Parse(text, l.certificates)
	switch {
	case err != nil:
		return nil, err
	case !got.FreshAt(now):
		return nil, errors.New("is out of date since " + got.NextUpdate.UTC().Format(time.RFC3339))
	}
	return got.DER, nil
}

// replaces refuses a list that is older than the one before: whoever sends it may want a revocation forgotten. One that says the
// same waits for the second half of the other's life, so that a list which is signed anew every minute is no revision a minute.
func (l *list) replaces(kept, fetched []byte, now time.Time) (bool, error) {
	before, err := revocation.Parse(kept, l.certificates)
	if err != nil {
		return true, nil //nolint:nilerr // it was signed by an authority that is believed no longer
	}
	after, err := revocation.Parse(fetched, l.certificates)
	if err != nil {
		return false, err // the authorities have changed since it was fetched
	}
	if before.Issuer.Equal(after.Issuer) && after.Before(before) {
		return false, errors.New("is older than the one before")
	}
	half := before.ThisUpdate.Add(before.NextUpdate.Sub(before.ThisUpdate) / 2)
	return !before.SaysSame(after) || now.After(half) && before.NextUpdate.Before(after.NextUpdate), nil
}

func (l *list) record(value []byte, failing *timestamppb.Timestamp) proto.Message {
	return &systemv1.RevocationList{Authority: l.authority, Url: l.url, List: value, FailingSince: failing}
}

func (l *list) due(_ []byte, now time.Time) time.Time { return now.Add(l.refresh) }
