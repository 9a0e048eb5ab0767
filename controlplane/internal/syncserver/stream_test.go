package syncserver_test

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/durationpb"

	"keyward.dev/controlplane/internal/fanout"
	"keyward.dev/controlplane/internal/registry"
	syncv1 "keyward.dev/proto/gen/keyward/sync/v1"
	"keyward.dev/shared/mtls"
	"keyward.dev/shared/testkit"
)

func TestGatewayOfGroupANeverReceivesAByteOfGroupB(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{})
	defer w.stop()
	w.sources["a"].Put("ua", "n", []byte("of a"))
	w.sources["b"].Put("ub", "n", []byte("canary of b"))
	a, b := w.enrol("a"), w.enrol("b")
	sa := a.stream(fanout.Position{})
	// A position of the other group does not open it either.
	sb := b.stream(w.sources["a"].Position())
	sa.until(1)
	for sb.resets == 0 || sb.at.Epoch != 2 {
		if err := sb.next(); err != nil {
			t.Fatal(err)
		}
	}
	for range 20 {
		w.sources["b"].Put("ub", "n", []byte("canary of b"))
		w.sources["a"].Put("ua", "n", []byte("of a"))
	}
	sa.until(21)
	sb.until(21)
	if len(sa.records) != 1 || string(sa.records["ua"]) != "of a" {
		t.Errorf("gateway of a holds %q", sa.records)
	}
	if len(sb.records) != 1 || string(sb.records["ub"]) != "canary of b" {
		t.Errorf("gateway of b holds %q", sb.records)
	}
}

func TestBatchesGoOnlyToGatewaysThatTakeThem(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{})
	defer w.stop()
	w.sources["a"].Fill(2000, 300)
	old, young := w.enrol("a"), w.enrol("a")
	old.single = true
	so, sy := old.stream(fanout.Position{}), young.stream(fanout.Position{})
	so.until(1)
	sy.until(1)
	const changes = 5
	for range changes {
		w.sources["a"].Put("u", "n", bytes.Repeat([]byte("x"), 300<<10)) // more than one frame
		w.sources["a"].Remove("u")
	}
	so.until(1 + 2*changes)
	sy.until(1 + 2*changes)
	if so.batches > 0 || sy.batches < 10 || sy.batches > 20+4*changes {
		t.Errorf("batches came: %d and %d", so.batches, sy.batches)
	}
	if len(so.records) != 2000 || len(sy.records) != 2000 || so.at != sy.at {
		t.Errorf("%d and %d records at %v and %v", len(so.records), len(sy.records), so.at, sy.at)
	}
}

func TestReconnectResumesWithDeltas(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{})
	defer w.stop()
	g := w.enrol("a")
	for i := range 5 {
		w.sources["a"].Put(fmt.Sprint("u", i), fmt.Sprint("n", i), []byte("x"))
	}
	first := g.stream(fanout.Position{})
	first.until(5)
	w.sources["a"].Put("u0", "n0", []byte("y"))
	second := g.stream(first.at)
	second.until(6)
	if second.resets != 0 || second.bytes != 1 {
		t.Errorf("after a reconnect: %d resets and %d bytes, want the one change", second.resets, second.bytes)
	}
	wrong := first.at
	wrong.Digest[3] ^= 1
	third := g.stream(wrong)
	for third.resets == 0 {
		if err := third.next(); err != nil {
			t.Fatal(err)
		}
	}
	third.send(&syncv1.ConfigRequest{Message: &syncv1.ConfigRequest_Resync{Resync: &syncv1.Resync{Reason: "test"}}})
	for third.resets < 2 {
		if err := third.next(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestResyncsAreLimited(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{})
	defer w.stop()
	s := w.enrol("a").stream(fanout.Position{})
	done := make(chan error, 1)
	go func() { done <- s.end() }()
	for {
		err := s.rpc.Send(&syncv1.ConfigRequest{Message: &syncv1.ConfigRequest_Resync{Resync: &syncv1.Resync{}}})
		if err != nil {
			break
		}
	}
	err := <-done
	wantCode(t, "a stream that resyncs on and on", err, codes.ResourceExhausted, "too many")
	wantLater(t, err, 10*time.Second, 20*time.Second)
	if s.resets > 5 {
		t.Errorf("%d sets were sent", s.resets)
	}
}

func TestSlowReaderGetsASnapshotAndSlowsNobody(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{limits: fanout.Limits{Changes: 4}})
	defer w.stop()
	body := bytes.Repeat([]byte("x"), 100<<10)
	slow := w.enrol("a").stream(fanout.Position{}, grpc.WithStaticStreamWindowSize(64<<10), grpc.WithStaticConnWindowSize(64<<10))
	fast := w.enrol("a").stream(fanout.Position{})
	for i := range 60 {
		w.sources["a"].Put("u", "n", append(body, byte(i)))
		fast.until(int64(i + 1))
	}
	slow.until(60)
	if slow.resets < 1 || slow.bytes > 30*len(body) {
		t.Errorf("the slow stream got %d resets and %d bytes, want a snapshot instead of every change", slow.resets, slow.bytes)
	}
}

