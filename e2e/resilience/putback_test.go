package resilience_test

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"keyward.dev/e2e/harness"
	"keyward.dev/shared/testkit"
)

// putBack are the tables of a group's configuration, which go back to an earlier moment together.
var putBack = []string{"keyrings", "keyring_terms", "next_keyrings", "heads", "resources", "changes", "audit", "baselines", "baseline_records"}

// TestNothingIsRewrappedInADatabaseThatWasPutBack puts the database back to before a rotation while a replica rewraps, from one
// moment to the next, so that the replica's next transaction finds the older rows. Under its newest term they would open for nobody:
// the keyring of then does not have it.
func TestNothingIsRewrappedInADatabaseThatWasPutBack(t *testing.T) {
	t.Parallel()
	resources := 1000
	if os.Getenv("KEYWARD_FULL") != "" {
		resources = 10000
	}
	c := harness.New(t, harness.Options{Replicas: 1})
	c.Apply(baseDocument(t))
	fill(c, resources)
	back := []string{"set session_replication_role = replica", "lock table " + strings.Join(putBack, ", ") + " in access exclusive mode"}
	c.SQL("create schema earlier")
	for _, table := range putBack {
		c.SQL(fmt.Sprintf("create table earlier.%[1]s as table public.%[1]s", table))
		back = append(back, fmt.Sprintf("delete from public.%[1]s", table), fmt.Sprintf("insert into public.%[1]s select * from earlier.%[1]s", table))
	}
	was := headOf(c)

	c.SQL(fmt.Sprintf(slowRewrap, 0.003))
	left := under(t, c)
	c.MustCLI("", "keyring", "rotate")
	testkit.Await(t, 60*time.Second, func() error {
		if n := under(t, c); n >= left {
			return fmt.Errorf("%d are under the first term, before it was %d", n, left)
		}
		return nil
	})
	c.SQL("begin; " + strings.Join(back, "; ") + "; commit")
	if now := headOf(c); now != was {
		t.Fatalf("the head is %+v, it was %+v", now, was)
	}
	const newer = `select count(*) from resources where substring(sealed from 2 for 4) > '\x00000001'`
	r := c.Replicas[0]
	testkit.Await(t, 60*time.Second, func() error {
		if n := c.Rows(newer)[0][0]; n != "0" {
			t.Fatalf("%s resources are under a term that no keyring has", n)
		}
		if !strings.Contains(string(r.Output()), "rewrap group default: ") {
			return errors.New("the replica has not yet seen it")
		}
		return nil
	})
	r.Stop(30 * time.Second)
	healthy(t, c)
	r.Start()
	r.AwaitReady()
	c.MustCLI("", "keyring", "rotate", "--wait", "--timeout", "5m")
	healthy(t, c)
}
