package pki_test

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"keyward.dev/controlplane/internal/pki"
	"keyward.dev/controlplane/internal/pki/pkitest"
)

func TestAuthoritiesNearTheirEndAreTold(t *testing.T) {
	t.Parallel()
	const day = 24 * time.Hour
	c := newClock()
	begun, rows := c.now, &pkitest.Authorities{}
	open(t, rows, c)
	for _, tt := range []struct {
		name  string
		after time.Duration
		// renew says that the intermediate was replaced in time.
		renew bool
		want  []string
	}{
		{name: "new", after: 0},
		{name: "the intermediate is due", after: 20 * day},
		{name: "the intermediate was not replaced", after: 24 * day, want: []string{"kind=intermediate"}},
		{name: "the root has years", after: 8 * 365 * day, renew: true},
		{name: "the root has months", after: 10*365*day - 170*day, renew: true, want: []string{"kind=root"}},
	} {
		var log bytes.Buffer
		cfg := config(rows, c, "r1")
		cfg.Log = slog.New(slog.NewTextHandler(&log, nil))
		if c.now = begun; tt.renew {
			c.now = begun.Add(tt.after)
		}
		ca, err := pki.Open(t.Context(), cfg)
		if err != nil {
			t.Fatal(err)
		}
		c.now = begun.Add(tt.after)
		log.Reset()
		ca.NoteExpiry(t.Context())
		var got []string
		for word := range strings.FieldsSeq(log.String()) {
			if strings.HasPrefix(word, "kind=") {
				got = append(got, word)
			}
		}
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("%s: told (-want +got):\n%s%s", tt.name, diff, log.String())
		}
		for kind, end := range ca.Ends() {
			if end.Before(begun) {
				t.Errorf("%s: the %s ends at %s", tt.name, kind, end)
			}
		}
	}
}
