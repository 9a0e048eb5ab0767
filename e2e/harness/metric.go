package harness

import (
	"bufio"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"keyward.dev/shared/testkit"
)

// metric reads a series, named with its labels as the status port writes it.
func metric(status, series string) (float64, error) {
	resp, err := http.Get("http://" + status + "/metrics") //nolint:noctx // a test's own server on loopback
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
		if rest, ok := strings.CutPrefix(lines.Text(), series+" "); ok {
			return strconv.ParseFloat(rest, 64)
		}
	}
	return 0, fmt.Errorf("no series %s", series)
}

func awaitMetric(t testing.TB, status, series string, least float64) {
	t.Helper()
	testkit.Await(t, 20*time.Second, func() error {
		got, err := metric(status, series)
		if err == nil && (got < least || least == 0 && got != 0) {
			err = fmt.Errorf("%s is %v, want %v", series, got, least)
		}
		return err
	})
}

// AwaitMetric waits until a series has at least the value; 0 means that it is 0.
func (r *Replica) AwaitMetric(t testing.TB, series string, least float64) {
	t.Helper()
	awaitMetric(t, r.Status, series, least)
}

// AwaitMetric waits until a series has at least the value; 0 means that it is 0.
func (g *Gateway) AwaitMetric(t testing.TB, series string, least float64) {
	t.Helper()
	awaitMetric(t, g.Status, series, least)
}
