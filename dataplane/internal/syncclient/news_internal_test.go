package syncclient

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestOneLineASecondSaysWhatIsApplied(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var text bytes.Buffer
		n := news{log: slog.New(slog.NewTextHandler(&text, nil))}
		for _, step := range []struct {
			revision int64
			faults   int
			pause    time.Duration
			want     string // empty: nothing
		}{
			{1, 0, 0, "revision=1 faults=0 untold=0"},
			{2, 0, 20 * time.Millisecond, ""},
			{3, 0, 20 * time.Millisecond, ""},
			{4, 2, 20 * time.Millisecond, "revision=4 faults=2 untold=2"}, // what is wrong is told at once
			{5, 2, 20 * time.Millisecond, ""},
			{6, 2, time.Second, "revision=6 faults=2 untold=1"},
			{7, 0, 0, "revision=7 faults=0 untold=0"},
		} {
			<-time.After(step.pause)
			text.Reset()
			n.applied(t.Context(), step.revision, step.faults)
			if got := text.String(); (got == "") != (step.want == "") || !strings.Contains(got, step.want) {
				t.Errorf("revision %d: %q, want %q", step.revision, got, step.want)
			}
		}
	})
}
