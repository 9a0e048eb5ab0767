package configsvc

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"time"

	configv1 "keyward.dev/proto/gen/keyward/config/v1"
	systemv1 "keyward.dev/proto/gen/keyward/system/v1"

	"keyward.dev/controlplane/internal/admission"
	"keyward.dev/controlplane/internal/sealer"
	"keyward.dev/controlplane/internal/snapshot"
	"keyward.dev/controlplane/internal/store"
	"keyward.dev/shared/problem"
)

// PepperKind is the kind of the system records that hold the terms of a group's pepper.
const PepperKind = "pepper-terms"

// CreateGroup makes a group whose first revision holds its settings, with their defaults, and what gateways need from the
// beginning, such as the first term of its pepper.
func (s *Service) CreateGroup(ctx context.Context, actor, name, description string) error {
	now := s.cfg.Now().UTC().Truncate(time.Microsecond)
	_, err := s.cfg.Sealer.CreateGroup(ctx, sealer.NewGroup{
		Name: name, Description: description, Actor: actor, At: now,
		Fill: func(ctx context.Context, tx *store.GroupTx, vault *sealer.Group) error {
			return s.fill(ctx, tx, vault, actor)
		},
	})
	if errors.Is(err, store.ErrConflict) {
		return problem.Errorf(problem.Conflict, "a group named %s exists or existed; names are never used again", name)
	}
	return err
}

// fill writes the first revision of a group.
func (s *Service) fill(ctx context.Context, tx *store.GroupTx, vault *sealer.Group, actor string) error {
	settings := &configv1.Settings{}
	if err := s.cfg.Admission.Normalize(settings); err != nil {
		return fmt.Errorf("default settings: %w", err)
	}
	key := make([]byte, sha256.Size)
	_, _ = rand.Read(key) // never fails
	first := admission.Admitted{Upserts: []admission.Upsert{
		{Kind: "settings", Name: "settings", Message: settings},
		{Kind: PepperKind, Name: "1", Message: &systemv1.PepperTerm{Term: 1, Key: key}},
	}}
	if s.cfg.First != nil {
		first.Upserts = append(first.Upserts, s.cfg.First(s.cfg.Now())...)
	}
	empty := snapshot.NewGroup(tx.Head().Group, vault, s.cfg.Log)
	view, err := empty.CatchUp(ctx, tx.Reader())
	if err != nil {
		return err
	}
	p, err := s.plan(view, Request{Actor: actor, Action: "resources.create"}, first)
	if err != nil {
		return err
	}
	return p.store(ctx, tx, vault)
}

// Hasher hashes what gateways are to find by a keyed hash, as API keys are: under every term of the pepper in the view, the
// newest first.
func Hasher(view *snapshot.View) (func(plaintext []byte) []*configv1.KeyedHash, error) {
	return hasher(view)
}

// hasher hashes API keys under every term of the pepper in the view, the newest first.
func hasher(view *snapshot.View) (func(plaintext []byte) []*configv1.KeyedHash, error) {
	var terms []*systemv1.PepperTerm
	for r := range view.All(PepperKind) {
		term, ok := r.Message.(*systemv1.PepperTerm)
		if !ok {
			return nil, problem.Errorf(problem.Unavailable, "a term of the pepper of group %s cannot be read; nothing was stored", view.Group)
		}
		terms = append(terms, term)
	}
	slices.SortFunc(terms, func(a, b *systemv1.PepperTerm) int { return int(b.GetTerm()) - int(a.GetTerm()) })
	return func(plaintext []byte) []*configv1.KeyedHash {
		hashes := make([]*configv1.KeyedHash, 0, len(terms))
		for _, term := range terms {
			mac := hmac.New(sha256.New, term.GetKey())
			mac.Write(plaintext)
			hashes = append(hashes, &configv1.KeyedHash{Term: term.GetTerm(), Hash: mac.Sum(nil)})
		}
		return hashes
	}, nil
}
