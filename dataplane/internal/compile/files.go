package compile

import (
	"keyward.dev/dataplane/internal/runtime"
	configv1 "keyward.dev/proto/gen/keyward/config/v1"
	"keyward.dev/shared/check/certs"
	"keyward.dev/shared/problem"
)

// changedFiles names what certificates refer to in files of this machine that are not as they were.
func (b *build) changedFiles() []string {
	var names []string
	for name, used := range b.rt.Files {
		if b.deps.Files == nil || b.deps.Files.Generation(used.At) != used.Generation {
			names = append(names, name)
		}
	}
	return names
}

// fromFiles puts what is in files of this machine in place of their names.
func (b *build) fromFiles(m *configv1.Certificate) (*configv1.Certificate, []problem.Violation) {
	names := map[certs.Local]string{}
	for _, slot := range certs.Slots(m) {
		if at, ok := certs.LocalOf(slot.Version); ok {
			names[at] = certs.ResolvedName(m.GetName(), slot.Version)
		}
	}
	return certs.FromFiles(m, func(at certs.Local) (*configv1.CertificateVersion, string) {
		if b.deps.Files == nil {
			return nil, "is in a file, and this gateway reads none"
		}
		got := b.inFile(at)
		if b.rt.Files == nil {
			b.rt.Files = map[string]runtime.File{}
		}
		b.rt.Files[names[at]] = runtime.File{At: at, Certificate: m.GetName(), Generation: got.generation}
		return got.version, got.reason
	})
}

// inFile reads a place once in a compilation: all that is made of it must be made of the same.
func (b *build) inFile(at certs.Local) fileRead {
	got, ok := b.files[at]
	if !ok {
		got.version, got.reason, got.generation = b.deps.Files.Read(at)
		b.files[at] = got
	}
	return got
}

// fileRead is what a place was found to hold.
type fileRead struct {
	version    *configv1.CertificateVersion
	reason     string
	generation uint64
}

// unusedFiles forgets what no certificate refers to any more.
func (b *build) unusedFiles() {
	for name := range b.rt.Files {
		used := false
		eachUser(b.rt.References, name, func(string) { used = true })
		if !used {
			delete(b.rt.Files, name)
		}
	}
}
