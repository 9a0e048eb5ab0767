package app_test

import (
	"bytes"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"keyward.dev/dataplane/app"
	"keyward.dev/shared/testkit"
)

func TestHangupReopensTheAccessLog(t *testing.T) {
	hangups := make(chan os.Signal, 1)
	signal.Notify(hangups, syscall.SIGHUP) // or a signal before the gateway runs would end the test
	defer signal.Stop(hangups)
	path := filepath.Join(t.TempDir(), "access.log")
	g := start(t, func(s *app.Settings) { s.AccessLog = path })
	g.get(g.http, "/before", "hello.test", "")
	if err := os.Rename(path, path+".1"); err != nil {
		t.Fatal(err)
	}
	testkit.Await(t, 10*time.Second, func() error {
		if err := syscall.Kill(os.Getpid(), syscall.SIGHUP); err != nil {
			return err
		}
		<-hangups
		_, err := os.Stat(path)
		return err
	})
	g.get(g.http, "/after", "hello.test", "")
	g.stop()
	g.end()
	before, err := os.ReadFile(path + ".1")
	if err != nil {
		t.Fatal(err)
	}
	after, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	old, fresh := bytes.Count(before, []byte("\n")), bytes.Count(after, []byte("\n"))
	if old+fresh != 2 || fresh == 0 {
		t.Errorf("the file that was moved has\n%s\nand the new one\n%s", before, after)
	}
}
