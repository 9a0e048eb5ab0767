package syncserver_test

import (
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"keyward.dev/controlplane/internal/fanout"
)

// wantLater checks that the refusal says when to come again.
func wantLater(t *testing.T, err error, least, most time.Duration) {
	t.Helper()
	for _, d := range status.Convert(err).Details() {
		if info, ok := d.(*errdetails.RetryInfo); ok {
			if after := info.GetRetryDelay().AsDuration(); after < least || after > most {
				t.Errorf("asked to come again after %v, want %v to %v", after, least, most)
			}
			return
		}
	}
	t.Errorf("%v does not say when to come again", err)
}

// TestWholeSetsAreSentInTurn: those who do not read give up their turn after a while, those who wait for too long are sent
// away, and a change is not held up by any of it.
func TestWholeSetsAreSentInTurn(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, options{inMemory: true, fullSets: 1})
		defer w.stop()
		w.sources["a"].Fill(2000, 300) // far more than a stream's window
		current := w.enrol("a").stream(fanout.Position{})
		current.until(1)
		queue := make([]*stream, 6)
		for i := range queue {
			queue[i] = w.enrol("a").stream(fanout.Position{})
			synctest.Wait()
		}
		if sending, waiting, refused := w.load(); sending != 1 || waiting != 5 || refused != 0 {
			t.Errorf("%d sending, %d waiting, %d refused; want 1, 5 and 0", sending, waiting, refused)
		}
		began := time.Now()
		w.sources["a"].Put("u", "n", []byte("x"))
		current.until(2)
		if took := time.Since(began); took > time.Second {
			t.Errorf("a change took %v while others begin", took)
		}
		ends := make(chan error, 1)
		go func() { ends <- queue[5].end() }()
		queue[1].until(1)
		if took := time.Since(began); took < 9*time.Second || took > 11*time.Second {
			t.Errorf("the next one's turn came after %v, want 10s", took)
		}
		err := <-ends
		if took := time.Since(began); took < 24*time.Second || took > 26*time.Second {
			t.Errorf("the last one was sent away after %v, want 25s", took)
		}
		wantCode(t, "a stream that waited for too long", err, codes.ResourceExhausted, "at once")
		wantLater(t, err, 2*time.Second, 5*time.Second)
		for i := range 4 { // all others have had their turn by now, also the one that only reads now
			queue[i].until(1)
		}
		synctest.Wait()
		if sending, waiting, refused := w.load(); sending > 1 || waiting != 0 || refused == 0 {
			t.Errorf("%d sending, %d waiting, %d refused at the end", sending, waiting, refused)
		}
	})
}
