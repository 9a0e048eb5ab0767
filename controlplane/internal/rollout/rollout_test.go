package rollout_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	configv1 "keyward.dev/proto/gen/keyward/config/v1"
	credentialv1 "keyward.dev/proto/gen/keyward/credential/v1"

	"keyward.dev/controlplane/internal/rollout"
	"keyward.dev/shared/testkit/certtest"
)

var begin = time.Date(2026, 11, 1, 10, 0, 0, 0, time.UTC)

// plan has a canary by label, a tenth and the others.
func plan(change ...func(*configv1.Rollout)) *configv1.Rollout {
	one := uint32(1)
	p := &configv1.Rollout{
		Stages: []*configv1.RolloutStage{
			{Labels: map[string]string{"stage": "canary"}, Soak: durationpb.New(time.Minute)},
			{Percent: 100_000, Soak: durationpb.New(time.Hour)},
		},
		Abort: &configv1.RolloutAbort{Rejects: &one, ErrorRatio: 50_000},
	}
	for _, c := range change {
		c(p)
	}
	return p
}

func frozen(p *configv1.Rollout)     { p.Frozen = true }
func onlyFrozen(p *configv1.Rollout) { p.Frozen, p.Stages = true, nil }
func oneStage(p *configv1.Rollout)   { p.Stages = p.Stages[:1] }

// commit is the next revision with that plan.
func commit(s *rollout.State, revision int64, p *configv1.Rollout, immediate bool) *rollout.State {
	return s.Next(rollout.Commit{Epoch: 1, Revision: revision, Plan: p, Immediate: immediate, At: begin.Add(time.Duration(revision) * time.Hour)})
}

func show(s *rollout.State) string {
	if s == nil {
		return "all"
	}
	return fmt.Sprint(s.Phase, s.Targets)
}

func TestARevisionMovesTheTargets(t *testing.T) {
	t.Parallel()
	steer := func(t *testing.T, s *rollout.State, a rollout.Action) *rollout.State {
		t.Helper()
		n, err := s.Steer(a, "ann", "because", begin)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	rolling := commit(nil, 10, plan(), false)
	middle := &rollout.State{Epoch: 1, Revision: 10, Plan: plan(), Targets: []int64{10, 10, 7}, Phase: rollout.Rolling}
	cases := []struct {
		name string
		got  *rollout.State
		want string
	}{
		{"nothing staged", commit(nil, 10, nil, false), "all"},
		{"stages come: the change that brings them is staged already", rolling, "rolling[10 9 9]"},
		{"a newer one joins at the first stage", commit(rolling, 11, plan(), false), "rolling[11 9 9]"},
		{"others keep what they have in the middle", commit(middle, 11, plan(), false), "rolling[11 10 7]"},
		{"stages go", commit(rolling, 11, &configv1.Rollout{}, false), "all"},
		{"other stages: who is behind sets the pace", commit(middle, 11, plan(oneStage), false), "rolling[11 7]"},
		{"another soak is no other stage", commit(middle, 11, plan(func(p *configv1.Rollout) { p.Stages[0].Soak = durationpb.New(time.Second) }), false), "rolling[11 10 7]"},
		{"immediate", commit(rolling, 11, plan(), true), "done[11 11 11]"},
		{"frozen", commit(rolling, 11, plan(frozen), false), "rolling[10 9 9]"},
		{"frozen without stages", commit(nil, 10, plan(onlyFrozen), false), "rolling[9]"},
		{"frozen for a second change", commit(commit(nil, 10, plan(onlyFrozen), false), 11, plan(onlyFrozen), false), "rolling[9]"},
		{"frozen, immediate", commit(commit(nil, 10, plan(onlyFrozen), false), 11, plan(onlyFrozen), true), "done[11]"},
		{"thawed", commit(commit(rolling, 11, plan(frozen), false), 12, plan(), false), "rolling[12 9 9]"},
		{"paused", commit(steer(t, rolling, rollout.Pause), 11, plan(), false), "paused[10 9 9]"},
		{"paused, immediate", commit(steer(t, rolling, rollout.Pause), 11, plan(), true), "paused[11 11 11]"},
		{"resumed with a newer one", steer(t, commit(steer(t, rolling, rollout.Pause), 11, plan(), false), rollout.Resume), "rolling[11 9 9]"},
		{"aborted", steer(t, rolling, rollout.Abort), "aborted[10 9 9]"},
		{"a newer one after an abort", commit(steer(t, rolling, rollout.Abort), 11, plan(), false), "rolling[11 9 9]"},
		{"resumed after an abort", steer(t, steer(t, rolling, rollout.Abort), rollout.Resume), "rolling[10 9 9]"},
		{"promoted", steer(t, rolling, rollout.Promote), "done[10 10 10]"},
		{"a revision was missed", commit(rolling, 12, plan(), false), "rolling[12 11 11]"},
		{"history was rewound", rolling.Next(rollout.Commit{Epoch: 2, Revision: 11, Plan: plan()}), "rolling[11 10 10]"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			if got := show(c.got); got != c.want {
				t.Errorf("%s, want %s", got, c.want)
			}
		})
	}
}

