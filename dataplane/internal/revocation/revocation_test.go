package revocation_test

import (
	"bytes"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"keyward.dev/dataplane/internal/hostsvc"
	"keyward.dev/dataplane/internal/revocation"
	known "keyward.dev/shared/check/revocation"
	"keyward.dev/shared/testkit/certtest"
)

func chain(certificates ...*certtest.Cert) (out []*x509.Certificate) {
	for _, c := range certificates {
		out = append(out, c.Cert)
	}
	return out
}

// world is an authority with its responder, and who asks it.
type world struct {
	t         *testing.T
	ca        *certtest.Cert
	responder *certtest.Responder
	cache     *revocation.Cache
	broken    atomic.Bool // nobody can be reached
}

func newWorld(t *testing.T) *world {
	w := &world{t: t, ca: certtest.CA(t, "ca")}
	w.responder = certtest.NewResponder(t, w.ca)
	w.cache = revocation.NewCache(w.fetch)
	return w
}

func (w *world) fetch(ctx context.Context, _ *hostsvc.EgressRules, url string, question []byte) ([]byte, error) {
	if w.broken.Load() {
		return nil, errors.New("no route")
	}
	rec := httptest.NewRecorder()
	w.responder.ServeHTTP(rec, httptest.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(question)))
	if rec.Code != http.StatusOK {
		return nil, errors.New("it answers an error")
	}
	return rec.Body.Bytes(), nil
}

// run asks until the test's function is over.
func (w *world) run() (stop func()) {
	ctx, cancel := context.WithCancel(w.t.Context())
	done := make(chan error, 1)
	go func() { done <- w.cache.Run(ctx) }()
	return func() {
		cancel()
		<-done
	}
}

func (w *world) checker(rules known.Rules, lists ...*known.List) *revocation.Checker {
	if rules.Timeout == 0 {
		rules.Timeout, rules.Refresh = 2*time.Second, time.Minute
	}
	return revocation.New(&rules, lists, chain(w.ca), w.cache, nil)
}

// judged waits for what is missing, as a handshake does, and judges.
func (w *world) judged(c *revocation.Checker, of ...*certtest.Cert) known.Status {
	w.cache.Await(w.t.Context(), c.Judge(chain(of...), time.Now()))
	return c.Judge(chain(of...), time.Now()).Status
}

func (w *world) list(at time.Time, number int64, revoked ...*x509.Certificate) *known.List {
	w.t.Helper()
	der := w.ca.CRL(w.t, number, func(l *x509.RevocationList) { l.ThisUpdate, l.NextUpdate = at, at.Add(time.Hour) }, revoked...)
	l, err := known.Parse(der, chain(w.ca))
	if err != nil {
		w.t.Fatal(err)
	}
	return l
}

