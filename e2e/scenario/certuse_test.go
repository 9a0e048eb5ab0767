package scenario_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"keyward.dev/e2e/harness"
	"keyward.dev/shared/testkit/certtest"
)

// TestCertificatesInUseStay names certificates by name and by id, and tries to take them away.
func TestCertificatesInUseStay(t *testing.T) {
	t.Parallel()
	s := store{t, harness.New(t, harness.Options{})}
	a, b, c, d := certtest.SelfSigned(t, "a"), certtest.SelfSigned(t, "b"), certtest.SelfSigned(t, "c"), certtest.SelfSigned(t, "d")
	file := []string{"Content-Type", "application/x-pem-file"}
	add := func(want int, name string, x *certtest.Cert) []byte {
		t.Helper()
		return s.call(want, http.MethodPost, certificates+"?name="+name, x.PEM()+x.KeyPEM(t), file...)
	}
	add(http.StatusCreated, "byname", a)
	add(http.StatusCreated, "byid", b)
	service := func(name, cert string) {
		t.Helper()
		s.call(http.StatusCreated, http.MethodPut, "/v1/groups/default/services/"+name, fmt.Sprintf(`{"url": "https://up.test", "tls": {"client_certificate": %q}}`, cert))
	}
	service("one", "byname")
	service("two", b.ID())
	refused := s.call(http.StatusUnprocessableEntity, http.MethodPut, "/v1/groups/default/services/three", fmt.Sprintf(`{"url": "https://up.test", "tls": {"client_certificate": %q}}`, c.ID()))
	if !strings.Contains(string(refused), "there is no certificates/"+c.ID()) {
		t.Errorf("an id that nothing has: %s", refused)
	}
	for name, user := range map[string]string{"byname": "services/one", "byid": "services/two"} {
		got := read[stored](t, s.call(http.StatusOK, http.MethodGet, certificates+"/"+name, ""))
		if len(got.UsedBy) != 1 || got.UsedBy[0] != user {
			t.Errorf("%s is used by %v", name, got.UsedBy)
		}
		if refused := s.call(http.StatusConflict, http.MethodDelete, certificates+"/"+name, ""); !strings.Contains(string(refused), "is used by "+user) {
			t.Errorf("deleting %s: %s", name, refused)
		}
	}
	s.call(http.StatusConflict, http.MethodDelete, certificates+"/"+b.ID(), "")
	// Under its name a certificate is renewed as often as need be; an id holds on to its version.
	add(http.StatusCreated, "byname", c)
	add(http.StatusCreated, "byid", d) // b is the previous version
	s.call(http.StatusConflict, http.MethodDelete, certificates+"/"+b.ID(), "")
	if refused := add(http.StatusConflict, "byid", certtest.SelfSigned(t, "e")); !strings.Contains(string(refused), b.ID()+" would be dropped, which is used by services/two") {
		t.Errorf("dropping a version that is used: %s", refused)
	}
	s.call(http.StatusNoContent, http.MethodDelete, "/v1/groups/default/services/two", "")
	s.call(http.StatusNoContent, http.MethodDelete, certificates+"/"+b.ID(), "")
}
