package syncclient_test

import (
	"maps"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"keyward.dev/dataplane/internal/lastuse"
	"keyward.dev/dataplane/internal/syncclient"
)

// marks is a table of one part.
type marks map[string]*lastuse.Mark

func (marks) Parts() int { return 1 }

func (m marks) Marks(_ int, yield func(string, *lastuse.Mark) bool) { maps.All(m)(yield) }

// Uses of credentials are reported once, and again if the connection over which they were is gone. How long ago they were is
// told, not when.
func TestUsesOfCredentialsAreReported(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const uid, raw = "00112233-4455-6677-8899-aabbccddeeff", "\x00\x11\x22\x33\x44\x55\x66\x77\x88\x99\xaa\xbb\xcc\xdd\xee\xff"
		c, m := newControl(t), &lastuse.Mark{}
		odd := &lastuse.Mark{}
		odd.Note(time.Now())
		m.Note(time.Now().Add(-time.Minute))
		walk := lastuse.NewWalk()
		w := start(t, c, func(cfg *syncclient.Config) {
			cfg.Uses = func() []lastuse.Use { return walk.Take(marks{uid: m, "not one of this control plane's": odd}) }
		})
		defer w.end()
		expect := func(what string, want bool, around uint32) {
			t.Helper()
			uses := (<-c.reports).GetCredentialUses()
			if !want {
				if len(uses) != 0 {
					t.Errorf("%s: %v, want none", what, uses)
				}
				return
			}
			if len(uses) != 1 || string(uses[0].GetUid()) != raw {
				t.Fatalf("%s: %v, want that of the one credential", what, uses)
			}
			if ago := uses[0].GetSecondsAgo(); ago < around || ago > around+120 {
				t.Errorf("%s: %d seconds ago, want about %d", what, ago, around)
			}
		}
		expect("the first report", true, 60)
		expect("the next", false, 0)
		c.cut(status.Error(codes.Unavailable, "replica ends"))
		expect("over another connection", true, 60)
		expect("once more", false, 0)
		m.Note(time.Now().Add(lastuse.Period))
		expect("a use that seems to come", true, 0)
	})
}

// Gateways that began together do not report together.
func TestReportsAreNotInStep(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := newControl(t)
		w := start(t, c, nil)
		defer w.end()
		var gaps []time.Duration
		for last := time.Now(); len(gaps) < 8; {
			r := <-c.reports
			gaps = append(gaps, r.GetAt().AsTime().Sub(last))
			last = r.GetAt().AsTime()
		}
		same := 0
		for _, g := range gaps[1:] {
			if g < 9*time.Second || g > 30*time.Second { // a connection that breaks begins anew
				t.Errorf("a report after %s", g)
			}
			if g == gaps[1] {
				same++
			}
		}
		if same == len(gaps)-1 {
			t.Errorf("reports are %s apart, always", gaps[1])
		}
	})
}