// TestLists judges by lists alone.
func TestLists(t *testing.T) {
	t.Parallel()
	w, now := newWorld(t), time.Now().Truncate(time.Second)
	middle := w.ca.CA(t, "middle")
	good, bad, deep := w.ca.Issue(t, "good"), w.ca.Issue(t, "bad"), middle.Issue(t, "deep")
	fresh, stale := w.list(now, 2, bad.Cert), w.list(now.Add(-2*time.Hour), 1, bad.Cert)
	der := middle.CRL(t, 1, nil)
	of, err := known.Parse(der, chain(middle))
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name  string
		lists []*known.List
		who   []*certtest.Cert
		want  known.Status
		until time.Time
	}{
		{"good", []*known.List{fresh}, []*certtest.Cert{good, w.ca}, known.Good, fresh.NextUpdate},
		{"revoked", []*known.List{fresh}, []*certtest.Cert{bad, w.ca}, known.Revoked, time.Time{}},
		{"no list", nil, []*certtest.Cert{good, w.ca}, known.Unknown, time.Time{}},
		{"out of date", []*known.List{stale}, []*certtest.Cert{good, w.ca}, known.Unknown, time.Time{}},
		{"out of date, and revoked all the same", []*known.List{stale}, []*certtest.Cert{bad, w.ca}, known.Revoked, time.Time{}},
		{"the newest counts", []*known.List{fresh, stale}, []*certtest.Cert{good, w.ca}, known.Good, fresh.NextUpdate},
		{"the newest counts, whatever the order", []*known.List{w.list(now, 3), fresh}, []*certtest.Cert{bad, w.ca}, known.Good, fresh.NextUpdate},
		{"of one between nobody knows", []*known.List{fresh}, []*certtest.Cert{deep, middle, w.ca}, known.Unknown, fresh.NextUpdate},
		{"of both", []*known.List{fresh, of}, []*certtest.Cert{deep, middle, w.ca}, known.Good, fresh.NextUpdate},
		{"one between is revoked", []*known.List{w.list(now, 4, middle.Cert), of}, []*certtest.Cert{deep, middle, w.ca}, known.Revoked, time.Time{}},
		{"the authority itself", nil, []*certtest.Cert{w.ca}, known.Good, time.Time{}},
	} {
		f := w.checker(known.Rules{}, tt.lists...).Judge(chain(tt.who...), now)
		if f.Status != tt.want || tt.want == known.Good && !f.Until.Equal(tt.until) {
			t.Errorf("%s: %v until %v, want %v until %v", tt.name, f.Status, f.Until, tt.want, tt.until)
		}
	}
	// Both are believed, and the one has revoked the other.
	c := revocation.New(&known.Rules{}, []*known.List{w.list(now, 5, middle.Cert), of}, chain(w.ca, middle), w.cache, nil)
	if got := c.Judge(chain(deep, middle), now).Status; got != known.Revoked {
		t.Errorf("below a revoked authority that is believed: %v", got)
	}
}

// pass lets time go by.
func pass(d time.Duration) { <-time.After(d) }

// TestResponders follows a certificate through what its responder says.
func TestResponders(t *testing.T) {
	t.Parallel()
	ca := certtest.CA(t, "ca")
	leaf := ca.Issue(t, "leaf", certtest.Valid(time.Date(1999, 1, 1, 0, 0, 0, 0, time.UTC), time.Date(2049, 1, 1, 0, 0, 0, 0, time.UTC)))
	synctest.Test(t, func(t *testing.T) {
		w := &world{t: t, ca: ca, responder: certtest.NewResponder(t, ca)}
		w.cache = revocation.NewCache(w.fetch)
		stop := w.run()
		defer stop()
		c := w.checker(known.Rules{OCSP: true, Responder: "http://ocsp.test"})
		say := func(o certtest.OCSP) {
			o.Of, o.ThisUpdate, o.Lasts = leaf.Cert, time.Now(), 10*time.Minute
			w.responder.Say(o)
		}
		want := func(when string, status known.Status) {
			t.Helper()
			if got := w.judged(c, leaf, w.ca); got != status {
				t.Errorf("%s: %v, want %v", when, got, status)
			}
		}
		w.broken.Store(true)
		want("nobody can be reached", known.Unknown)
		w.broken.Store(false)
		say(certtest.OCSP{})
		pass(5 * time.Second)
		want("it can", known.Good)
		told := c.Judge(chain(leaf, w.ca), time.Now()).Told
		asked := w.responder.Asked()
		for range 10 {
			want("again", known.Good)
		}
		if w.responder.Asked() != asked || told[0].Changed() {
			t.Error("what is known was asked for again")
		}
		say(certtest.OCSP{Revoked: true})
		pass(62 * time.Second)
		want("revoked since", known.Revoked)
		if !told[0].Changed() {
			t.Error("who went by the answer before is not told")
		}
		w.broken.Store(true)
		pass(20 * time.Minute)
		want("revoked, and out of date", known.Revoked)
		w.broken.Store(false)
		say(certtest.OCSP{})
		pass(62 * time.Second)
		want("on hold no longer", known.Good)
		w.responder.Say(certtest.OCSP{Of: leaf.Cert, ThisUpdate: time.Now().Add(-time.Hour), Lasts: 2 * time.Hour, Revoked: true})
		pass(62 * time.Second)
		want("an answer from before", known.Good)
		w.responder.Down(true)
		pass(5 * time.Minute)
		want("it is down, and the last answer is in force", known.Good)
		pass(6 * time.Minute)
		want("it is down, and the last answer is out of date", known.Unknown)
		w.responder.Down(false)
		say(certtest.OCSP{})
		pass(15 * time.Second)
		want("it is back", known.Good)
	})
}

