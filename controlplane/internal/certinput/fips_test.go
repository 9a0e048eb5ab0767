package certinput_test

import (
	"crypto/fips140"
	"crypto/x509"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	gopkcs12 "software.sslmate.com/src/go-pkcs12"

	"keyward.dev/controlplane/internal/certinput"
	"keyward.dev/shared/testkit/certtest"
)

// restrictedVariable has the test binary open a file as a program does that is restricted to FIPS 140-3.
const restrictedVariable = "KEYWARD_TEST_RESTRICTED"

// TestWhatFIPS140DoesNotApproveOfIsRefused opens files in programs with fips140=only, in which Go's own functions panic.
func TestWhatFIPS140DoesNotApproveOfIsRefused(t *testing.T) {
	if file := os.Getenv(restrictedVariable); file != "" {
		openRestricted(t, file)
		return
	}
	t.Parallel()
	leaf := certtest.SelfSigned(t, "leaf")
	for name, tt := range map[string]struct {
		form *gopkcs12.Encoder
		want string
	}{
		"modern":       {gopkcs12.Modern2023, "reason: "},
		"modern SHA-1": {gopkcs12.LegacyDES, "reason: is protected in a way that FIPS 140-3 does not approve of"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			der, err := tt.form.Encode(leaf.Key, leaf.Cert, []*x509.Certificate{}, "open sesame")
			if err != nil {
				t.Fatal(err)
			}
			said := restricted(t, der)
			if !strings.Contains(said, tt.want) || tt.want == "reason: " && !strings.Contains(said, "reason: \n") {
				t.Errorf("said %q, want %q", said, tt.want)
			}
		})
	}
}

func restricted(t *testing.T, der []byte) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, der, 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run", "^TestWhatFIPS140DoesNotApproveOfIsRefused$", "-test.v")
	cmd.Env = append(os.Environ(), "GODEBUG=fips140=only", restrictedVariable+"="+file)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return string(out)
}

func openRestricted(t *testing.T, file string) {
	t.Helper()
	if !fips140.Enforced() {
		t.Fatal("this program is not restricted")
	}
	der, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	_, reason := certinput.PKCS12(der, "open sesame", certinput.NewWork(100_000))
	fmt.Printf("reason: %s\n", reason)
}
