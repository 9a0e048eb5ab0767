package policy_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"keyward.dev/dataplane/internal/exchange"
	"keyward.dev/dataplane/internal/policy"
)

// proof is an authentication policy whose outcome is the value of a request field.
type proof struct{ name string }

var (
	refuseWrong  = exchange.NewRefusal(401, "unauthenticated", "wrong")
	refuseAbsent = exchange.NewRefusal(401, "unauthenticated", "nothing").Absent()
	refuseOutage = exchange.NewRefusal(503, "unavailable", "outage")
)

func (p *proof) Request(x *exchange.Exchange) policy.Verdict {
	switch v := string(x.Request.Header.Get(p.name)); v {
	case "":
		x.Refuse(refuseAbsent)
		return policy.Stop
	case "wrong":
		x.Refuse(refuseWrong)
		return policy.Stop
	case "outage":
		x.Refuse(refuseOutage)
		return policy.Stop
	case "panic":
		panic(v)
	case "nobody":
		return policy.Next
	default:
		x.Principal = &exchange.Principal{Consumer: v, ConsumerUID: v}
		return policy.Next
	}
}

func (p *proof) Hide(x *exchange.Exchange) { x.Request.Header.Del(p.name) }

func (p *proof) Challenge() exchange.Header { return exchange.Field("WWW-Authenticate", p.name) }

func TestAuthentication(t *testing.T) {
	t.Parallel()
	both, either := [][]string{{"A", "B"}}, [][]string{{"A"}, {"B"}}
	tests := []struct {
		name     string
		branches [][]string
		request  []string
		want     int // 0: passes
		who      string
		by       string
	}{
		{"all pass", both, []string{"A: x", "B: x"}, 0, "x", ""},
		{"all must pass", both, []string{"A: x"}, 401, "", "B"},
		{"one consumer", both, []string{"A: x", "B: y"}, 401, "", "B"},
		{"outage", both, []string{"A: x", "B: outage"}, 503, "", "B"},
		{"first alternative", either, []string{"A: x", "B: y"}, 0, "x", ""},
		{"wrong fails its branch only", either, []string{"A: wrong", "B: y"}, 0, "y", ""},
		{"outage fails its branch only", either, []string{"A: outage", "B: y"}, 0, "y", ""},
		{"all fail", either, []string{"A: wrong"}, 401, "", "A"},
		{"all fail, one by outage", either, []string{"A: wrong", "B: outage"}, 503, "", "B"},
		{"or of ands", [][]string{{"A", "B"}, {"C"}}, []string{"A: x", "B: y", "C: z"}, 0, "z", ""},
		{"passing without a name is no identity", either[:1], []string{"A: nobody"}, 500, "", "A"},
		{"panic", either, []string{"A: panic", "B: x"}, 500, "", "authn"},
		{"empty branch", [][]string{{}}, nil, 500, "", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			made := map[string]policy.Link{}
			var branches [][]policy.Link
			for _, names := range tt.branches {
				var b []policy.Link
				for _, n := range names {
					if made[n].Policy == nil {
						made[n] = policy.Link{Binding: policy.Identity{Name: n}, Policy: &proof{name: n}}
					}
					b = append(b, made[n])
				}
				branches = append(branches, b)
			}
			x := &exchange.Exchange{}
			for _, l := range tt.request {
				x.Request.Header.Add(exchange.Field(l[:1], l[3:]))
			}
			v := policy.NewRoute(nil, branches, nil).Request(x)
			if (v == policy.Next) != (tt.want == 0) || x.Response.Status != tt.want {
				t.Fatalf("Request() = %v with %d, want status %d", v, x.Response.Status, tt.want)
			}
			if tt.want == 0 {
				if x.Principal == nil || x.Principal.Consumer != tt.who || x.Refusal() != nil || len(x.Request.Header) != 0 {
					t.Errorf("principal %+v, refusal %v, left %v; want %s and every credential hidden", x.Principal, x.Refusal(), x.Request.Header, tt.who)
				}
				return
			}
			if x.Principal != nil {
				t.Errorf("Principal = %+v after a refusal", x.Principal)
			}
			if tt.by != "" && x.StoppedBy.Name != tt.by {
				t.Errorf("StoppedBy = %+v, want %s", x.StoppedBy, tt.by)
			}
		})
	}
}

func TestA401NamesEveryChallenge(t *testing.T) {
	t.Parallel()
	branches := [][]policy.Link{{{Policy: &proof{name: "A"}}}, {{Policy: &proof{name: "B"}}, {Policy: &proof{name: "A"}}}}
	x := &exchange.Exchange{}
	policy.NewRoute(nil, branches, nil).Request(x)
	var got []string
	for v := range x.Response.Header.Values("WWW-Authenticate") {
		got = append(got, string(v))
	}
	if diff := cmp.Diff([]string{"A", "B"}, got); diff != "" {
		t.Errorf("challenges (-want +got):\n%s", diff)
	}
}

// bearing is an authentication policy that looks into header fields.
type bearing struct {
	proof
	fields []string
}

func (b *bearing) CredentialFields() []string { return b.fields }

func TestAChainNamesTheFieldsOfEveryCredential(t *testing.T) {
	t.Parallel()
	branches := [][]policy.Link{
		{{Policy: &bearing{fields: []string{"X-A", "X-B"}}}, {Policy: &proof{name: "p"}}},
		{{Policy: &bearing{fields: []string{"X-C"}}}},
	}
	if diff := cmp.Diff([]string{"X-A", "X-B", "X-C"}, policy.NewRoute(nil, branches, nil).CredentialFields()); diff != "" {
		t.Errorf("CredentialFields() (-want +got):\n%s", diff)
	}
	if got := policy.NewRoute(nil, nil, nil).CredentialFields(); got != nil {
		t.Errorf("CredentialFields() = %q without authentication", got)
	}
}
