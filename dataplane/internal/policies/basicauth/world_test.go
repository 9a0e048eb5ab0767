package basicauth_test

import (
	"encoding/base64"
	"fmt"
	"log/slog"
	"net/netip"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"keyward.dev/dataplane/internal/exchange"
	"keyward.dev/dataplane/internal/hostsvc"
	"keyward.dev/dataplane/internal/policies/basicauth"
	"keyward.dev/dataplane/internal/policy"
	"keyward.dev/dataplane/internal/policy/directory"
	policyv1 "keyward.dev/proto/gen/keyward/policy/v1"
	"keyward.dev/shared/password"
)

const (
	known = "correct horse battery"
	// Its hashes by bcrypt at a cost of 8, and by PBKDF2 with 10,000 iterations: what takes least of all that is accepted.
	cheap = "$2y$08$abcdefghijklmnopqrstuuwezlW09AGl.Qc8oiYvHEzrpumH/GaSu"
	quick = "$pbkdf2-sha256$i=10000$AAECAwQFBgcICQoLDA0ODw$X+DILeVuX9mNHCAvEDeDlaquCYUTD7rdkkZXdsCyl/Q"
)

// world is a gateway's services and the credentials it has now.
type world struct {
	t        testing.TB
	services *hostsvc.Services
	dir      *directory.Directory
	client   netip.Addr
	now      time.Time
}

func newWorld(t testing.TB, users map[string]string) *world {
	t.Helper()
	w := &world{t: t, services: hostsvc.New(hostsvc.Config{}), client: netip.MustParseAddr("192.0.2.1"), now: time.Now()}
	w.push(users)
	return w
}

// push replaces the credentials.
func (w *world) push(users map[string]string) {
	w.t.Helper()
	e := directory.New().Edit()
	for name, text := range users {
		h, err := password.Parse(text)
		if err != nil {
			w.t.Fatal(err)
		}
		e.PutConsumer(directory.Consumer{UID: "consumer " + name, Name: name})
		e.PutCredential(directory.Credential{
			UID: "credential " + name, Name: "k", Type: "basic-auth", Consumer: name,
			Hash: exchange.NameHash("basic-auth", []byte(name)), Subject: name, Material: h,
		})
	}
	w.dir = e.Directory()
}

// build makes the policy as a push makes it anew.
func (w *world) build(cfg *policyv1.BasicAuth) policy.Policy {
	w.t.Helper()
	p, err := basicauth.Build(cfg, policy.Deps{
		Binding: policy.Identity{Type: "basic-auth", Name: "basic-auth"}, Host: w.services, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return p
}

// prepare makes x a request of a user.
func (w *world) prepare(x *exchange.Exchange, field exchange.Header) {
	x.Reset()
	x.Directory, x.Timings.Received, x.Request.ClientIP = w.dir, w.now, w.client
	x.Request.Header.Add(field)
}

func authorization(user, password string) exchange.Header {
	return exchange.Field("Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte(user+":"+password)))
}

// login returns the status, 200 for a request that passes, and the word for the log.
func (w *world) login(p policy.Policy, user, password string) (status int, reason string) {
	x := &exchange.Exchange{}
	w.prepare(x, authorization(user, password))
	if p.Request(x) == policy.Next {
		return 200, x.Principal.Subject()
	}
	r := x.Refusal()
	return r.Status(), r.Reason()
}

// unprotected lets everybody guess, and remembers nothing.
func unprotected() *policyv1.BasicAuth {
	off := false
	return &policyv1.BasicAuth{CacheTtl: durationpb.New(0), BruteForce: &policyv1.BruteForce{Enabled: &off}}
}

func names(prefix string, n int) (all []string) {
	for i := range n {
		all = append(all, fmt.Sprint(prefix, i))
	}
	return all
}
