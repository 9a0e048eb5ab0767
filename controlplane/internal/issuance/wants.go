package issuance

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"time"

	configv1 "keyward.dev/proto/gen/keyward/config/v1"
	systemv1 "keyward.dev/proto/gen/keyward/system/v1"

	"keyward.dev/controlplane/internal/snapshot"
	"keyward.dev/shared/check/certs"
)

// want is a certificate that an authority issues.
type want struct {
	name, uid string
	names     []string
	keyType   string
	issuer    *configv1.AcmeIssuer
	issuerUID string
	// roots are the certificates that the authority is verified by; empty: the system's.
	roots []*configv1.CaCertificate
	// request is equal for equal orders, attempted for attempts between which nobody changed anything.
	request, attempted string
	record             *systemv1.IssuedCertificate // nil: there is none
	// failures are those since somebody changed something.
	failures uint32
}

// wants are all of a view, by their names. What refers to an issuer that cannot be read is left as it is.
func wants(view *snapshot.View) map[string]want {
	out := map[string]want{}
	for r := range view.All(certs.Kind) {
		c, ok := r.Message.(*configv1.Certificate)
		if !ok || c.GetAcme() == nil {
			continue
		}
		if w, ok := wanted(view, r, c); ok {
			out[r.Name] = w
		}
	}
	return out
}

func wanted(view *snapshot.View, r *snapshot.Resource, c *configv1.Certificate) (want, bool) {
	at, ok := view.Get(certs.KindIssuer, c.GetAcme().GetIssuer())
	if !ok {
		return want{}, false
	}
	issuer, ok := at.Message.(*configv1.AcmeIssuer)
	if !ok {
		return want{}, false
	}
	w := want{
		name: r.Name, uid: r.UID, names: slices.Sorted(slices.Values(c.GetSnis())), keyType: c.GetAcme().GetKeyType(),
		issuer: issuer, issuerUID: at.UID, record: recordOf(view, r.Name),
		attempted: fmt.Sprintf("%s/%d %s/%d", r.UID, r.Revision, at.UID, at.Revision),
	}
	sum := sha256.Sum256(fmt.Appendf(nil, "%q %q %q", issuer.GetDirectory(), w.keyType, w.names))
	w.request = hex.EncodeToString(sum[:])
	for _, name := range issuer.GetCa() {
		ca, ok := view.Get(certs.KindCA, name)
		if !ok {
			return want{}, false
		}
		m, ok := ca.Message.(*configv1.CaCertificate)
		if !ok {
			return want{}, false
		}
		w.roots, w.attempted = append(w.roots, m), w.attempted+fmt.Sprintf(" %s/%d", ca.UID, ca.Revision)
	}
	if w.record.GetAttempted() == w.attempted {
		w.failures = w.record.GetFailures()
	}
	return w, true
}

func recordOf(view *snapshot.View, name string) *systemv1.IssuedCertificate {
	r, ok := view.Get(certs.KindIssued, name)
	if !ok {
		return nil
	}
	m, _ := r.Message.(*systemv1.IssuedCertificate)
	return m
}

// stale reports whether what there is is not what is wanted, or nearly over.
func (w want) stale(now time.Time) bool {
	return w.record.GetCertificate() == nil || w.record.GetRequest() != w.request || !now.Before(w.record.GetRenewAt().AsTime())
}

// due reports whether it is to be ordered now. Whatever failed before waits, until somebody changes something.
func (w want) due(now time.Time) bool {
	next := w.record.GetNextAttempt()
	if next != nil && w.record.GetAttempted() == w.attempted && now.Before(next.AsTime()) {
		return false
	}
	return w.stale(now)
}

// challenges are the ways of proving names, beginning with the one whose turn it is.
func (w want) challenges() []string {
	all := w.issuer.GetChallenges()
	if len(all) == 0 {
		all = []string{certs.ChallengeHTTP, certs.ChallengeTLS}
	}
	first := int(w.failures) % len(all)
	return slices.Concat(all[first:], all[:first])
}

// leftovers are the records that nothing wants: of certificates that are not issued any more, and of orders that nobody carries
// out. Only who has the lock of the group knows the latter.
func leftovers(view *snapshot.View) []snapshot.Ref {
	var out []snapshot.Ref
	for r := range view.All(certs.KindIssued) {
		held, ok := view.Get(certs.Kind, r.Name)
		if c, isOne := messageOf(held).(*configv1.Certificate); !ok || isOne && c.GetAcme() == nil {
			out = append(out, r.Ref())
		}
	}
	for r := range view.All(certs.KindChallenge) {
		out = append(out, r.Ref())
	}
	return out
}

func messageOf(r *snapshot.Resource) any {
	if r == nil {
		return nil
	}
	return r.Message
}

// recovered are the records of failures that no longer matter, because what is there is wanted again.
func recovered(view *snapshot.View, now time.Time) []string {
	var out []string
	for name, w := range wants(view) {
		if w.record.GetLastError() != "" && !w.stale(now) {
			out = append(out, name)
		}
	}
	slices.SortFunc(out, strings.Compare)
	return out
}

// accountsOf are the ids of the accounts that the issuers of a view have, or would have; false if not all can be read.
func accountsOf(view *snapshot.View) ([]string, bool) {
	var ids []string
	for r := range view.All(certs.KindIssuer) {
		issuer, ok := r.Message.(*configv1.AcmeIssuer)
		if !ok {
			return nil, false
		}
		ids = append(ids, accountID(want{issuer: issuer, issuerUID: r.UID}))
	}
	slices.Sort(ids)
	return ids, true
}
