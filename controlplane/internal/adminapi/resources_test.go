package adminapi_test

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/anypb"

	adminv1 "keyward.dev/proto/gen/keyward/admin/v1"
	configv1 "keyward.dev/proto/gen/keyward/config/v1"
	optionsv1 "keyward.dev/proto/gen/keyward/options/v1"
	"keyward.dev/shared/problem"

	"keyward.dev/controlplane/internal/adminapi/grpcstatus"
)

func (a *api) as(ctx context.Context, token string) context.Context {
	return metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+token)
}

func service(t *testing.T, url string) *anypb.Any {
	t.Helper()
	packed, err := anypb.New(&configv1.Service{Url: url})
	if err != nil {
		t.Fatal(err)
	}
	return packed
}

func TestMinRevisionWaitsForTheChange(t *testing.T) {
	t.Parallel()
	a := serve(t)
	client, ctx := adminv1.NewResourceServiceClient(a.conn), a.as(t.Context(), a.admin())
	if _, err := client.Put(ctx, &adminv1.PutRequest{Group: "a", Kind: "services", Name: "s", Resource: service(t, "http://h")}); err != nil {
		t.Fatal(err)
	}
	type result struct {
		out *adminv1.Resource
		err error
	}
	done := make(chan result, 1)
	go func() {
		out, err := client.Get(ctx, &adminv1.GetRequest{Group: "a", Kind: "services", Name: "s", MinRevision: 2})
		done <- result{out, err}
	}()
	select {
	case r := <-done:
		if r.out.GetAtRevision() != 2 {
			t.Fatalf("Get answered revision %d, %v before it was there", r.out.GetAtRevision(), r.err)
		}
	default:
	}
	var header metadata.MD
	put, err := client.Put(ctx, &adminv1.PutRequest{Group: "a", Kind: "services", Name: "s", Resource: service(t, "http://i")}, grpc.Header(&header))
	if err != nil || put.GetRevision() != 2 || header.Get("keyward-revision")[0] != "2" {
		t.Fatalf("Put = %v, %v, header %v", put, err, header)
	}
	r := <-done
	var got configv1.Service
	if r.err != nil || r.out.GetResource().UnmarshalTo(&got) != nil || got.GetUrl() != "http://i" || r.out.GetAtRevision() != 2 {
		t.Errorf("Get = %v, %v, want the new resource at revision 2", r.out, r.err)
	}
}

func TestPutRefusesWhatDoesNotFitItsPlace(t *testing.T) {
	t.Parallel()
	a := serve(t)
	client, ctx := adminv1.NewResourceServiceClient(a.conn), a.as(t.Context(), a.admin())
	named, err := anypb.New(&configv1.Service{Name: "other", Url: "http://h"})
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name string
		req  *adminv1.PutRequest
		code problem.Code
		path string
	}{
		{"no resource", &adminv1.PutRequest{Kind: "services", Name: "s"}, problem.Malformed, "resource"},
		{"other kind", &adminv1.PutRequest{Kind: "routes", Name: "s", Resource: service(t, "http://h")}, problem.Malformed, "resource"},
		{"other name", &adminv1.PutRequest{Kind: "services", Name: "s", Resource: named}, problem.Invalid, "name"},
		{"no name", &adminv1.PutRequest{Kind: "services", Resource: service(t, "http://h")}, problem.Malformed, "name"},
		{"owner of what has none", &adminv1.PutRequest{Kind: "services", Parent: "x", Name: "s", Resource: service(t, "http://h")}, problem.Malformed, "parent"},
		{"unknown kind", &adminv1.PutRequest{Kind: "pepper-terms", Name: "s", Resource: service(t, "http://h")}, problem.NotFound, ""},
		{"unknown type", &adminv1.PutRequest{Kind: "services", Name: "s", Resource: &anypb.Any{TypeUrl: "type.googleapis.com/x.Y"}}, problem.Malformed, "resource"},
	} {
		tc.req.Group = "a"
		_, err := client.Put(ctx, tc.req)
		p := grpcstatus.ToProblem(err)
		if p == nil || p.Code != tc.code || (tc.path != "" && (len(p.Violations) != 1 || p.Violations[0].Path != tc.path)) {
			t.Errorf("%s: %v, want %s at %q", tc.name, err, tc.code, tc.path)
		}
	}
	if a.written() != 0 {
		t.Errorf("%d writes", a.written())
	}
}