func TestAcknowledgementsReachTheRegistry(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{})
	defer w.stop()
	w.sources["a"].Put("u", "n", []byte("x"))
	w.memory.SetHead("a", 1, 1)
	g := w.enrol("a")
	s := g.stream(fanout.Position{})
	s.until(1)
	ack := &syncv1.Ack{Epoch: 1, Revision: 1, Digest: s.at.Digest[:], Faults: []*syncv1.Fault{{Kind: "routes", Uid: "u", Name: strings.Repeat("n", 5000), Reason: "why"}}}
	s.send(&syncv1.ConfigRequest{Message: &syncv1.ConfigRequest_Ack{Ack: ack}})
	p, err := w.registry.WaitForRevision(t.Context(), "a", 1, 1, 10*time.Second)
	if err != nil || len(p.Rejecting) != 1 || p.Rejecting[0].Faults[0].Reason != "why" || len(p.Rejecting[0].Faults[0].Name) > 1024 {
		t.Errorf("progress = %+v, %v", p, err)
	}
	for contract, older := range map[uint32]int{3: 0, 4: 1} {
		if ids, err := w.registry.Older(t.Context(), "a", contract); err != nil || len(ids) != older {
			t.Errorf("older than contract %d are %v, %v, want %d", contract, ids, err, older)
		}
	}
	ack.Faults = nil
	s.send(&syncv1.ConfigRequest{Message: &syncv1.ConfigRequest_Ack{Ack: ack}})
	testkit.Await(t, 10*time.Second, func() error {
		got, err := w.registry.Get(t.Context(), "a", g.id.Gateway)
		if err == nil && got.State != registry.Online {
			err = fmt.Errorf("state is %s", got.State)
		}
		return err
	})
}

func TestPropagationIsMeasuredAndAWrongDigestIsNoAcknowledgement(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{})
	defer w.stop()
	w.memory.SetHead("a", 1, 2)
	s := w.enrol("a").stream(fanout.Position{})
	w.sources["a"].Put("u", "n", []byte("1"))
	s.until(1)
	ack := func(digest []byte) {
		a := &syncv1.Ack{Epoch: s.at.Epoch, Revision: s.at.Revision, Digest: digest}
		s.send(&syncv1.ConfigRequest{Message: &syncv1.ConfigRequest_Ack{Ack: a}})
	}
	ack(s.at.Digest[:])
	w.sources["a"].Put("u", "n", []byte("2"))
	s.until(2)
	ack(make([]byte, 32))
	w.sources["a"].Put("u", "n", []byte("3"))
	s.until(3)
	if p, err := w.registry.WaitForRevision(t.Context(), "a", 2, 1, 300*time.Millisecond); err != nil || p.Done {
		t.Errorf("after a wrong digest: %+v, %v", p, err)
	}
	ack(s.at.Digest[:])
	if p, err := w.registry.WaitForRevision(t.Context(), "a", 2, 1, 10*time.Second); err != nil || !p.Done {
		t.Errorf("after the right one: %+v, %v", p, err)
	}
	if took := <-w.propagated; took < 0 || took > time.Minute {
		t.Errorf("propagation took %s", took)
	}
	// What the gateway waited before it answered is no part of it.
	w.sources["a"].Put("u", "n", []byte("4"))
	s.until(4)
	s.send(&syncv1.ConfigRequest{Message: &syncv1.ConfigRequest_Ack{Ack: &syncv1.Ack{
		Epoch: s.at.Epoch, Revision: s.at.Revision, Digest: s.at.Digest[:], Held: durationpb.New(time.Hour),
	}}})
	for took := range w.propagated {
		if took == 0 {
			break
		}
	}
}

