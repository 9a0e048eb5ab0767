package admission

import (
	"errors"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"

	configv1 "keyward.dev/proto/gen/keyward/config/v1"
	optionsv1 "keyward.dev/proto/gen/keyward/options/v1"

	"keyward.dev/controlplane/internal/claims"
	"keyward.dev/controlplane/internal/secretplace"
	"keyward.dev/shared/catalog"
	"keyward.dev/shared/check"
	"keyward.dev/shared/check/certs"
	"keyward.dev/shared/problem"
	"keyward.dev/shared/secret"
)

var (
	errNoHash    = errors.New("no pepper to hash a key with")
	errNotHashed = errors.New("a password came to admission in the clear")
)

// secrets brings the secrets of a resource into the form in which they are kept: what is left out or says {set: true}
// keeps what is stored, plaintext is hashed or stays to be sealed with the resource, null clears.
func (j *judge) secrets(e *entry, broken bool) error {
	stored := map[string]*configv1.Secret{}
	if e.stored != nil && e.stored.Message != nil && e.kind.Name != certs.Kind && // whose keys belong to versions, not to places
		!moved(e) {
		err := secret.Walk(e.stored.Message, func(f secret.Field) {
			if secret.Stored(f.Get()) && !movedField(e, f.ID) {
				stored[f.ID] = f.Get()
			}
		})
		if err != nil {
			return err
		}
	}
	clears := slices.Clone(e.change.Clears)
	var failed error
	err := secret.Walk(e.msg, func(f secret.Field) {
		i := slices.Index(clears, f.Path)
		if i >= 0 {
			clears = slices.Delete(clears, i, i+1)
		}
		if err := j.secret(e, f, stored[f.ID], i >= 0, broken); err != nil {
			failed = err
		}
	})
	for _, path := range clears {
		j.fail(problem.Join(e.path, path), "there is no secret to clear")
	}
	if err != nil && !broken { // a broken configuration is told already
		return err
	}
	return failed
}

// secret decides about one secret.
func (j *judge) secret(e *entry, f secret.Field, stored *configv1.Secret, clear, broken bool) error {
	at := problem.Join(e.path, f.Path)
	given := f.Get()
	plaintext, isPlain := given.GetValue().(*configv1.Secret_Plaintext)
	switch {
	case given.GetRef() != "": // also one that comes back from the past: who may use which provider counts now
		j.reference(e, f, at)
	case e.change.Restored:
		if required(f) && !secret.Stored(given) {
			j.fail(at, "was not stored")
		}
	case clear && (secret.Stored(given) || given.GetSet()):
		j.fail(at, "is given and cleared at once")
	case clear && required(f):
		j.fail(at, "cannot be cleared: without it the %s proves nothing; delete the %s instead", e.kind.Singular, e.kind.Singular)
	case clear:
		f.Set(nil)
	case given.GetPasswordHash() != nil:
		j.passwordHash(f, at)
	case isPlain && plaintext.Plaintext == "":
		j.fail(at, "must not be empty")
	case isPlain:
		return j.keep(e, f, plaintext.Plaintext, stored, broken)
	case secret.Stored(given):
		j.fail(at, "must be a string or {set: true}")
	case stored != nil:
		f.Set(proto.CloneOf(stored))
	case given.GetSet() && (moved(e) || movedField(e, f.ID)):
		j.fail(at, sentElsewhere)
	case given.GetSet():
		j.fail(at, "nothing is stored that could be kept: give the value")
	case required(f) && e.stored != nil && e.stored.Message == nil:
		j.fail(at, "what is stored cannot be read: give the value")
	case required(f):
		j.fail(at, "required")
	case given != nil:
		f.Set(nil) // an empty message says nothing, and left out is the normal form of nothing
	}
	return nil
}

// reference decides about a secret that is kept elsewhere. The value is not read here: what admission says must not depend on
// whether its source answers, nor tell who asks what is there.
func (j *judge) reference(e *entry, f secret.Field, at string) {
	given := f.Get()
	if _, ok := secret.ParsePath(given.GetRef()); ok && e.kind.Name == certs.Kind {
		return // which certificatePaths judges with its chain
	}
	switch r, ok := secret.ParseReference(given.GetRef()); {
	case f.Storage != optionsv1.Storage_STORAGE_SEALED:
		j.fail(at, "cannot be a reference: only a hash of it is kept, which must not change when what is referred to does; give the value, or let one be generated")
	case e.kind.Name == secretplace.Kind:
		j.fail(at, "cannot be a reference: a secret provider brings its own credentials; give the value")
	case isIssuer(e.msg):
		j.fail(at, "cannot be a reference: what references mean is sent to gateways, which must not see this; give the value")
	case !ok:
		j.fail(at, "is not a reference of the form {scheme://provider/path#field}")
	default:
		if reason := j.elsewhere(r); reason != "" {
			j.fail(at, "%s", reason)
		}
		f.Set(&configv1.Secret{Value: &configv1.Secret_Ref{Ref: given.GetRef()}})
	}
}