func TestApplyStreamsAreBounded(t *testing.T) {
	t.Parallel()
	a := serve(t)
	ctx := a.as(t.Context(), a.token("a", optionsv1.Role_ROLE_OPERATOR))
	stream, err := adminv1.NewResourceServiceClient(a.conn).Apply(ctx)
	if err != nil {
		t.Fatal(err)
	}
	header := &adminv1.ApplyHeader{Group: "a", ContentType: "application/yaml"}
	err = stream.Send(&adminv1.ApplyRequest{Message: &adminv1.ApplyRequest_Header{Header: header}})
	chunk := []byte(strings.Repeat("#", 1<<20))
	for i := 0; err == nil && i < 70; i++ {
		err = stream.Send(&adminv1.ApplyRequest{Message: &adminv1.ApplyRequest_Chunk{Chunk: chunk}})
	}
	if err != nil && !errors.Is(err, io.EOF) {
		t.Fatal(err)
	}
	_, err = stream.CloseAndRecv()
	if p := grpcstatus.ToProblem(err); p == nil || p.Code != problem.TooLarge {
		t.Errorf("CloseAndRecv = %v, want too large", err)
	}
}

func TestMessagesAreBounded(t *testing.T) {
	t.Parallel()
	a := serve(t)
	client, ctx := adminv1.NewResourceServiceClient(a.conn), a.as(t.Context(), a.admin())
	_, err := client.Patch(ctx, &adminv1.PatchRequest{Group: "a", Kind: "services", Name: "s", MergePatch: make([]byte, 5<<20)})
	if status.Code(err) != codes.ResourceExhausted {
		t.Errorf("Patch of 5 MiB = %v, want ResourceExhausted", err)
	}
}

func TestExplainAndTestRouteWithAConsumer(t *testing.T) {
	t.Parallel()
	a := serve(t)
	admin := a.admin()
	doc := `
settings: {require_https: false, policies: [{type: ip-restriction, config: {allow: [10.0.0.0/8]}}]}
services: [{name: s, url: "http://h"}]
routes:
  - {name: r, service: s, hosts: [h.test], paths: [/a], methods: [GET], policies: [{type: rate-limit, config: {windows: [{limit: 5, window: 1m}]}}]}
consumers: [{name: alice, groups: [gold], policies: [{type: rate-limit, config: {windows: [{limit: 9, window: 1m}]}}]}]
consumer-groups: [{name: gold}]
`
	if got := a.call("POST", "/v1/groups/a:apply", admin, doc, "Content-Type: application/yaml"); got.status != 200 {
		t.Fatalf("apply: %d %s", got.status, got.body)
	}
	chain := func(path string) string {
		var out []string
		links, _ := a.call("GET", path, admin, "").json(t)["chain"].([]any)
		for _, l := range links {
			link := l.(map[string]any)
			out = append(out, strings.TrimSpace(link["bound_on"].(string)+":"+link["type"].(string)+" "+link["suppressed"].(string)))
		}
		return strings.Join(out, "; ")
	}
	if got, want := chain("/v1/groups/a/routes/r:explain"), "settings:ip-restriction; routes:rate-limit"; got != want {
		t.Errorf("explain = %s, want %s", got, want)
	}
	want := "settings:ip-restriction; routes:rate-limit overridden by consumers/alice; consumers:rate-limit"
	if got := chain("/v1/groups/a/routes/r:explain?consumer=alice"); got != want {
		t.Errorf("explain for alice = %s, want %s", got, want)
	}
	if got := a.call("GET", "/v1/groups/a/routes/r:explain?consumer=bob", admin, ""); got.status != 404 {
		t.Errorf("explain for nobody: %d", got.status)
	}
	for _, tc := range []struct {
		body   string
		status int
		result float64
	}{
		{`{"method": "GET", "url": "http://h.test/a/b", "consumer": "alice"}`, 200, 0},
		{`{"method": "POST", "url": "http://h.test/a"}`, 200, 405},
		{`{"method": "GET", "url": "http://h.test/b"}`, 200, 404},
		{`{"method": "GET", "url": "http://h.test/a/%2F"}`, 200, 400},
		{`{"method": "", "url": "/a", "headers": ["x"]}`, 422, 0},
	} {
		got := a.call("POST", "/v1/groups/a:test-route", admin, tc.body)
		if got.status != tc.status || (tc.status == 200 && got.json(t)["status"] != tc.result) {
			t.Errorf("%s: %d %s", tc.body, got.status, got.body)
		}
	}
}
