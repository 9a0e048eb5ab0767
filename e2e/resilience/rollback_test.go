package resilience_test

import (
	"bytes"
	"fmt"
	"net/http"
	"strconv"
	"testing"
	"time"

	"keyward.dev/e2e/harness"
)

// rollBack makes the database end now and then a transaction that writes a group, at the very end, as it ends one of those
// that lock each other out. The one that follows it is let through: numbers are not rolled back.
const rollBack = `
create sequence commits;
create function roll_back() returns trigger language plpgsql security definer as $$
begin
    if nextval('commits') % 5 = 1 then
        raise exception 'deadlock detected' using errcode = '40P01';
    end if;
    return null;
end $$;
create constraint trigger roll_back after insert or update on heads deferrable initially deferred
    for each row execute function roll_back()`

// TestWhatIsRolledBackForOthersIsDoneOnceAllTheSame has writes of every kind rolled back when all of them was done but the
// commit: what is tried again is the same as what was tried, and is there once.
func TestWhatIsRolledBackForOthersIsDoneOnceAllTheSame(t *testing.T) {
	t.Parallel()
	c := harness.New(t, harness.Options{})
	c.Apply(baseDocument(t))
	c.SQL(rollBack)
	g := c.StartGateway("default") // enrolled
	c.CreateGroup("other")
	var acked []int
	last, err := strconv.ParseInt(headOf(c).revision, 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	for n := range 12 {
		revision, err := c.TryApply(t.Context(), c.Replicas[0], "default", twoParts(n))
		if err != nil || revision != last+1 {
			t.Errorf("change %d is revision %d, %v; want %d", n, revision, err, last+1)
		}
		last, acked = revision, append(acked, n)
	}
	c.MustCLI("", "keyring", "rotate")
	holds(t, c, g, acked)
	for i := range 3 {
		a := c.REST(http.MethodDelete, fmt.Sprintf("/v1/groups/default/consumers/c%d/credentials/k", i), "")
		if a.Status != http.StatusNoContent {
			t.Errorf("deleting the key of change %d: %d %s", i, a.Status, a.Body)
		}
	}
	converges(t, c, g, 10*time.Second)
	for _, n := range acked {
		want := http.StatusOK
		if n < 3 {
			want = http.StatusUnauthorized
		}
		if code, body := g.Get(t, "hello.test", "/", "X-API-Key", changeKey(n)); code != want {
			t.Errorf("change %d: %d %s, want %d", n, code, body, want)
		}
	}
	if n := bytes.Count(c.Replicas[0].Output(), []byte("transaction gave way and is tried again")); n < 4 {
		t.Errorf("%d transactions were tried again", n)
	}
	c.SQL(`drop trigger roll_back on heads`)
	healthy(t, c)
}
