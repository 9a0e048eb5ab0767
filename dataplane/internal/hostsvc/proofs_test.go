package hostsvc_test

import (
	"fmt"
	"testing"
	"time"

	"keyward.dev/dataplane/internal/hostsvc"
)

func TestAProofIsUsedOnce(t *testing.T) {
	t.Parallel()
	table := hostsvc.NewProofTable(0)
	now := time.Unix(1_800_000_000, 0)
	use := func(key, id string, at time.Duration) hostsvc.Replay {
		return table.Use(key, id, now.Add(at), now.Add(at+time.Minute))
	}
	for _, tt := range []struct {
		key, id string
		at      time.Duration
		want    hostsvc.Replay
	}{
		{"k", "1", 0, hostsvc.ReplayFirst},
		{"k", "1", time.Minute, hostsvc.ReplayAgain},
		{"k", "2", 0, hostsvc.ReplayFirst},
		{"l", "1", 0, hostsvc.ReplayFirst},
		{"k1", "", 0, hostsvc.ReplayFirst},
		{"k", "1", 61 * time.Second, hostsvc.ReplayFirst},
	} {
		if got := use(tt.key, tt.id, tt.at); got != tt.want {
			t.Errorf("Use(%s, %s) after %v = %v, want %v", tt.key, tt.id, tt.at, got, tt.want)
		}
	}
}

func TestAFullTableOfProofsForgetsNone(t *testing.T) {
	t.Parallel()
	table := hostsvc.NewProofTable(10)
	now := time.Unix(1_800_000_000, 0)
	for i := range 10 {
		table.Use("k", fmt.Sprint(i), now, now.Add(time.Minute))
	}
	if got := table.Use("k", "more", now, now.Add(time.Minute)); got != hostsvc.ReplayUnsure {
		t.Errorf("Use() = %v in a full table", got)
	}
	if got := table.Use("k", "0", now, now.Add(time.Minute)); got != hostsvc.ReplayAgain {
		t.Errorf("Use() = %v of one that was used", got)
	}
	later := now.Add(62 * time.Second)
	if got := table.Use("k", "more", later, later.Add(time.Minute)); got != hostsvc.ReplayFirst {
		t.Errorf("Use() = %v when the others have ended", got)
	}
}
