package record_test

import (
	"bytes"
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"

	configv1 "keyward.dev/proto/gen/keyward/config/v1"
	syncv1 "keyward.dev/proto/gen/keyward/sync/v1"

	"keyward.dev/controlplane/internal/record"
)

func rollout() *configv1.Rollout {
	return &configv1.Rollout{Stages: []*configv1.RolloutStage{{Percent: 100_000, Soak: durationpb.New(time.Second)}}}
}

func TestWhatOnlyTheControlPlaneUsesIsKeptApart(t *testing.T) {
	t.Parallel()
	plain := &configv1.Settings{Description: "d", RequireHttps: new(false)}
	staged := proto.CloneOf(plain)
	staged.Rollout = rollout()
	tests := []struct {
		name         string
		in, shown    proto.Message
		controlPlane proto.Message
	}{
		{"nothing to keep apart", plain, plain, nil},
		{"stages", staged, plain, &configv1.Settings{Rollout: rollout()}},
		{"nothing else", &configv1.Settings{Rollout: rollout()}, &configv1.Settings{}, &configv1.Settings{Rollout: rollout()}},
		{"a kind without such fields", &configv1.Service{Name: "s"}, &configv1.Service{Name: "s"}, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			before := proto.Clone(tt.in)
			rec := pack(t, tt.in)
			if diff := cmp.Diff(before, tt.in, protocmp.Transform()); diff != "" {
				t.Errorf("packing changes the resource (-before +after):\n%s", diff)
			}
			if diff := cmp.Diff(tt.shown, unwrap(t, rec.GetResource()), protocmp.Transform()); diff != "" {
				t.Errorf("gateways are shown (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(tt.controlPlane, unwrap(t, rec.GetControlPlane()), protocmp.Transform()); diff != "" {
				t.Errorf("kept apart (-want +got):\n%s", diff)
			}
			got, err := record.Message(rec)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.in, got, protocmp.Transform()); diff != "" {
				t.Errorf("unpacked (-packed +unpacked):\n%s", diff)
			}
		})
	}
}

// TestWhatIsWithheldIsStoredAndNotStreamed packs a provider of secrets, of which gateways get the name.
func TestWhatIsWithheldIsStoredAndNotStreamed(t *testing.T) {
	t.Parallel()
	const canary = "CANARY-9pL4tR8wB1cD5fG6"
	in := &configv1.SecretProvider{
		Name: "corp", Description: "d", Refresh: durationpb.New(time.Minute), Networks: []string{"10.0.0.0/8"},
		Vault: &configv1.VaultProvider{
			Address: "https://" + canary, Token: &configv1.Secret{Value: &configv1.Secret_Plaintext{Plaintext: canary}},
		},
	}
	packed, err := record.Pack("secret-providers", "uid", "corp", in)
	if err != nil {
		t.Fatal(err)
	}
	streamed := record.Streamed(packed)
	if !bytes.Contains(packed, []byte(canary)) || bytes.Contains(streamed, []byte(canary)) || !bytes.HasPrefix(packed, streamed) {
		t.Errorf("%d bytes are stored, %d streamed, or the wrong ones", len(packed), len(streamed))
	}
	var stored, sent syncv1.Record
	if err := errors.Join(proto.Unmarshal(packed, &stored), proto.Unmarshal(streamed, &sent)); err != nil {
		t.Fatal(err)
	}
	got, err := record.Message(&stored)
	if diff := cmp.Diff(in, got, protocmp.Transform()); err != nil || diff != "" {
		t.Errorf("unpacked: %v (-packed +unpacked):\n%s", err, diff)
	}
	want := &configv1.SecretProvider{Name: "corp", Description: "d", Refresh: durationpb.New(time.Minute)}
	if got, err = record.Message(&sent); err != nil || !proto.Equal(want, got) {
		t.Errorf("gateways are sent %v, %v", got, err)
	}
	again, err := record.Pack("secret-providers", "uid", "corp", in)
	if err != nil || bytes.Equal(record.Streamed(again), streamed) {
		t.Errorf("two stored forms have one digest (%v)", err)
	}
	plain, err := record.Pack("services", "uid", "s", &configv1.Service{Name: "s"})
	if err != nil || !bytes.Equal(record.Streamed(plain), plain) {
		t.Errorf("of what has nothing to withhold something is not streamed (%v)", err)
	}
}

func FuzzStreamed(f *testing.F) {
	packed, err := record.Pack("secret-providers", "uid", "corp", &configv1.SecretProvider{Name: "corp", Networks: []string{"10.0.0.0/8"}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(packed)
	f.Add([]byte{0x7a})
	f.Fuzz(func(t *testing.T, b []byte) {
		streamed := record.Streamed(b)
		var rec syncv1.Record
		if !bytes.HasPrefix(b, streamed) || proto.Unmarshal(streamed, &rec) == nil && rec.GetWithheld() != nil {
			t.Errorf("of %x %x is streamed", b, streamed)
		}
	})
}

func TestMessageRefusesWhatIsNoResource(t *testing.T) {
	t.Parallel()
	settings, service := wrap(t, &configv1.Settings{}), wrap(t, &configv1.Service{})
	tests := []struct {
		name string
		rec  *syncv1.Record
		ok   bool
	}{
		{"no resource", &syncv1.Record{}, false},
		{"of before there were parts", &syncv1.Record{Resource: wrap(t, &configv1.Settings{Rollout: rollout()})}, true},
		{"parts of one type", &syncv1.Record{Resource: settings, ControlPlane: settings}, true},
		{"parts of two types", &syncv1.Record{Resource: settings, ControlPlane: service}, false},
		{"an unknown type", &syncv1.Record{Resource: &anypb.Any{TypeUrl: "type.googleapis.com/x.Y"}}, false},
		{"a part that does not parse", &syncv1.Record{Resource: settings, ControlPlane: &anypb.Any{TypeUrl: settings.GetTypeUrl(), Value: []byte{0xff}}}, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if m, err := record.Message(tt.rec); (err == nil) != tt.ok || (m != nil) != tt.ok {
				t.Errorf("Message = %v, %v, want it read: %v", m, err, tt.ok)
			}
		})
	}
}

func pack(t *testing.T, m proto.Message) *syncv1.Record {
	t.Helper()
	b, err := record.Pack("kind", "uid", "name", m)
	if err != nil {
		t.Fatal(err)
	}
	var rec syncv1.Record
	if err := proto.Unmarshal(b, &rec); err != nil {
		t.Fatal(err)
	}
	if rec.GetKind() != "kind" || rec.GetUid() != "uid" || rec.GetName() != "name" {
		t.Errorf("packed as %s %s %s", rec.GetKind(), rec.GetUid(), rec.GetName())
	}
	return &rec
}

func wrap(t *testing.T, m proto.Message) *anypb.Any {
	t.Helper()
	a, err := anypb.New(m)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func unwrap(t *testing.T, a *anypb.Any) proto.Message {
	t.Helper()
	if a == nil {
		return nil
	}
	m, err := a.UnmarshalNew()
	if err != nil {
		t.Fatal(err)
	}
	return m
}
