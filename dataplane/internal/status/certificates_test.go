package status_test

import (
	"encoding/json"
	"log/slog"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"keyward.dev/dataplane/internal/compile"
	"keyward.dev/dataplane/internal/state/statetest"
	configv1 "keyward.dev/proto/gen/keyward/config/v1"
	"keyward.dev/shared/check/certs"
	"keyward.dev/shared/testkit/certtest"
)

// TestShownCertificatesAreReported looks at what status and metrics say of a good, a staged and an expired certificate.
func TestShownCertificatesAreReported(t *testing.T) {
	t.Parallel()
	s, holder, reg, _ := fixture()
	soon, late := time.Unix(4e9, 0), time.Unix(5e9, 0)
	past := time.Unix(1e9, 0)
	version := func(to time.Time) (*certtest.Cert, *configv1.CertificateVersion) {
		c := certtest.SelfSigned(t, "x", certtest.Names("a.test", "b.test"), certtest.Valid(past.Add(-time.Hour), to))
		return c, &configv1.CertificateVersion{Chain: c.PEM(), PrivateKey: &configv1.Secret{Set: true, Value: &configv1.Secret_Plaintext{Plaintext: c.KeyPEM(t)}}}
	}
	good, goodVersion := version(soon)
	_, stagedVersion := version(late)
	_, expiredVersion := version(past)
	record := func(c *configv1.Certificate) statetest.Record {
		return statetest.Record{Kind: certs.Kind, UID: "uid-" + c.GetName(), Name: c.GetName(), Resource: c}
	}
	settings := &configv1.Settings{Tls: &configv1.ServerTls{DefaultCertificate: []string{"good"}}}
	rt, faults := compile.New(compile.Deps{Log: slog.New(slog.DiscardHandler)}).Build(statetest.Set(t,
		record(&configv1.Certificate{Name: "good", Snis: []string{"a.test"}, Current: goodVersion, Next: stagedVersion}),
		record(&configv1.Certificate{Name: "old", Snis: []string{"b.test"}, Current: expiredVersion}),
		record(&configv1.Certificate{Name: "trusted", Current: &configv1.CertificateVersion{Chain: certtest.SelfSigned(t, "y").PEM()}}),
		statetest.Record{Kind: "settings", UID: "settings-uid", Name: "settings", Resource: settings},
	), nil)
	if len(faults) > 0 {
		t.Fatal(faults)
	}
	holder.Store(rt)
	w := httptest.NewRecorder()
	s.Handler().ServeHTTP(w, httptest.NewRequest("GET", "/status", nil))
	if strings.Contains(w.Body.String(), "PRIVATE") {
		t.Error("the status shows a key")
	}
	var got struct{ TLS map[string]any }
	if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	delete(got.TLS, "file")
	shown := map[string]any{"name": "good", "id": good.ID(), "not_after": soon.UTC().Format(time.RFC3339)}
	want := map[string]any{
		"certificates": []any{
			map[string]any{"name": "good", "snis": []any{"a.test"}, "id": good.ID(), "not_after": soon.UTC().Format(time.RFC3339)},
			map[string]any{"name": "old", "snis": []any{"b.test"}},
		},
		"defaults": []any{shown},
	}
	if diff := cmp.Diff(want, got.TLS); diff != "" {
		t.Errorf("tls (-want +got):\n%s", diff)
	}
	metrics := map[string]string{}
	for name, value := range gathered(t, reg) {
		if strings.HasPrefix(name, "keyward_gateway_certificate_expires") {
			metrics[name[strings.LastIndex(name, "=")+1:]] = value
		}
	}
	if diff := cmp.Diff(map[string]string{"(file)": "9000", "good": "5e+09", "old": "1e+09"}, metrics); diff != "" {
		t.Errorf("metrics (-want +got):\n%s", diff)
	}
}
