package secretsource

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	configv1 "keyward.dev/proto/gen/keyward/config/v1"
	systemv1 "keyward.dev/proto/gen/keyward/system/v1"

	"keyward.dev/controlplane/internal/admission"
	"keyward.dev/controlplane/internal/certinput"
	"keyward.dev/controlplane/internal/claims"
	"keyward.dev/controlplane/internal/configsvc"
	"keyward.dev/controlplane/internal/snapshot"
	"keyward.dev/shared/catalog"
	"keyward.dev/shared/check/certs"
	"keyward.dev/shared/problem"
	"keyward.dev/shared/secret"
)

// want is a version of a certificate that is read from elsewhere, wholly or its key, or another secret that is.
type want struct {
	holder    string // what has it, or one that has
	held      *configv1.Certificate
	version   *configv1.CertificateVersion // nil: it is another secret
	reference secret.Reference
}

// text is the reference as it is written.
func (w want) text() string {
	if w.version != nil {
		return certs.Reference(w.version)
	}
	return w.reference.String()
}

// wants are all references of a view, by the names of their records.
func wants(view *snapshot.View) map[string]want {
	out := map[string]want{}
	for r := range view.All(certs.Kind) {
		c, ok := r.Message.(*configv1.Certificate)
		if !ok {
			continue
		}
		for _, slot := range certs.Slots(c) {
			if certs.Reference(slot.Version) == "" {
				continue
			}
			if _, ok := certs.LocalOf(slot.Version); ok {
				continue // gateways read it
			}
			// One that cannot be read as a reference names no provider, and is unresolved as one of an unknown provider is.
			ref := certs.ReferenceOf(slot.Version)
			out[certs.ResolvedName(r.Name, slot.Version)] = want{holder: catalog.Ref(certs.Kind, r.Name), held: c, version: slot.Version, reference: ref}
		}
	}
	for at := range view.References(claims.Elsewhere, "") {
		r, ok := view.Get(at.Kind, at.Name)
		if !ok || r.Message == nil {
			continue
		}
		for _, ref := range claims.References(r.Message) {
			name := certs.ValueName(ref.String())
			if _, ok := out[name]; !ok {
				out[name] = want{holder: catalog.Ref(at.Kind, at.Name), reference: ref}
			}
		}
	}
	return out
}

// known reports whether a record has what its reference means.
func known(r *systemv1.ResolvedSecret) bool { return r.GetCertificate() != nil || r.GetValue() != nil }

// outcome is what came of reading a reference.
type outcome struct {
	want
	provider *Provider                // nil: there is none
	value    *systemv1.ResolvedSecret // with what it means alone
	err      error
}

const (
	readers     = 8
	readTimeout = 10 * time.Second
)

// asking is how references of a view are read: from whose providers, and with fresh also such as are not due of which nothing
// fitting is kept.
type asking struct {
	find  func(r secret.Reference) (*Provider, string)
	kept  func(name string) *systemv1.ResolvedSecret
	now   time.Time
	whose side
	fresh bool
	// answers are those of this run, so that what is read of one place is of one moment.
	answers *answers
}

// missing reports whether nothing is kept that is for what the certificate is for now.
func (a asking) missing(name string, w want) bool {
	kept := a.kept(name)
	if !known(kept) || w.version == nil {
		return !known(kept)
	}
	_, vs := certs.Open(&configv1.Certificate{Name: w.held.GetName(), Snis: w.held.GetSnis(), Current: kept.GetCertificate()})
	return len(vs) > 0
}

// readAll reads references, several at once. Where a source does not answer it is not asked again.
func (a asking) readAll(ctx context.Context, due map[string]want) map[string]outcome {
	out := map[string]outcome{}
	var mu sync.Mutex // guards out and down
	down := map[*Provider]error{}
	var wg sync.WaitGroup
	slots := make(chan struct{}, readers)
	beside := a.beside(due)
	for name, w := range due {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			o := outcome{want: w}
			var reason string
			if o.provider, reason = a.find(w.reference); reason != "" {
				o.provider, o.err = nil, errors.New(reason)
			} else {
				mu.Lock()
				o.err = down[o.provider]
				mu.Unlock()
				if o.err == nil {
					o.value, o.err = a.read(ctx, o.provider, name, w, beside[spot{o.provider, w.reference.Path}])
				}
			}
			mu.Lock()
			defer mu.Unlock()
			if errors.Is(o.err, errDown) {
				down[o.provider] = o.err
			}
			out[name] = o
		})
	}
	wg.Wait()
	return out
}

