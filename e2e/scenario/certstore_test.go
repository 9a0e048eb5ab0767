package scenario_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"keyward.dev/e2e/harness"
	"keyward.dev/shared/testkit/certtest"
)

// stored is what the API says of a certificate.
type stored struct {
	Name     string   `json:"name"`
	UsedBy   []string `json:"used_by"`
	Current  version  `json:"current"`
	Next     *version `json:"next"`
	Previous *version `json:"previous"`
}

type version struct {
	Chain      string `json:"chain"`
	PrivateKey *struct {
		Set bool `json:"set"`
	} `json:"private_key"`
	Info struct {
		ID            string `json:"id"`
		Subject       string `json:"subject"`
		HasPrivateKey bool   `json:"has_private_key"`
	} `json:"info"`
}

func (v *version) id() string {
	if v == nil {
		return ""
	}
	return v.Info.ID
}

// added is what the API says of a file that was added.
type added struct {
	ID, Name, Stage  string
	Created, Changed bool
	Info             struct{ Subject string }
}

// store is the certificate store of a cluster.
type store struct {
	*testing.T
	*harness.Cluster
}

const certificates = "/v1/groups/default/certificates"

func (s store) call(want int, method, path, body string, headers ...string) []byte {
	s.Helper()
	a := s.REST(method, path, body, headers...)
	if a.Status != want {
		s.Fatalf("%s %s: %d, want %d: %s", method, path, a.Status, want, a.Body)
	}
	return a.Body
}

func read[T any](t *testing.T, body []byte) T {
	t.Helper()
	var out T
	if err := json.Unmarshal(body, &out); err != nil {
		t.Fatalf("%v: %s", err, body)
	}
	return out
}

// TestCertificatesAsTyksUsersKnowThem uploads files, reads what is in them, renews, stages, promotes and removes.
func TestCertificatesAsTyksUsersKnowThem(t *testing.T) {
	t.Parallel()
	s := store{t, harness.New(t, harness.Options{})}
	root := certtest.CA(t, "root")
	middle := root.CA(t, "middle")
	a, b, c := middle.Issue(t, "a"), middle.Issue(t, "b"), middle.Issue(t, "c")
	pemFile := []string{"Content-Type", "application/x-pem-file"}

	// The file as it is, key first; the name is the id.
	first := read[added](t, s.call(http.StatusCreated, http.MethodPost, certificates, a.KeyPEM(t)+a.ChainPEM(), pemFile...))
	if first.ID != a.ID() || first.Name != a.ID() || first.Stage != "current" || !first.Created || first.Info.Subject != "CN=a" {
		t.Errorf("added %+v", first)
	}
	again := read[added](t, s.call(http.StatusOK, http.MethodPost, certificates, a.ChainPEM(), pemFile...))
	if again.Name != a.ID() || again.Changed {
		t.Errorf("added again %+v", again)
	}
	if refused := s.call(http.StatusConflict, http.MethodPost, certificates+"?name=other", a.ChainPEM(), pemFile...); !strings.Contains(string(refused), "certificates/"+a.ID()) {
		t.Errorf("refused without saying who has it: %s", refused)
	}
	// JSON, with an encrypted key.
	doc := fmt.Sprintf(`{"name": "web", "pem": %q, "passphrase": "open sesame", "labels": {"team": "web"}}`, b.ChainPEM()+b.EncryptedKeyPEM(t, "open sesame", 2048))
	if web := read[added](t, s.call(http.StatusCreated, http.MethodPost, certificates, doc)); web.ID != b.ID() || web.Name != "web" {
		t.Errorf("added %+v", web)
	}
	s.call(http.StatusUnprocessableEntity, http.MethodPost, certificates, strings.Replace(doc, `"open sesame"`, `"simsim"`, 1))

	one := read[stored](t, s.call(http.StatusOK, http.MethodGet, certificates+"/"+b.ID(), ""))
	if one.Name != "web" || !one.Current.Info.HasPrivateKey || one.Current.PrivateKey == nil || !one.Current.PrivateKey.Set || one.Current.Chain != b.ChainPEM() {
		t.Errorf("by its id: %+v", one)
	}
	several := read[struct{ Resources []stored }](t, s.call(http.StatusOK, http.MethodGet, certificates+"/"+b.ID()+","+a.ID(), ""))
	if len(several.Resources) != 2 || several.Resources[0].Name != "web" || several.Resources[1].Name != a.ID() {
		t.Errorf("several: %+v", several)
	}
	s.call(http.StatusNotFound, http.MethodGet, certificates+"/"+b.ID()+","+c.ID(), "")

	// Renewed by PUT: the one before stays known by its id, and the same PUT again changes nothing.
	put := fmt.Sprintf(`{"current": %q}`, c.ChainPEM()+c.KeyPEM(t))
	s.call(http.StatusOK, http.MethodPut, certificates+"/web", put)
	renewed := s.call(http.StatusOK, http.MethodPut, certificates+"/web", put)
	if now := read[stored](t, renewed); now.Current.id() != c.ID() || now.Previous.id() != b.ID() || !now.Previous.Info.HasPrivateKey {
		t.Errorf("renewed: %s", renewed)
	}
	s.call(http.StatusOK, http.MethodPut, certificates+"/web", string(renewed)) // what was answered can be written back
	if byOld := read[stored](t, s.call(http.StatusOK, http.MethodGet, certificates+"/"+b.ID(), "")); byOld.Name != "web" {
		t.Errorf("by the id of the version before: %+v", byOld)
	}

	if same := read[added](t, s.call(http.StatusOK, http.MethodPost, certificates, b.ChainPEM(), pemFile...)); same.Name != "web" || same.Stage != "previous" {
		t.Errorf("the version before, added without a name: %+v", same)
	}
	s.promote(middle.Issue(t, "d"), c)
	s.list(root)

	// A version goes by its id; with the current one all goes.
	s.call(http.StatusNoContent, http.MethodDelete, certificates+"/"+c.ID(), "")
	if now := read[stored](t, s.call(http.StatusOK, http.MethodGet, certificates+"/web", "")); now.Previous != nil || now.Current.Info.Subject != "CN=d" {
		t.Errorf("after its previous version was deleted: %+v", now)
	}
	s.call(http.StatusNoContent, http.MethodDelete, certificates+"/"+a.ID(), "")
	s.call(http.StatusNotFound, http.MethodGet, certificates+"/"+a.ID(), "")
}

