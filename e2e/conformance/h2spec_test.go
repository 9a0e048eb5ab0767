package conformance_test

import (
	"encoding/xml"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"

	"keyward.dev/e2e/harness"
)

// h2specFails are the cases that net/http's server fails, with what it does. The list must not grow.
var h2specFails = map[string]string{
	"http2/4.2: Sends a large size HEADERS frame that exceeds the SETTINGS_MAX_FRAME_SIZE":                          "takes larger frames than it has to",
	"http2/6.5.3: Sends multiple values of SETTINGS_INITIAL_WINDOW_SIZE":                                            "closes the connection",
	"http2/8.1.2.2: Sends a HEADERS frame that contains the connection-specific header field":                       "answers 400 instead of resetting the stream",
	"http2/8.1.2.2: Sends a HEADERS frame that contains the TE header field with any value other than \"trailers\"": "the same",
}

// h2spec runs the suite of that name over TLS.
func h2spec(t *testing.T, s *site) func(t *testing.T) {
	t.Helper()
	p := harness.GoPeer(t)
	s.services = append(s.services, "  - {name: h2spec, url: \"http://"+p.Addr+"\"}")
	s.routes = append(s.routes, "  - {name: h2spec, service: h2spec, hosts: [127.0.0.1]}")
	return func(t *testing.T) {
		tool := harness.Tool(t, "h2spec")
		host, port, err := net.SplitHostPort(s.HTTPS)
		if err != nil {
			t.Fatal(err)
		}
		report := filepath.Join(t.TempDir(), "report.xml")
		out, err := exec.CommandContext(t.Context(), tool, "-h", host, "-p", port, "-t", "-k", "-o", "2", "-P", "/x", "-j", report).CombinedOutput()
		b, readErr := os.ReadFile(report)
		if readErr != nil {
			t.Fatalf("h2spec: %v\n%s", err, out)
		}
		cases, failed := h2specResult(t, b)
		if cases < 140 {
			t.Errorf("h2spec ran %d cases only:\n%s", cases, out)
		}
		for _, name := range failed {
			if _, known := h2specFails[name]; !known {
				t.Errorf("h2spec fails: %q\n%s", name, out)
			}
		}
		for name := range h2specFails {
			if !slices.Contains(failed, name) {
				t.Errorf("h2spec does not fail any more, take it off the list: %q", name)
			}
		}
	}
}

// h2specResult reads the report.
func h2specResult(t *testing.T, report []byte) (cases int, failed []string) {
	t.Helper()
	var r struct {
		Suites []struct {
			Package string `xml:"package,attr"`
			Cases   []struct {
				Name    string    `xml:"classname,attr"`
				Failure *struct{} `xml:"failure"`
				Error   *struct{} `xml:"error"`
			} `xml:"testcase"`
		} `xml:"testsuite"`
	}
	if err := xml.Unmarshal(report, &r); err != nil {
		t.Fatalf("h2spec's report: %v", err)
	}
	for _, suite := range r.Suites {
		for _, c := range suite.Cases {
			cases++
			if c.Failure != nil || c.Error != nil {
				failed = append(failed, suite.Package+": "+c.Name)
			}
		}
	}
	return cases, failed
}