// required reports whether a secret must be there: one that is only kept to be compared with is the whole point of what
// it stands in.
func required(f secret.Field) bool {
	return f.Storage == optionsv1.Storage_STORAGE_KEYED_HASH || f.Storage == optionsv1.Storage_STORAGE_PASSWORD_HASH
}

// keep turns plaintext into what is stored.
func (j *judge) keep(e *entry, f secret.Field, plaintext string, stored *configv1.Secret, broken bool) error {
	switch f.Storage {
	case optionsv1.Storage_STORAGE_SEALED: // with the resource, which is sealed whole
		f.Set(&configv1.Secret{Value: &configv1.Secret_Plaintext{Plaintext: plaintext}})
		return nil
	case optionsv1.Storage_STORAGE_KEYED_HASH:
	case optionsv1.Storage_STORAGE_PASSWORD_HASH:
		if !broken { // what can be a password was hashed before any lock
			return errNotHashed
		}
		return nil
	default:
		j.fail(problem.Join(e.path, f.Path), "cannot be stored by this version")
		return nil
	}
	if broken {
		return nil // nothing will be stored, and what is not a key need not be hashed
	}
	if j.req.Hash == nil {
		return errNoHash
	}
	hashes := j.req.Hash([]byte(plaintext))
	if len(hashes) == 0 {
		return errNoHash
	}
	e.fresh, e.freshPath = hashes, problem.Join(e.path, f.Path)
	j.noteWeak(e, plaintext)
	// The key that is stored already stays under its term: writing a document again changes nothing.
	if i := slices.IndexFunc(hashes, func(h *configv1.KeyedHash) bool { return proto.Equal(h, stored.GetKeyedHash()) }); i >= 0 {
		f.Set(proto.CloneOf(stored))
		return nil
	}
	f.Set(&configv1.Secret{Value: &configv1.Secret_KeyedHash{KeyedHash: hashes[0]}})
	return nil
}

// noteWeak tells keys that only allow_weak lets in.
func (j *judge) noteWeak(e *entry, plaintext string) {
	if check.Key(plaintext, false) == "" {
		return
	}
	j.weak(e, e.freshPath, "key", "a weak key, let in by allow_weak")
}

// weak tells, whoever applies it and the audit trail, of a secret of that sort that is weaker than it should be.
func (j *judge) weak(e *entry, path, sort, reason string) {
	j.audit = append(j.audit, "weak "+sort+" allowed for "+catalog.Ref(e.kind.Name, e.name))
	j.warnings = append(j.warnings, problem.Violation{Path: path, Reason: reason})
}

// keys tells API keys that two credentials of the group would share: a key says who calls. A key given in the clear is
// looked for under every live term, since the other one may have been stored under any.
func (j *judge) keys() {
	held := map[string]*entry{}
	for _, e := range j.entries {
		if len(e.fresh) == 0 {
			for claim := range claims.Of(e.msg) {
				if strings.HasPrefix(claim, "key ") {
					held[claim] = e
				}
			}
		}
	}
	for _, e := range j.entries {
		if other := j.keyHolder(e, held); other != "" {
			j.fail(e.freshPath, "%s has the same key", other)
		}
	}
}

// keyHolder returns who else has the key that an entry was given, empty for nobody.
func (j *judge) keyHolder(e *entry, held map[string]*entry) string {
	c, ok := e.msg.(*configv1.Credential)
	if !ok {
		return ""
	}
	for _, h := range e.fresh {
		claim := claims.Key(c.GetType(), h)
		if other := held[claim]; other != nil && other != e {
			return catalog.Ref(other.kind.Name, other.name)
		}
		if ref, ok := j.set.view.Claimant(claim); ok && j.set.over[id{ref.Kind, ref.Name}] == nil {
			return catalog.Ref(ref.Kind, ref.Name)
		}
		held[claim] = e
	}
	return ""
}
