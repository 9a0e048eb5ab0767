package policies_test

import (
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"keyward.dev/dataplane/internal/policies"
	policyv1 "keyward.dev/proto/gen/keyward/policy/v1"
)

// TestBuildRefusesWhatItCannotEnforce: admission refuses these too; a gateway does not rely on it.
func TestBuildRefusesWhatItCannotEnforce(t *testing.T) {
	t.Parallel()
	window := func(limit uint64, d time.Duration) *policyv1.RateLimitWindow {
		return &policyv1.RateLimitWindow{Limit: limit, Window: durationpb.New(d)}
	}
	tests := []struct {
		name, typ string
		cfg       proto.Message
	}{
		{"realm that breaks the challenge", "key-auth", &policyv1.KeyAuth{Realm: `a", Basic realm="b`}},
		{"address that is none", "ip-restriction", &policyv1.IpRestriction{Allow: []string{"10.0.0.256"}}},
		{"range that is none", "ip-restriction", &policyv1.IpRestriction{Deny: []string{"10.0.0.0/40"}}},
		{"no lists", "ip-restriction", &policyv1.IpRestriction{}},
		{"no windows", "rate-limit", &policyv1.RateLimit{}},
		{"no limit", "rate-limit", &policyv1.RateLimit{Windows: []*policyv1.RateLimitWindow{window(0, time.Minute)}}},
		{"no window", "rate-limit", &policyv1.RateLimit{Windows: []*policyv1.RateLimitWindow{window(1, 0)}}},
		{"by header without header", "rate-limit", &policyv1.RateLimit{
			By: policyv1.RateLimitBy_RATE_LIMIT_BY_HEADER, Windows: []*policyv1.RateLimitWindow{window(1, time.Minute)},
		}},
		{"by something unknown", "rate-limit", &policyv1.RateLimit{By: 99, Windows: []*policyv1.RateLimitWindow{window(1, time.Minute)}}},
		{"size beyond counting", "request-size-limit", &policyv1.RequestSizeLimit{Max: proto.Uint64(1 << 63)}},
		{"credentials for everybody", "cors", &policyv1.Cors{AllowOrigins: []string{"*"}, AllowCredentials: true}},
		{"origin that is none", "cors", &policyv1.Cors{AllowOrigins: []string{"app.example"}}},
		{"no rules at all", "acl", &policyv1.Acl{}},
		{"no conditions", "authorize", &policyv1.Authorize{}},
		{"condition that is none", "authorize", &policyv1.Authorize{Rules: []*policyv1.AuthorizeRule{{When: "request.method"}}}},
		{"rule without groups", "acl", &policyv1.Acl{Rules: []*policyv1.AclRule{{Methods: []string{"GET"}}}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			for _, f := range policies.All() {
				if f.Type != tt.typ {
					continue
				}
				if _, err := f.Build(tt.cfg, deps(tt.typ)); err == nil {
					t.Errorf("Build(%s) = nil error", tt.typ)
				}
			}
		})
	}
}
