package compile_test

import (
	"context"
	"log/slog"
	"testing"

	"google.golang.org/protobuf/types/known/anypb"

	"keyward.dev/dataplane/internal/compile"
	"keyward.dev/dataplane/internal/hostsvc"
	"keyward.dev/dataplane/internal/policies"
	"keyward.dev/dataplane/internal/state/statetest"
	"keyward.dev/dataplane/internal/token/tokentest"
	configv1 "keyward.dev/proto/gen/keyward/config/v1"
	credentialv1 "keyward.dev/proto/gen/keyward/credential/v1"
	"keyward.dev/shared/check/jwk"
)

// The keys of a consumer that are kept elsewhere are fetched when the consumer's credential comes, and not when its first token
// does: that one would be answered 503.
func TestKeysOfConsumersAreFetchedAhead(t *testing.T) {
	t.Parallel()
	const url = "https://alice.test/jwks"
	body, fetched := tokentest.Set(tokentest.NewKey(t, jwk.EdDSA, "k")), make(chan hostsvc.KeySource, 8)
	host := hostsvc.New(hostsvc.Config{})
	host.KeySets = hostsvc.NewKeySets(func(_ context.Context, s hostsvc.KeySource) (hostsvc.Fetched, error) {
		fetched <- s
		return hostsvc.Fetched{Body: body}, nil
	}, slog.New(slog.DiscardHandler))
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- host.KeySets.Run(ctx) }()
	defer func() {
		cancel()
		<-done
	}()

	cfg, err := anypb.New(&credentialv1.JwtAuth{Issuer: "alice", JwksUri: url})
	if err != nil {
		t.Fatal(err)
	}
	m := base()
	m["own"] = record("credentials", "own", "alice/own", &configv1.Credential{Name: "own", Consumer: "alice", Type: "jwt-auth", Config: cfg})
	c := compile.New(compile.Deps{Factories: policies.All(), Host: host, Log: slog.New(slog.DiscardHandler), Group: "default"})
	if _, faults := c.Build(statetest.Set(t, list(m)...), nil); len(faults) > 0 {
		t.Fatalf("faults %v", faults)
	}
	if s := <-fetched; s.URL != url {
		t.Errorf("%+v was fetched", s)
	}
}
