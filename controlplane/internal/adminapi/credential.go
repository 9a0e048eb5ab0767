package adminapi

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/timestamppb"

	adminv1 "keyward.dev/proto/gen/keyward/admin/v1"
	configv1 "keyward.dev/proto/gen/keyward/config/v1"
	optionsv1 "keyward.dev/proto/gen/keyward/options/v1"
	"keyward.dev/shared/catalog"
	"keyward.dev/shared/problem"

	"keyward.dev/controlplane/internal/adminauth"
	"keyward.dev/controlplane/internal/admission"
	"keyward.dev/controlplane/internal/configsvc"
	"keyward.dev/controlplane/internal/snapshot"
)

const (
	// generatedPrefix lets scanners find leaked keys; 40 base62 characters are 238 bits.
	generatedPrefix = "kwk_"
	generatedLen    = 40

	defaultOverlap = 24 * time.Hour
	maxOverlap     = 365 * 24 * time.Hour

	consumers, credentials = "consumers", "credentials"
)

// GenerateCredential creates a credential with a fresh secret.
func (s *resources) GenerateCredential(ctx context.Context, req *adminv1.GenerateCredentialRequest) (*adminv1.GenerateCredentialResponse, error) {
	m := &configv1.Credential{
		Name: req.GetName(), Consumer: req.GetParent(), Type: req.GetType(), NotBefore: req.GetNotBefore(), Expires: req.GetExpires(),
		BoundCertificate: req.GetBoundCertificate(),
	}
	secret, c, err := s.fresh(m)
	if err != nil {
		return nil, failure(err)
	}
	res, err := s.write(ctx, configsvc.Request{Action: "credentials.generate", Group: req.GetGroup(), Changes: []admission.Change{c}})
	if err != nil {
		return nil, failure(err)
	}
	out, err := generated(res, c.Name, secret)
	return out, failure(err)
}

// fresh puts a new secret into a credential and returns it with the change that creates the credential.
func (s *resources) fresh(m *configv1.Credential) (string, admission.Change, error) {
	k, err := s.kind(credentials)
	if err != nil {
		return "", admission.Change{}, err
	}
	name, err := place(k, m.GetConsumer(), m.GetName())
	if err != nil {
		return "", admission.Change{}, err
	}
	secret, config, err := s.freshConfig(m.GetType())
	if err != nil {
		return "", admission.Change{}, err
	}
	if m.Config, err = anypb.New(config); err != nil {
		return "", admission.Change{}, fmt.Errorf("wrap credential: %w", err)
	}
	return secret, admission.Change{Kind: k.Name, Name: name, Message: m, IfNoneMatch: "*"}, nil
}

// freshConfig makes the configuration of a credential type that consists of one random secret, which is true of types
// whose only secret is kept as a keyed hash: nobody but the owner ever needs to know it.
func (s *resources) freshConfig(word string) (string, proto.Message, error) {
	typ, ok := s.catalog.Credential(word)
	if !ok {
		return "", nil, violation("type", fmt.Sprintf("there is no credential type %q", word))
	}
	config := typ.Config.New()
	var target protoreflect.FieldDescriptor
	for i := range config.Descriptor().Fields().Len() {
		fd := config.Descriptor().Fields().Get(i)
		if o, _ := proto.GetExtension(fd.Options(), optionsv1.E_Field).(*optionsv1.FieldOptions); o.GetStorage() == optionsv1.Storage_STORAGE_KEYED_HASH {
			target = fd
		}
	}
	if target == nil {
		return "", nil, violation("type", fmt.Sprintf("%s credentials have no secret that can be generated", word))
	}
	random, err := adminauth.Random(generatedLen)
	if err != nil {
		return "", nil, err
	}
	secret := generatedPrefix + random
	value := &configv1.Secret{Value: &configv1.Secret_Plaintext{Plaintext: secret}}
	config.Set(target, protoreflect.ValueOfMessage(value.ProtoReflect()))
	return secret, config.Interface(), nil
}