// promote stages a version and makes it the current one.
func (s store) promote(next, before *certtest.Cert) {
	s.Helper()
	s.call(http.StatusConflict, http.MethodPost, certificates+"/web:promote", "")
	staged := read[added](s.T, s.call(http.StatusCreated, http.MethodPost, certificates+"?name=web&stage=next", next.ChainPEM()+next.KeyPEM(s.T), "Content-Type", "application/x-pem-file"))
	if staged.Stage != "next" || staged.Created {
		s.Errorf("staged %+v", staged)
	}
	promoted := read[added](s.T, s.call(http.StatusOK, http.MethodPost, certificates+"/web:promote", "{}"))
	if promoted.ID != next.ID() || promoted.Stage != "current" {
		s.Errorf("promoted %+v", promoted)
	}
	now := read[stored](s.T, s.call(http.StatusOK, http.MethodGet, certificates+"/web", ""))
	if now.Current.id() != next.ID() || now.Previous.id() != before.ID() || now.Next != nil || !now.Current.Info.HasPrivateKey {
		s.Errorf("after promotion: %+v", now)
	}
}

// list asks for what expires soon.
func (s store) list(root *certtest.Cert) {
	s.Helper()
	s.call(http.StatusCreated, http.MethodPut, "/v1/groups/default/ca-certificates/roots", fmt.Sprintf(`{"certificates": %q}`, root.PEM()))
	for path, want := range map[string]int{
		certificates:                                            2,
		certificates + "?expiring_within=1h":                    0,
		certificates + "?expiring_within=48h":                   2,
		"/v1/groups/default/ca-certificates":                    1,
		"/v1/groups/default/ca-certificates?expiring_within=1h": 0,
		certificates + "?selector=team%3Dweb":                   0, // the PUT did not give them
	} {
		got := read[struct{ Resources []json.RawMessage }](s.T, s.call(http.StatusOK, http.MethodGet, path, ""))
		if len(got.Resources) != want {
			s.Errorf("%s: %d, want %d", path, len(got.Resources), want)
		}
	}
	s.call(http.StatusBadRequest, http.MethodGet, "/v1/groups/default/services?expiring_within=1h", "")
}

// TestCertificatesInFiles applies a file, exports it and applies what was exported, and undoes a renewal.
func TestCertificatesInFiles(t *testing.T) {
	t.Parallel()
	c := harness.New(t, harness.Options{})
	a, b := certtest.SelfSigned(t, "a", certtest.Names("www.example.com")), certtest.SelfSigned(t, "b", certtest.Names("www.example.com"))
	roots := certtest.CA(t, "root").PEM()
	doc := func(x *certtest.Cert) string {
		return fmt.Sprintf("group: default\ncertificates:\n  - {name: web, snis: www.example.com, current: %q}\nca-certificates:\n  - {name: roots, certificates: %q}\n",
			x.PEM()+x.KeyPEM(t), roots)
	}
	then := c.Apply(doc(a))
	exported := c.MustCLI("", "export")
	if strings.Contains(exported, "PRIVATE KEY") || !strings.Contains(exported, "set: true") || strings.Contains(exported, "fingerprint") {
		t.Errorf("exported:\n%s", exported)
	}
	for what, again := range map[string]string{"the same file": doc(a), "what was exported": exported} {
		if now := c.Apply(again); now != then {
			t.Errorf("applying %s changed something", what)
		}
	}
	listed := c.MustCLI("", "certs", "list", "--expiring", "2d")
	if !strings.Contains(listed, "CN=a") || !strings.Contains(listed, "authority") {
		t.Errorf("certs list: %s", listed)
	}
	c.Replicas[0].AwaitMetric(t, `keyward_controlplane_certificates_expiring{group="default",within="7d"}`, 2)
	c.Replicas[0].AwaitMetric(t, `keyward_controlplane_certificate_expires_timestamp_seconds{group="default"}`, float64(a.Cert.NotBefore.Unix()))
	diff := c.CLI(doc(b), "diff", "-f", "-")
	if !strings.Contains(diff.Stdout, "update certificates/web") || strings.Contains(diff.Stdout, "PRIVATE KEY") {
		t.Errorf("diff: %s%s", diff.Stdout, diff.Stderr)
	}
	c.Apply(doc(b))
	c.MustCLI("", "rollback", "--to", fmt.Sprint(then), "--yes")
	if is := c.MustCLI("", "export"); is != exported {
		t.Errorf("after the rollback:\n%s\nbut\n%s", is, exported)
	}
}
