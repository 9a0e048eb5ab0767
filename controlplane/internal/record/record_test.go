package record_test

import (
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