// read reads one reference and judges what it gives where it shall be used: a key that does not belong to its certificate is
// not what was meant, and whatever was read before is better.
func (a asking) read(ctx context.Context, p *Provider, name string, w want, beside []*systemv1.ResolvedSecret) (*systemv1.ResolvedSecret, error) {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	var lease *systemv1.SecretLease
	text, err := p.value(ctx, question{
		reference: w.reference, names: w.held.GetSnis(), held: a.kept(name).GetCertificate(), now: a.now,
		answers: a.answers, of: p, beside: beside, kept: a.kept(name), certificate: w.version != nil,
		leased: func(l *systemv1.SecretLease) { lease = l },
	})
	if err != nil {
		return nil, err
	}
	chain, err := p.chain(ctx, w.version)
	if err != nil {
		return nil, err
	}
	if w.version == nil {
		value, err := plainValue(text)
		if err == nil {
			value.Lease = lease
		}
		return value, err
	}
	v := &configv1.CertificateVersion{
		Chain: chain, PrivateKey: &configv1.Secret{Value: &configv1.Secret_Plaintext{Plaintext: text}},
	}
	if vs := certinput.Version(v, certinput.NewWork(0)); len(vs) > 0 {
		return nil, unusable(vs)
	}
	if given := certs.Given(w.version); given != "" && v.GetChain() != given {
		return nil, errors.New("what is there cannot be used: it has other certificates than the chain that is given")
	}
	alone := &configv1.Certificate{Name: w.held.GetName(), Snis: w.held.GetSnis(), Current: v}
	if _, vs := certs.Open(alone); len(vs) > 0 {
		return nil, unusable(vs)
	}
	return &systemv1.ResolvedSecret{Certificate: v}, nil
}

// plainValue is a secret as it was read, but for the end of the line that editors put behind it in files.
func plainValue(text string) (*systemv1.ResolvedSecret, error) {
	text = strings.TrimSuffix(strings.TrimSuffix(text, "\n"), "\r")
	switch {
	case text == "":
		return nil, errors.New("what is there is empty")
	case !utf8.ValidString(text):
		return nil, errNoText
	case strings.Contains(text, "PRIVATE KEY-----"):
		// Passwords are sent to where the configuration says: nobody may have a key sent there.
		return nil, errors.New("what is there is a private key, which is for certificates only")
	}
	return &systemv1.ResolvedSecret{Value: &configv1.Secret{Value: &configv1.Secret_Plaintext{Plaintext: text}}}, nil
}

// unusable says what is wrong in the words of those who check certificates, which never repeat anything of a key.
func unusable(vs []problem.Violation) error {
	var parts []string
	for _, v := range vs {
		parts = append(parts, strings.TrimPrefix(v.Path, "current.")+" "+v.Reason)
	}
	return errors.New("what is there cannot be used: " + strings.Join(parts, "; "))
}

// decide works out which records change. It is pure, and asked again with the group's head locked.
func decide(view *snapshot.View, found map[string]outcome, stale func(want) time.Duration, now time.Time) configsvc.SystemChanges {
	var out configsvc.SystemChanges
	wanted := wants(view)
	for name, w := range wanted {
		stored, _ := view.Get(certs.KindResolved, name)
		o, ok := found[name]
		if !ok {
			continue
		}
		before := recordOf(stored)
		after, note := next(before, o, stale(w), now)
		if after == nil || stored != nil && before != nil && proto.Equal(before, after) {
			continue
		}
		up := admission.Upsert{Kind: certs.KindResolved, Name: name, Message: after, Created: stored == nil}
		if stored != nil {
			up.UID = stored.UID
		}
		out.Upserts = append(out.Upserts, up)
		out.Notes = append(out.Notes, fmt.Sprintf("%s of %s: %s", w.reference, w.holder, note))
		// What was closed for good must not wait for a roll-out.
		out.Immediate = out.Immediate || known(before) && !known(after)
	}
	slices.SortFunc(out.Upserts, func(a, b admission.Upsert) int { return strings.Compare(a.Name, b.Name) })
	slices.Sort(out.Notes)
	for r := range view.All(certs.KindResolved) {
		if _, ok := wanted[r.Name]; !ok {
			out.Deletes = append(out.Deletes, r.Ref())
		}
	}
	return out
}

func recordOf(r *snapshot.Resource) *systemv1.ResolvedSecret {
	if r == nil {
		return nil
	}
	m, _ := r.Message.(*systemv1.ResolvedSecret)
	return m
}

// next is the record after a reading; nil if there is nothing to write.
func next(before *systemv1.ResolvedSecret, o outcome, stale time.Duration, now time.Time) (*systemv1.ResolvedSecret, string) {
	if o.err == nil {
		note := "read"
		if before != nil && proto.Equal(before.GetCertificate(), o.value.GetCertificate()) && proto.Equal(before.GetValue(), o.value.GetValue()) {
			note = "can be read again"
			if before.GetFailingSince() == nil && o.value.GetLease() != nil {
				note = "is held on"
			}
		}
		after := proto.CloneOf(o.value)
		after.Reference = o.text()
		return after, note
	}
	if !known(before) {
		return nil, "" // there is nothing that could become too old
	}
	after := proto.CloneOf(before)
	since := after.GetFailingSince()
	switch {
	case since == nil || since.AsTime().After(now):
		after.FailingSince = timestamppb.New(now.UTC().Truncate(time.Second))
		return after, "cannot be read; the value that was read before is kept"
	case now.Sub(since.AsTime()) >= stale:
		after.Certificate, after.Value, after.Lease = nil, nil, nil
		return after, "could not be read since " + since.AsTime().Format(time.RFC3339) + ": what needs it is closed"
	}
	return after, ""
}
