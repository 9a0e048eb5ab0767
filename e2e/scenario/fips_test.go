package scenario_test

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"

	"keyward.dev/e2e/harness"
)

// TestWhichCryptographyRuns holds that programs use what they were built and started with, so that "make fips" is what it
// says.
func TestWhichCryptographyRuns(t *testing.T) {
	t.Parallel()
	want := "off"
	if os.Getenv("KEYWARD_FIPS") != "" {
		want = "only"
	}
	c := harness.New(t, harness.Options{})
	g := c.StartGateway("default")
	for component, status := range map[string]string{"controlplane": c.Replicas[0].Status, "dataplane": g.Status} {
		resp, err := http.Get("http://" + status + "/metrics") //nolint:noctx // a test's own server on loopback
		if err != nil {
			t.Fatal(err)
		}
		metrics, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if label := fmt.Sprintf("keyward_%s_build_info{fips140=%q", component, want); err != nil || !strings.Contains(string(metrics), label) {
			t.Errorf("the %s does not run with fips140=%s: %v", component, want, err)
		}
	}
}