// canary and other are gateways that run the revision.
func canary(revision int64) rollout.Gateway {
	return rollout.Gateway{ID: "canary", Labels: map[string]string{"stage": "canary"}, Epoch: 1, Applied: revision}
}

func other(revision int64) rollout.Gateway {
	return rollout.Gateway{ID: "other", Epoch: 1, Applied: revision}
}

func with(g rollout.Gateway, change func(*rollout.Gateway)) rollout.Gateway {
	change(&g)
	return g
}

func refusing(faults ...string) func(*rollout.Gateway) {
	return func(g *rollout.Gateway) { g.Faults = faults }
}

func answering(now, errs, before, errsBefore uint64) func(*rollout.Gateway) {
	return func(g *rollout.Gateway) {
		g.Now, g.Before = rollout.Counts{now, errs}, rollout.Counts{before, errsBefore}
	}
}

func TestJudge(t *testing.T) {
	t.Parallel()
	const none = "stays"
	cases := []struct {
		name     string
		after    time.Duration
		gateways []rollout.Gateway
		plan     *configv1.Rollout
		want     string
		waiting  string
	}{
		{"before the time is over", 59 * time.Second, []rollout.Gateway{canary(10)}, plan(), none, ""},
		{"after it", time.Minute, []rollout.Gateway{canary(10), other(9)}, plan(), "rolling[10 10 9]", ""},
		{"the last stage", time.Minute, []rollout.Gateway{canary(10)}, plan(oneStage), "done[10 10]", ""},
		{"nobody in the stage", time.Minute, []rollout.Gateway{other(9)}, plan(), none, "no gateway of stage 1 (stage=canary) is connected"},
		{"not applied", time.Minute, []rollout.Gateway{canary(9)}, plan(), none, "not applied revision 10 yet: 1"},
		{"of another history", time.Minute, []rollout.Gateway{with(canary(10), func(g *rollout.Gateway) { g.Epoch = 2 })}, plan(), none, "not applied"},
		{"a fault", 0, []rollout.Gateway{with(canary(10), refusing("routes/x: bad"))}, plan(), "aborted[10 9 9]", ""},
		{"a fault that others have", time.Minute, []rollout.Gateway{with(canary(10), refusing("routes/x: bad")), with(other(9), refusing("routes/x: bad"))}, plan(), "rolling[10 10 9]", ""},
		{"a fault of those without the change", time.Minute, []rollout.Gateway{canary(10), with(other(9), refusing("routes/x: bad"))}, plan(), "rolling[10 10 9]", ""},
		{"a fault from before it was applied", 0, []rollout.Gateway{with(canary(9), refusing("routes/x: bad"))}, plan(), none, ""},
		{"fewer faults than matter", time.Minute, []rollout.Gateway{with(canary(10), refusing("routes/x: bad"))}, plan(func(p *configv1.Rollout) { *p.Abort.Rejects = 2 }), "rolling[10 10 9]", ""},
		{"faults do not matter", time.Minute, []rollout.Gateway{with(canary(10), refusing("routes/x: bad"))}, plan(func(p *configv1.Rollout) { *p.Abort.Rejects = 0 }), "rolling[10 10 9]", ""},
		{"errors", 0, []rollout.Gateway{with(canary(10), answering(100, 6, 100, 0))}, plan(), "aborted[10 9 9]", ""},
		{"as many errors as before", time.Minute, []rollout.Gateway{with(canary(10), answering(100, 10, 100, 6))}, plan(), "rolling[10 10 9]", ""},
		{"too few requests to tell", 0, []rollout.Gateway{with(canary(10), answering(19, 19, 0, 0))}, plan(), none, ""},
		{"errors elsewhere", 0, []rollout.Gateway{canary(10), with(other(9), answering(100, 100, 100, 0))}, plan(), none, ""},
		{"frozen", time.Minute, []rollout.Gateway{canary(10)}, plan(frozen), none, ""},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := commit(nil, 10, plan(), false)
			s.Plan, s.Since = c.plan, begin
			s.Targets = s.Targets[:len(c.plan.GetStages())+1]
			next, waiting := s.Judge(begin.Add(c.after), c.gateways)
			got := none
			if next != nil {
				got = show(next)
				if next.Version != s.Version+1 {
					t.Errorf("version %d after %d", next.Version, s.Version)
				}
				if next.Phase == rollout.Aborted && next.Reason == "" {
					t.Error("aborted for no reason")
				}
			}
			if got != c.want || !strings.Contains(waiting, c.waiting) || (waiting == "") != (c.waiting == "") {
				t.Errorf("%s, waiting %q; want %s, %q", got, waiting, c.want, c.waiting)
			}
		})
	}
}

