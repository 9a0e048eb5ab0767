package issuance

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/mholt/acmez/v3/acme"
)

var noon = time.Date(2030, 1, 1, 12, 0, 0, 0, time.UTC)

func TestTheNextAttemptComesLaterAndLater(t *testing.T) {
	t.Parallel()
	limit := fmt.Errorf("order: %w", acme.Problem{Type: acme.ProblemTypeRateLimited})
	var before time.Duration
	inFirstHour := 0
	for n, at := uint32(1), time.Duration(0); n < 40; n++ {
		p := pause(n, errors.New("x"))
		if p < before || p > maxPause || p <= 0 {
			t.Errorf("the pause after %d failures is %v, after the one before %v", n, p, before)
		}
		if before, at = p, at+p; at <= time.Hour {
			inFirstHour++
		}
	}
	if inFirstHour > 4 {
		t.Errorf("%d attempts follow the first in an hour", inFirstHour)
	}
	for _, tt := range []struct {
		name     string
		err      error
		after    time.Time
		min, max time.Duration
	}{
		{"plain", errors.New("x"), time.Time{}, firstPause, firstPause * 5 / 4},
		{"limited", limit, time.Time{}, limited, limited * 5 / 4},
		{"limited for long", limit, noon.Add(5 * time.Hour), 5 * time.Hour, 25 * time.Hour / 4},
		{"for ever", limit, noon.Add(1e6 * time.Hour), maxWait, maxWait * 5 / 4},
		{"in the past", errors.New("x"), noon.Add(-time.Hour), firstPause, firstPause * 5 / 4},
	} {
		if got := nextAttempt(noon, 1, tt.err, tt.after).Sub(noon); got < tt.min || got > tt.max {
			t.Errorf("%s: after %v, want %v to %v", tt.name, got, tt.min, tt.max)
		}
	}
}

func TestRenewalComesInTime(t *testing.T) {
	t.Parallel()
	const day = 24 * time.Hour
	for _, tt := range []struct {
		name      string
		life      time.Duration
		before    time.Duration
		suggested time.Duration // after the beginning; 0: none
		min, max  time.Duration
	}{
		{"a third of the life", 90 * day, 0, 0, 58 * day, 60 * day},
		{"as the issuer says", 90 * day, 10 * day, 0, 79 * day, 80 * day},
		{"at most two thirds", 90 * day, 1000 * day, 0, 26 * day, 30 * day},
		{"as the authority says", 90 * day, 0, 40 * day, 40 * day, 40 * day},
		{"in a window that is open then", 90 * day, 0, 57 * day, 58 * day, 60 * day},
		{"not later than we would", 90 * day, 0, 80 * day, 58 * day, 60 * day},
		{"not at once", 90 * day, 0, time.Second, time.Hour, time.Hour},
		{"of a short life", time.Minute, 0, time.Second, 20 * time.Second, 20 * time.Second},
		{"of no life", time.Second, 0, 0, 10 * time.Second, 10 * time.Second},
	} {
		var suggested window
		if tt.suggested > 0 {
			suggested = window{noon.Add(tt.suggested + min(4*day, tt.life/20)), noon.Add(tt.suggested)}
		}
		if got := renewAt(noon, noon, noon.Add(tt.life), tt.before, suggested).Sub(noon); got < tt.min || got > tt.max {
			t.Errorf("%s: after %v, want %v to %v", tt.name, got, tt.min, tt.max)
		}
	}
}

func TestWhatIsToldIsBoundedAndPrintable(t *testing.T) {
	t.Parallel()
	p := acme.Problem{Type: "urn:x", Title: "Title", Detail: "a\nb\x00" + strings.Repeat("é", 10000), Subproblems: []acme.Subproblem{{Problem: acme.Problem{Detail: "sub"}}}}
	if got := told(fmt.Errorf("order: %w", p)); len(got) > maxTold || strings.ContainsAny(got, "\n\x00") || !strings.HasPrefix(got, "order: HTTP 0 urn:x - a b ") {
		t.Errorf("told %d bytes: %.40q", len(got), got)
	}
	p.Detail = "d"
	if got := told(p); !strings.Contains(got, "sub") || !strings.Contains(got, "(Title)") {
		t.Errorf("told %q", got)
	}
}

// TestAnswersOfAuthoritiesAreHeld to https, to problem documents, and to when they want to be asked again.
func TestAnswersOfAuthoritiesAreHeld(t *testing.T) {
	t.Parallel()
	trip := newTransport(nil, nil)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://8.8.8.8/", nil)
	if err != nil {
		t.Fatal(err)
	}
	if resp, err := trip.RoundTrip(req); err == nil {
		_ = resp.Body.Close()
		t.Error("plain HTTP is spoken")
	}
	for value, want := range map[string]time.Duration{"60": time.Minute, "x": 0, "": 0, "-1": 0, noon.Format(http.TimeFormat): time.Until(noon)} {
		trip.refused(&http.Response{Header: http.Header{"Retry-After": {value}}})
		got := trip.retryAfter()
		if got.IsZero() != (want == 0) || want != 0 && (time.Until(got)-want).Abs() > time.Minute {
			t.Errorf("Retry-After %q: %v", value, got)
		}
	}
}
