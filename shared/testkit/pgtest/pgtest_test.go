package pgtest_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"keyward.dev/shared/testkit"
	"keyward.dev/shared/testkit/pgtest"
)

// dirVariable makes the test binary use the server and end, as a failing test would: without any clean-up.
const dirVariable = "KEYWARD_TEST_PGTEST_USE"

func TestEachTestHasItsOwnDatabase(t *testing.T) {
	t.Parallel()
	prepared := 0
	prepare := func(ctx context.Context, url string) error {
		prepared++
		return pgtest.ForTest(t).Exec(ctx, pgtest.DatabaseOf(url), "create table t (a int)")
	}
	s := pgtest.ForTest(t)
	for i := range 3 {
		url := s.NewDatabaseFrom(t, "one table", prepare)
		if err := s.Exec(t.Context(), pgtest.DatabaseOf(url), fmt.Sprintf("insert into t values (%d)", i)); err != nil {
			t.Fatal(err)
		}
		rows, err := s.Query(t.Context(), pgtest.DatabaseOf(url), "select a from t")
		if err != nil || len(rows) != 1 {
			t.Errorf("rows = %v, %v; want only this test's", rows, err)
		}
	}
	if prepared != 1 {
		t.Errorf("prepared %d times, want once", prepared)
	}
	if err := s.Exec(t.Context(), pgtest.DatabaseOf(s.NewDatabase(t)), "select a from t"); err == nil {
		t.Error("an empty database has the table")
	}
}

func TestNothingIsLeftOfTheServer(t *testing.T) {
	t.Parallel()
	if os.Getenv(dirVariable) != "" {
		fmt.Println("dir:" + pgtest.ForTest(t).Dir())
		os.Exit(3)
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+t.Name()+"$")
	cmd.Env = append(os.Environ(), dirVariable+"=1")
	out, err := cmd.CombinedOutput()
	_, dir, found := strings.Cut(string(out), "dir:")
	if err == nil || !found {
		t.Fatalf("child: %v\n%s", err, out)
	}
	dir, _, _ = strings.Cut(dir, "\n")
	testkit.Await(t, testkit.Deadline, func() error {
		if _, err := os.Stat(dir); err == nil {
			return errors.New(dir + " is still there")
		}
		return nil
	})
}