func TestStoppedRolloutsAreNotJudged(t *testing.T) {
	t.Parallel()
	for _, a := range []rollout.Action{rollout.Pause, rollout.Abort, rollout.Promote} {
		s, err := commit(nil, 10, plan(), false).Steer(a, "ann", "", begin)
		if err != nil {
			t.Fatal(err)
		}
		if next, waiting := s.Judge(begin.Add(time.Hour), []rollout.Gateway{with(canary(10), refusing("x"))}); next != nil || waiting != "" {
			t.Errorf("after %s: %s, %q", a, show(next), waiting)
		}
	}
}

func TestWhatCannotBeSteeredIsRefused(t *testing.T) {
	t.Parallel()
	rolling := commit(nil, 10, plan(), false)
	done := commit(nil, 10, plan(), true)
	for _, c := range []struct {
		state  *rollout.State
		action rollout.Action
	}{{nil, rollout.Pause}, {rolling, rollout.Resume}, {rolling, "stop"}, {done, rollout.Abort}, {done, rollout.Promote}} {
		if s, err := c.state.Steer(c.action, "ann", "", begin); err == nil {
			t.Errorf("%s of %s = %s, want an error", c.action, show(c.state), show(s))
		}
	}
}

func TestSharesAreEvenAndGrow(t *testing.T) {
	t.Parallel()
	s := commit(nil, 2, &configv1.Rollout{Stages: []*configv1.RolloutStage{{Percent: 100_000}, {Percent: 300_000}}}, false)
	var counts [3]int
	for i := range 10_000 {
		counts[s.StageOf(fmt.Sprint("gateway-", i), nil)]++
	}
	for i, want := range []int{1000, 2000, 7000} {
		if d := counts[i] - want; d < -200 || d > 200 {
			t.Errorf("stage %d has %d of 10,000 gateways, want about %d", i+1, counts[i], want)
		}
	}
	if diff := cmp.Diff([]string{"10%", "30%", "others"}, []string{s.Members(0), s.Members(1), s.Members(2)}); diff != "" {
		t.Error(diff)
	}
}

