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
	use := func(key, id string, at time.Duration) string {
		fresh, ok := table.Use(key, id, now.Add(at), now.Add(at+time.Minute))
		return fmt.Sprint(fresh, ok)
	}
	for _, tt := range []struct {
		key, id string
		at      time.Duration
		want    string
	}{
		{"k", "1", 0, "true true"},
		{"k", "1", time.Minute, "false true"},
		{"k", "2", 0, "true true"},
		{"l", "1", 0, "true true"},
		{"k1", "", 0, "true true"},
		{"k", "1", 61 * time.Second, "true true"},
	} {
		if got := use(tt.key, tt.id, tt.at); got != tt.want {
			t.Errorf("Use(%s, %s) after %v = %s, want %s", tt.key, tt.id, tt.at, got, tt.want)
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
	if fresh, ok := table.Use("k", "more", now, now.Add(time.Minute)); fresh || ok {
		t.Errorf("Use() = %v, %v in a full table", fresh, ok)
	}
	if fresh, ok := table.Use("k", "0", now, now.Add(time.Minute)); fresh || !ok {
		t.Errorf("Use() = %v, %v of one that was used", fresh, ok)
	}
	later := now.Add(62 * time.Second)
	if fresh, ok := table.Use("k", "more", later, later.Add(time.Minute)); !fresh || !ok {
		t.Errorf("Use() = %v, %v when the others have ended", fresh, ok)
	}
}