// RotateCredential creates a successor and lets the old credential expire.
func (s *resources) RotateCredential(ctx context.Context, req *adminv1.RotateCredentialRequest) (*adminv1.GenerateCredentialResponse, error) {
	overlap, err := overlapOf(req.GetOverlapSeconds())
	if err != nil {
		return nil, failure(err)
	}
	k, err := s.kind(credentials)
	if err != nil {
		return nil, failure(err)
	}
	name, err := place(k, req.GetParent(), req.GetName())
	if err != nil {
		return nil, failure(err)
	}
	view, err := s.sets.Fresh(ctx, req.GetGroup())
	if err != nil {
		return nil, failure(err)
	}
	old, err := find(view, k, name)
	if err != nil {
		return nil, failure(err)
	}
	secret, changes, err := s.rotation(view, k, old, req.GetNewName(), overlap)
	if err != nil {
		return nil, failure(err)
	}
	res, err := s.write(ctx, configsvc.Request{Action: "credentials.rotate", Group: req.GetGroup(), Changes: changes})
	if err != nil {
		return nil, failure(err)
	}
	out, err := generated(res, changes[1].Name, secret)
	return out, failure(err)
}

func overlapOf(seconds int64) (time.Duration, error) {
	switch {
	case seconds < 0:
		return 0, nil
	case seconds == 0:
		return defaultOverlap, nil
	case seconds > int64(maxOverlap/time.Second):
		return 0, violation("overlap_seconds", "must be at most 365 days")
	default:
		return time.Duration(seconds) * time.Second, nil
	}
}

// rotation makes the two changes: the old credential gets an end, its successor begins.
func (s *resources) rotation(view *snapshot.View, k *catalog.Kind, old *snapshot.Resource, newName string, overlap time.Duration) (string, []admission.Change, error) {
	shown, err := visible(old, nil) // its secret is `set`, which keeps it
	if err != nil {
		return "", nil, err
	}
	ending, ok := shown.(*configv1.Credential)
	if !ok {
		return "", nil, problem.Errorf(problem.Internal, "the stored %s is none", k.Singular)
	}
	now := s.now()
	next := &configv1.Credential{
		Consumer: ending.GetConsumer(), Type: ending.GetType(), Description: ending.GetDescription(), Labels: ending.GetLabels(),
		Expires: successorEnd(ending, old, now), BoundCertificate: ending.GetBoundCertificate(),
	}
	if next.Name = newName; newName == "" {
		next.Name = s.nextName(view, k, ending)
	}
	secret, create, err := s.fresh(next)
	if err != nil {
		return "", nil, err
	}
	s.catalog.ClearOutput(ending)
	if end := now.Add(overlap); ending.GetExpires() == nil || ending.GetExpires().AsTime().After(end) {
		ending.Expires = timestamppb.New(end.Truncate(time.Second))
	}
	if ending.GetNotBefore() != nil && !ending.GetNotBefore().AsTime().Before(ending.GetExpires().AsTime()) {
		return "", nil, problem.Errorf(problem.Conflict, "the credential is not valid yet; delete it instead")
	}
	end := admission.Change{
		Kind: k.Name, Name: old.Name, Message: ending, IfMatch: catalog.ETag(old.Revision),
	}
	return secret, []admission.Change{end, create}, nil
}

// successorEnd gives the successor of a credential that has an end as long a life as that had.
func successorEnd(c *configv1.Credential, old *snapshot.Resource, now time.Time) *timestamppb.Timestamp {
	if c.GetExpires() == nil {
		return nil
	}
	begin := old.CreatedAt
	if c.GetNotBefore() != nil {
		begin = c.GetNotBefore().AsTime()
	}
	life := c.GetExpires().AsTime().Sub(begin)
	if life <= 0 {
		return nil
	}
	return timestamppb.New(now.Add(life).Truncate(time.Second))
}

// nextName counts a number at the end of the name up until the name is free: alice-1, alice-2.
func (s *resources) nextName(view *snapshot.View, k *catalog.Kind, c *configv1.Credential) string {
	stem, n := c.GetName(), 1
	if i := strings.LastIndexByte(stem, '-'); i > 0 {
		if number, err := strconv.Atoi(stem[i+1:]); err == nil && number >= 0 && number < 1e9 {
			stem, n = stem[:i], number
		}
	}
	for {
		n++
		name := stem + "-" + strconv.Itoa(n)
		if _, taken := view.Get(k.Name, k.StoredName(c.GetConsumer(), name)); !taken {
			return name
		}
	}
}

// generated renders the new credential and shows its secret, this once.
func generated(res configsvc.Result, name, secret string) (*adminv1.GenerateCredentialResponse, error) {
	for _, it := range res.Items {
		if it.Kind != credentials || it.Name != name || it.After == nil {
			continue
		}
		resource, err := render(it.After, nil)
		if err != nil {
			return nil, err
		}
		return &adminv1.GenerateCredentialResponse{Resource: resource, Secret: secret, Revision: res.Revision}, nil
	}
	return nil, errors.New("the write path did not answer the credential it made")
}
