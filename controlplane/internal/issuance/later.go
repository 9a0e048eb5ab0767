package issuance

import (
	"errors"
	"math/rand/v2"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/mholt/acmez/v3/acme"
)

// Bounds of the pause after a failure. Public authorities take five failures for a name in an hour; in the first one there are
// at most as many.
const (
	firstPause = 2 * time.Minute
	maxPause   = 12 * time.Hour
	// limited is the pause where an authority says that it was asked too often, and not for how long.
	limited = time.Hour
	// maxWait bounds what an authority may ask for.
	maxWait = 7 * 24 * time.Hour
	// maxTold bounds what is kept of what it said.
	maxTold = 4 << 10
)

// pause is how long to wait after a number of failures in a row, the last of which had err for its reason.
func pause(failures uint32, err error) time.Duration {
	p := maxPause
	if failures < 10 {
		p = min(maxPause, firstPause<<(max(failures, 1)-1))
	}
	if isProblem(err, acme.ProblemTypeRateLimited) {
		p = max(p, limited)
	}
	return p
}

// nextAttempt is when to try again, not before the authority wants to be asked.
func nextAttempt(now time.Time, failures uint32, err error, after time.Time) time.Time {
	p := pause(failures, err)
	if wait := min(after.Sub(now), maxWait); wait > p {
		p = wait
	}
	return now.Add(p + time.Duration(rand.Float64()*float64(p)/4)) // not all that failed together
}

// renewAt is when a certificate that was just issued is issued anew: some time before its end, at most two thirds of its life before
// it, or in the window that the authority suggests (RFC 9773) if that would be over by then. Certificates issued together are not renewed together. An authority
// whose certificates are over at once, or that always suggests now, is not asked without end.
func renewAt(now, from, to time.Time, before time.Duration, suggested window) time.Time {
	life := to.Sub(from)
	if before <= 0 {
		before = life / 3
	}
	before = min(before, life*2/3)
	at := to.Add(-before - time.Duration(rand.Float64()*float64(before)/20))
	if suggested.missedAt(at) {
		at = suggested.selected
	}
	if first := now.Add(max(10*time.Second, min(time.Hour, life/3))); at.Before(first) {
		at = first
	}
	return at.UTC().Truncate(time.Second)
}

// window is when an authority would have a certificate renewed: up to end, and at the moment in it that was drawn for us.
type window struct{ end, selected time.Time }

// missedAt reports whether the window is over at a time. It must not be asked whether the moment that was drawn is earlier: another
// one is drawn each time.
func (w window) missedAt(t time.Time) bool { return !w.end.IsZero() && t.After(w.end) }

func windowOf(info acme.RenewalInfo) window {
	if !info.HasWindow() {
		return window{}
	}
	return window{end: info.SuggestedWindow.End, selected: info.SelectedTime}
}

// told is what is kept of why an attempt failed: what the authority said, whole, and what we were doing.
func told(err error) string {
	text := err.Error()
	if p, ok := errors.AsType[acme.Problem](err); ok && p.Title != "" && !strings.Contains(text, p.Title) {
		text += " (" + p.Title + ")"
	}
	text = strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(text, "\uFFFD"))
	for len(text) > maxTold || !utf8.ValidString(text) {
		text = text[:min(len(text)-1, maxTold)]
	}
	return text
}