// TestFirstAnswer waits for no longer than it may.
func TestFirstAnswer(t *testing.T) {
	t.Parallel()
	ca := certtest.CA(t, "ca")
	leaves := []*certtest.Cert{ca.Issue(t, "a"), ca.Issue(t, "b")}
	synctest.Test(t, func(t *testing.T) {
		hanging := revocation.NewCache(func(ctx context.Context, _ *hostsvc.EgressRules, _ string, _ []byte) ([]byte, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		})
		w := &world{t: t, ca: ca, cache: hanging}
		stop := w.run()
		defer stop()
		c := w.checker(known.Rules{OCSP: true, Responder: "http://ocsp.test"})
		begun := time.Now()
		if got := w.judged(c, leaves[0], ca); got != known.Unknown || time.Since(begun) != 2*time.Second {
			t.Errorf("%v after %v", got, time.Since(begun))
		}
		begun = time.Now() // of a responder that has just failed nothing is asked
		if got := w.judged(c, leaves[1], ca); got != known.Unknown || time.Since(begun) != 0 {
			t.Errorf("the next certificate: %v after %v", got, time.Since(begun))
		}
	})
}

// TestSourcesTogether has lists and responders that say different things.
func TestSourcesTogether(t *testing.T) {
	t.Parallel()
	w, now := newWorld(t), time.Now().Truncate(time.Second)
	leaf, silent := w.ca.Issue(t, "leaf"), w.ca.Issue(t, "silent")
	stop := w.run()
	defer stop()
	w.responder.Say(certtest.OCSP{Of: leaf.Cert})
	ocsp := known.Rules{OCSP: true, Responder: "http://ocsp.test"}
	for _, tt := range []struct {
		name  string
		rules known.Rules
		list  *known.List
		who   *certtest.Cert
		want  known.Status
	}{
		{"both good", ocsp, w.list(now, 1), leaf, known.Good},
		{"the list knows better", ocsp, w.list(now, 1, leaf.Cert), leaf, known.Revoked},
		{"the responder knows, the list is out of date", ocsp, w.list(now.Add(-2*time.Hour), 1), leaf, known.Good},
		{"the list knows, the responder does not", ocsp, w.list(now, 1), silent, known.Good},
		{"neither", ocsp, w.list(now.Add(-2*time.Hour), 1), silent, known.Unknown},
		{"no responder is named", known.Rules{OCSP: true}, w.list(now.Add(-2*time.Hour), 1), silent, known.Unknown},
	} {
		if got := w.judged(w.checker(tt.rules, tt.list), tt.who, w.ca); got != tt.want {
			t.Errorf("%s: %v, want %v", tt.name, got, tt.want)
		}
	}
	if got := w.cache.Stats(); got.Entries != 2 || got.Asked != 2 || got.Failed != 0 {
		t.Errorf("Stats() = %+v", got)
	}
}

// TestManyAnswersAreWaitedForTogether has responders of which none ever answers: nobody waits for one after the other.
func TestManyAnswersAreWaitedForTogether(t *testing.T) {
	t.Parallel()
	ca := certtest.CA(t, "ca")
	leaf := ca.Issue(t, "leaf")
	synctest.Test(t, func(t *testing.T) {
		w := &world{t: t, ca: ca, cache: revocation.NewCache(nil)} // it does not run, so nobody is asked
		var f revocation.Finding
		for i := range 5 {
			c := w.checker(known.Rules{OCSP: true, Responder: fmt.Sprintf("http://ocsp-%d.test", i)})
			f.Told = append(f.Told, c.Judge(chain(leaf, ca), time.Now()).Told...)
		}
		begun := time.Now()
		if w.cache.Await(t.Context(), f); len(f.Told) != 5 || time.Since(begun) > 2100*time.Millisecond || time.Since(begun) < 2*time.Second {
			t.Errorf("waited %v for %d", time.Since(begun), len(f.Told))
		}
	})
}