// askCertificate renews over the stream.
func (s *stream) askCertificate(w *world) *gateway {
	s.t.Helper()
	key := newKey(s.t)
	s.send(&syncv1.ConfigRequest{Message: &syncv1.ConfigRequest_CertificateRequest{CertificateRequest: &syncv1.CertificateRequest{Csr: request(s.t, key)}}})
	for {
		if err := s.next(); err != nil {
			s.t.Fatalf("before a certificate: %v", err)
		}
		if n := len(s.other); n > 0 && s.other[n-1].GetCertificate() != nil {
			return w.gateway(key, s.other[n-1].GetCertificate().GetChain())
		}
	}
}

func TestRenewalKeepsTheStreamAndExpiryEndsIt(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, options{ttl: 30 * time.Second, inMemory: true})
		defer w.stop()
		g := w.enrol("a")
		s := g.stream(fanout.Position{})
		for i := range 9 { // three minutes
			<-time.After(20 * time.Second)
			if i == 5 {
				w.memory.SetDown(true) // renewal does not need the database
			}
			next := s.askCertificate(w)
			if next.id != g.id {
				t.Fatalf("renewed as %v, want %v", next.id, g.id)
			}
			w.sources["a"].Put("u", "n", []byte{byte(i)})
			s.until(int64(i + 1))
		}
		began := time.Now()
		wantCode(t, "a stream without renewal", s.end(), codes.Unauthenticated, "expired")
		if took := time.Since(began); took < 29*time.Second || took > 31*time.Second {
			t.Errorf("the stream was ended after %s, want 30s", took)
		}
	})
}

func TestStreamsHaveAMaximumAgeAndDrainAtShutdown(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, options{streamAge: time.Hour, drainTime: 5 * time.Second, inMemory: true})
		s := w.enrol("a").stream(fanout.Position{})
		began := time.Now()
		wantCode(t, "a stream that stays", s.end(), codes.Unavailable, "reconnect")
		if took := time.Since(began); took < 54*time.Minute || took > 67*time.Minute {
			t.Errorf("ended after %s, want about an hour", took)
		}
		if n := len(s.other); s.other[n-1].GetDrain() == nil {
			t.Error("the gateway was not asked to reconnect")
		}
		next := w.enrol("a").stream(fanout.Position{})
		w.sources["a"].Put("u", "n", []byte("x"))
		next.until(1)
		ended := make(chan error, 1)
		go func() { ended <- next.end() }()
		synctest.Wait()
		began = time.Now()
		w.stop()
		if took := time.Since(began); took > 10*time.Second {
			t.Errorf("shutdown took %s", took)
		}
		if err := <-ended; err == nil {
			t.Error("a stream outlived the server")
		}
		if n := len(next.other); next.other[n-1].GetDrain() == nil {
			t.Error("the gateway was not asked to leave at shutdown")
		}
	})
}

func TestStreamWithoutHelloEnds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, options{inMemory: true})
		defer w.stop()
		g := w.enrol("a")
		rpc, err := syncv1.NewSyncServiceClient(w.connect(mtls.ClientTLS(w.config(g.cert)))).Config(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		_, err = rpc.Recv()
		wantCode(t, "a silent stream", err, codes.DeadlineExceeded, "no hello")
	})
}

func TestGroupThatCannotBeOpenedIsUnavailable(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, options{inMemory: true})
		defer w.stop()
		w.sources["a"].Fail(errors.New("keyring does not open"))
		s := w.enrol("a").stream(fanout.Position{})
		err := s.end()
		wantCode(t, "a stream of a closed group", err, codes.Unavailable, "not available")
		if strings.Contains(err.Error(), "keyring") {
			t.Error("a gateway was told about the inside")
		}
		ahead := w.sources["b"].Position()
		ahead.Revision = 5
		g := w.enrol("b")
		wantCode(t, "a stream ahead of the replica", g.stream(ahead).end(), codes.Unavailable, "behind")
		if len(w.ahead) != 1 || <-w.ahead != "b" {
			t.Error("nobody was told that a gateway has seen more than the replica")
		}
		// What it runs is what tells a restored database from one that was not touched.
		<-time.After(time.Second)
		if known, err := w.registry.Get(t.Context(), "b", g.id.Gateway); err != nil || known.AppliedRevision != 5 || known.AppliedEpoch != ahead.Epoch {
			t.Errorf("the registry knows %+v, %v", known, err)
		}
	})
}