func TestWhatTakesSomethingIsUrgent(t *testing.T) {
	t.Parallel()
	key := func(hash string) *anypb.Any {
		m, err := anypb.New(&credentialv1.KeyAuth{Key: &configv1.Secret{Value: &configv1.Secret_Plaintext{Plaintext: hash}}})
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	at := func(d time.Duration) *timestamppb.Timestamp { return timestamppb.New(begin.Add(d)) }
	was := &configv1.Credential{Type: "key-auth", Config: key("a"), Expires: at(time.Hour)}
	pem := certtest.CA(t, "a").PEM()
	caller := func(pem string, key *configv1.Secret) *configv1.Certificate {
		return &configv1.Certificate{Current: &configv1.CertificateVersion{Chain: pem, PrivateKey: key}}
	}
	other, ours := certtest.CA(t, "b").PEM(), &configv1.Secret{Value: &configv1.Secret_Plaintext{Plaintext: "x"}}
	tied := func(to ...string) *configv1.Credential {
		return &configv1.Credential{Type: "key-auth", Config: key("a"), BoundCertificate: to}
	}
	cases := []struct {
		name   string
		change rollout.Resource
		want   bool
	}{
		{"a new credential", rollout.Resource{Kind: "credentials", After: was}, false},
		{"a credential removed", rollout.Resource{Kind: "credentials", Existed: true, Before: was}, true},
		{"one that cannot be read", rollout.Resource{Kind: "credentials", Existed: true, After: was}, true},
		{"another description", rollout.Resource{Kind: "credentials", Existed: true, Before: was, After: &configv1.Credential{Type: "key-auth", Config: key("a"), Expires: at(time.Hour), Description: "x"}}, false},
		{"another key", rollout.Resource{Kind: "credentials", Existed: true, Before: was, After: &configv1.Credential{Type: "key-auth", Config: key("b"), Expires: at(time.Hour)}}, true},
		{"an earlier end", rollout.Resource{Kind: "credentials", Existed: true, Before: was, After: &configv1.Credential{Type: "key-auth", Config: key("a"), Expires: at(time.Minute)}}, true},
		{"a later end", rollout.Resource{Kind: "credentials", Existed: true, Before: was, After: &configv1.Credential{Type: "key-auth", Config: key("a"), Expires: at(2 * time.Hour)}}, false},
		{"a later beginning", rollout.Resource{Kind: "credentials", Existed: true, Before: was, After: &configv1.Credential{Type: "key-auth", Config: key("a"), Expires: at(time.Hour), NotBefore: at(0)}}, true},
		{"bound to certificates", rollout.Resource{Kind: "credentials", Existed: true, Before: tied(), After: tied("a")}, true},
		{"bound to others", rollout.Resource{Kind: "credentials", Existed: true, Before: tied("a"), After: tied("b")}, true},
		{"bound to more", rollout.Resource{Kind: "credentials", Existed: true, Before: tied("a"), After: tied("b", "a")}, false},
		{"bound no more", rollout.Resource{Kind: "credentials", Existed: true, Before: tied("a"), After: tied()}, false},
		{"a consumer removed", rollout.Resource{Kind: "consumers", Existed: true, Before: &configv1.Consumer{}}, true},
		{"a group lost", rollout.Resource{Kind: "consumers", Existed: true, Before: &configv1.Consumer{Groups: []string{"a", "b"}}, After: &configv1.Consumer{Groups: []string{"b"}}}, true},
		{"a group won", rollout.Resource{Kind: "consumers", Existed: true, Before: &configv1.Consumer{Groups: []string{"a"}}, After: &configv1.Consumer{Groups: []string{"b", "a"}}}, false},
		{"an authority removed", rollout.Resource{Kind: "ca-certificates", Existed: true, Before: &configv1.CaCertificate{Certificates: pem}}, true},
		{"an authority replaced", rollout.Resource{Kind: "ca-certificates", Existed: true, Before: &configv1.CaCertificate{Certificates: pem}, After: &configv1.CaCertificate{Certificates: other}}, true},
		{"an authority more", rollout.Resource{Kind: "ca-certificates", Existed: true, Before: &configv1.CaCertificate{Certificates: pem}, After: &configv1.CaCertificate{Certificates: other + pem}}, false},
		{"a caller's certificate replaced", rollout.Resource{Kind: "certificates", Existed: true, Before: caller(pem, nil), After: caller(other, nil)}, true},
		{"our own certificate renewed", rollout.Resource{Kind: "certificates", Existed: true, Before: caller(pem, ours), After: caller(other, ours)}, false},
		{"a route removed", rollout.Resource{Kind: "routes", Existed: true, Before: &configv1.Route{}}, false},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			if got := c.change.Urgent(); got != c.want {
				t.Errorf("urgent = %t, want %t", got, c.want)
			}
		})
	}
}
