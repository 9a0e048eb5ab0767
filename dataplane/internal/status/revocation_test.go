package status_test

import (
	"crypto/x509"
	"encoding/json"
	"log/slog"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"keyward.dev/dataplane/internal/compile"
	"keyward.dev/dataplane/internal/state/statetest"
	configv1 "keyward.dev/proto/gen/keyward/config/v1"
	"keyward.dev/shared/check/certs"
	known "keyward.dev/shared/check/revocation"
	"keyward.dev/shared/testkit/certtest"
)

// TestRevocationListsAreReported has an authority with a list, and one of which nobody asks.
func TestRevocationListsAreReported(t *testing.T) {
	t.Parallel()
	s, holder, reg, _ := fixture()
	ca := certtest.CA(t, "ca")
	der := ca.CRL(t, 7, nil, ca.Issue(t, "a").Cert)
	list, err := known.Parse(der, []*x509.Certificate{ca.Cert})
	if err != nil {
		t.Fatal(err)
	}
	authority := func(name string, r *configv1.Revocation) statetest.Record {
		return statetest.Record{Kind: certs.KindCA, UID: "uid-" + name, Name: name, Resource: &configv1.CaCertificate{Name: name, Certificates: ca.PEM(), Revocation: r}}
	}
	rt, faults := compile.New(compile.Deps{Log: slog.New(slog.DiscardHandler)}).Build(statetest.Set(t,
		authority("asked", &configv1.Revocation{Crl: certtest.Block("X509 CRL", der), Ocsp: &configv1.Ocsp{}}), authority("other", nil)), nil)
	if len(faults) > 0 {
		t.Fatal(faults)
	}
	holder.Store(rt)
	w := httptest.NewRecorder()
	s.Handler().ServeHTTP(w, httptest.NewRequest("GET", "/status", nil))
	var got struct{ Revocation map[string]any }
	if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	want := map[string]any{
		"authorities": []any{map[string]any{
			"name": "asked", "strict": true, "ocsp": true,
			"lists": []any{map[string]any{
				"issuer": "CN=ca", "number": "7", "revoked": 1.0,
				"this_update": list.ThisUpdate.Format(time.RFC3339), "next_update": list.NextUpdate.Format(time.RFC3339),
			}},
		}},
		"responders": map[string]any{"asked": 0.0, "failed": 0.0, "entries": 0.0},
	}
	if diff := cmp.Diff(want, got.Revocation); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() != "keyward_gateway_revocation_list_ends_timestamp_seconds" {
			continue
		}
		if m := f.GetMetric(); len(m) != 1 || m[0].GetLabel()[0].GetValue() != "asked" || m[0].GetGauge().GetValue() != float64(list.NextUpdate.Unix()) {
			t.Errorf("exported %v", m)
		}
		return
	}
	t.Error("the end of the list is not exported")
}
