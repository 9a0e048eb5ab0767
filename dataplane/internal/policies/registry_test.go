package policies_test

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	"keyward.dev/dataplane/internal/policies"
	"keyward.dev/dataplane/internal/policy/policytest"
	optionsv1 "keyward.dev/proto/gen/keyward/options/v1"
)

// declared returns the policy types of the linked descriptors with their config messages.
func declared() map[string]protoreflect.MessageDescriptor {
	out := map[string]protoreflect.MessageDescriptor{}
	protoregistry.GlobalFiles.RangeFilesByPackage("keyward.policy.v1", func(f protoreflect.FileDescriptor) bool {
		for i := range f.Messages().Len() {
			m := f.Messages().Get(i)
			if o, _ := proto.GetExtension(m.Options(), optionsv1.E_Policy).(*optionsv1.PolicyOptions); o.GetType() != "" {
				out[o.GetType()] = m
			}
		}
		return true
	})
	return out
}

func TestEveryPolicyTypeHasExactlyOneFactory(t *testing.T) {
	t.Parallel()
	types := declared()
	seen := map[string]bool{}
	for _, f := range policies.All() {
		if seen[f.Type] {
			t.Errorf("%s has two factories", f.Type)
		}
		seen[f.Type] = true
		m, ok := types[f.Type]
		if !ok || m.FullName() != f.Message {
			t.Errorf("factory %s builds from %s, which is not the config of that type", f.Type, f.Message)
		}
		if f.Phase == optionsv1.Phase_PHASE_UNSPECIFIED {
			t.Errorf("%s has no phase", f.Type)
		}
	}
	for typ := range types {
		if !seen[typ] {
			t.Errorf("%s is declared in the protos but no gateway can enforce it", typ)
		}
	}
	if len(types) == 0 {
		t.Error("no policy types found")
	}
}

func TestFactoriesRefuseForeignConfigs(t *testing.T) {
	t.Parallel()
	for _, f := range policies.All() {
		if p, err := f.Build(&optionsv1.Permission{}, deps("x")); err == nil || p != nil {
			t.Errorf("%s builds from a foreign message", f.Type)
		}
	}
}

// TestEveryPolicyHasCasesOfBothKinds runs all cases and asks that each policy stops a request and lets one pass, and that those
// that declare to need whole bodies, and no others, read one.
func TestEveryPolicyHasCasesOfBothKinds(t *testing.T) {
	types := declared()
	for _, f := range policies.All() {
		folder := strings.ReplaceAll(f.Type, "-", "")
		if _, err := os.Stat(filepath.Join(folder, "testdata")); err != nil {
			t.Errorf("%s has no cases: %v", f.Type, err)
			continue
		}
		kinds, reads := map[string]bool{}, false
		outcomes := policytest.Run(t, filepath.Join(folder, "testdata", "*.txtar"), policies.All())
		if len(outcomes) == 0 {
			continue // what they need is not installed, as each of them has said
		}
		for _, o := range outcomes {
			reads = reads || o.ReadBody
			switch o.StoppedBy {
			case f.Type:
				kinds["stop"] = true
			case "":
				kinds["pass"] = true
			}
		}
		if got := slices.Sorted(maps.Keys(kinds)); !slices.Equal(got, []string{"pass", "stop"}) {
			t.Errorf("%s has cases of the kinds %v, want pass and stop", f.Type, got)
		}
		lacking(t, f.Type, types[f.Type], outcomes)
		o, _ := proto.GetExtension(types[f.Type].Options(), optionsv1.E_Policy).(*optionsv1.PolicyOptions)
		if declares := o.GetBody() == optionsv1.Body_BODY_BUFFER; declares != reads {
			t.Errorf("%s declares to need whole bodies: %v; in its cases one is read: %v", f.Type, declares, reads)
		}
	}
}

// lacking names the parameters of a policy, and of credentials of its type, without a case that passes and one that it stops.
func lacking(t *testing.T, typ string, config protoreflect.MessageDescriptor, outcomes []policytest.Outcome) {
	t.Helper()
	for name := range parametersOf(typ, config) {
		var passed, stopped bool
		for _, o := range outcomes {
			passed = passed || o.Set[name] && o.StoppedBy == ""
			stopped = stopped || o.Set[name] && o.StoppedBy == typ
		}
		if !passed || !stopped {
			t.Errorf("%s: passed %v, stopped %v", name, passed, stopped)
		}
	}
}

func parametersOf(typ string, config protoreflect.MessageDescriptor) map[protoreflect.FullName]bool {
	names := map[protoreflect.FullName]bool{}
	var walk func(m protoreflect.MessageDescriptor)
	walk = func(m protoreflect.MessageDescriptor) {
		for i := range m.Fields().Len() {
			fd := m.Fields().Get(i)
			if !policytest.IsParameter(fd) || names[fd.FullName()] {
				continue
			}
			names[fd.FullName()] = true
			if fd.IsMap() {
				fd = fd.MapValue()
			}
			if fd.Message() != nil {
				walk(fd.Message())
			}
		}
	}
	walk(config)
	protoregistry.GlobalFiles.RangeFilesByPackage("keyward.credential.v1", func(f protoreflect.FileDescriptor) bool {
		for i := range f.Messages().Len() {
			m := f.Messages().Get(i)
			if o, _ := proto.GetExtension(m.Options(), optionsv1.E_Credential).(*optionsv1.CredentialOptions); o.GetType() == typ {
				walk(m)
			}
		}
		return true
	})
	return names
}
