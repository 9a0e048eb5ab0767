package scenario_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/genproto/googleapis/api/annotations"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	"keyward.dev/e2e/harness"
	adminv1 "keyward.dev/proto/gen/keyward/admin/v1"
	optionsv1 "keyward.dev/proto/gen/keyward/options/v1"
	"keyward.dev/shared/testkit"
)

// caller is somebody with or without a token, and what it may do in group default and in the installation.
type caller struct {
	name, token     string
	inGroup, system optionsv1.Role
}

func callers(c *harness.Cluster) []caller {
	const (
		none       = optionsv1.Role_ROLE_ANYONE
		identified = optionsv1.Role_ROLE_IDENTIFIED
	)
	out := []caller{
		{"nobody", "", none, none},
		{"admin of another group", c.AdminToken("other", "other", "admin"), identified, identified},
	}
	for word, role := range map[string]optionsv1.Role{
		"viewer": optionsv1.Role_ROLE_VIEWER, "operator": optionsv1.Role_ROLE_OPERATOR, "admin": optionsv1.Role_ROLE_ADMIN,
	} {
		out = append(out,
			caller{word + " of the group", c.AdminToken("group-"+word, "default", word), role, identified},
			caller{word + " of everything", c.AdminToken("all-"+word, "*", word), role, role})
	}
	return out
}

func (who caller) may(m protoreflect.MethodDescriptor) bool {
	permission := proto.GetExtension(m.Options(), optionsv1.E_Permission).(*optionsv1.Permission)
	if permission.GetScope() == optionsv1.Scope_SCOPE_GROUP {
		return who.inGroup >= permission.GetRole()
	}
	return who.system >= permission.GetRole()
}

func (who caller) refused() (code codes.Code, httpStatus int) {
	if who.inGroup == optionsv1.Role_ROLE_ANYONE {
		return codes.Unauthenticated, http.StatusUnauthorized
	}
	return codes.PermissionDenied, http.StatusForbidden
}

// methods are all RPCs of the admin API.
func methods(t *testing.T) []protoreflect.MethodDescriptor {
	t.Helper()
	var out []protoreflect.MethodDescriptor
	for _, file := range []protoreflect.FileDescriptor{adminv1.File_keyward_admin_v1_admin_proto, adminv1.File_keyward_admin_v1_authority_proto, adminv1.File_keyward_admin_v1_keyring_proto, adminv1.File_keyward_admin_v1_resource_proto} {
		for i := range file.Services().Len() {
			all := file.Services().Get(i).Methods()
			for j := range all.Len() {
				out = append(out, all.Get(j))
			}
		}
	}
	if len(out) < 25 {
		t.Fatalf("only %d RPCs found", len(out))
	}
	return out
}

// TestEveryCallNeedsItsRole asks every RPC over gRPC and every path over REST as callers of every kind.
func TestEveryCallNeedsItsRole(t *testing.T) {
	t.Parallel()
	c := harness.New(t, harness.Options{})
	c.CreateGroup("other")
	c.Apply(withUpstream("127.0.0.1:9"))
	conn := c.AdminConn()
	for _, who := range callers(c) {
		before := dump(c, "resources", "heads", "groups", "gateways", "audit", "join_tokens", "admin_tokens")
		for _, m := range methods(t) {
			checkCall(t, c, conn, who, m)
		}
		after := dump(c, "resources", "heads", "groups", "gateways", "audit", "join_tokens", "admin_tokens")
		if who.inGroup < optionsv1.Role_ROLE_OPERATOR && after != before {
			t.Errorf("%s changed something: %s", who.name, cmp.Diff(before, after))
		}
	}
	if left := c.OpenAPI().Uncovered(); len(left) > 0 {
		t.Errorf("the OpenAPI document has operations that no RPC has: %v", left)
	}
}

// checkCall makes a call in both ways.
func checkCall(t *testing.T, c *harness.Cluster, conn *grpc.ClientConn, who caller, m protoreflect.MethodDescriptor) {
	t.Helper()
	refusal, httpRefusal := who.refused()
	code := call(t.Context(), t, conn, who.token, m)
	if isRefusal := code == codes.PermissionDenied || code == codes.Unauthenticated; isRefusal == who.may(m) || (isRefusal && code != refusal) {
		t.Errorf("gRPC %s as %s: %v, want allowed = %t", m.FullName(), who.name, code, who.may(m))
	}
	for _, r := range restOf(m) {
		got := c.RESTAs(who.token, r.method, r.path, r.body, "Content-Type", r.contentType).Status
		isRefusal := got == http.StatusUnauthorized || got == http.StatusForbidden
		if isRefusal == who.may(m) || (isRefusal && got != httpRefusal) {
			t.Errorf("%s %s as %s: %d, want allowed = %t", r.method, r.path, who.name, got, who.may(m))
		}
	}
}

// TestGuessingTokensIsSlowedDown holds that wrong tokens run into a limit, and that who has a good one does not.
func TestGuessingTokensIsSlowedDown(t *testing.T) {
	t.Parallel()
	c := harness.New(t, harness.Options{})
	const path = "/v1/groups/default/routes"
	var limited harness.Answer
	for i := range 2000 {
		a := c.RESTAs(fmt.Sprintf("kwa_%012d_%s", i, strings.Repeat("A", 32)), http.MethodGet, path, "")
		if i == 0 && a.Status != http.StatusUnauthorized {
			t.Errorf("a wrong token: %d %s", a.Status, a.Body)
		}
		if a.Status == http.StatusTooManyRequests {
			limited = a
			break
		}
	}
	if limited.Status == 0 || limited.Header.Get("Retry-After") == "" {
		t.Errorf("2000 wrong tokens: %d %v %s", limited.Status, limited.Header, limited.Body)
	}
	if a := c.REST(http.MethodGet, path, ""); a.Status != http.StatusOK {
		t.Errorf("a good token from the same address: %d %s", a.Status, a.Body)
	}
}

func call(ctx context.Context, t *testing.T, conn *grpc.ClientConn, token string, m protoreflect.MethodDescriptor) codes.Code {
	t.Helper()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if token != "" {
		ctx = metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+token)
	}
	in, out := newMessage(t, m.Input()), newMessage(t, m.Output())
	for name, value := range map[protoreflect.Name]string{"group": "default", "kind": "routes"} {
		if field := m.Input().Fields().ByName(name); field != nil && field.Kind() == protoreflect.StringKind {
			in.ProtoReflect().Set(field, protoreflect.ValueOfString(value))
		}
	}
	if apply, ok := in.(*adminv1.ApplyRequest); ok {
		apply.Message = &adminv1.ApplyRequest_Header{Header: &adminv1.ApplyHeader{Group: "default", ContentType: "application/yaml"}}
	}
	desc := &grpc.StreamDesc{ClientStreams: m.IsStreamingClient(), ServerStreams: m.IsStreamingServer()}
	stream, err := conn.NewStream(ctx, desc, fmt.Sprintf("/%s/%s", m.Parent().FullName(), m.Name()))
	if err != nil {
		return status.Code(err)
	}
	_ = stream.SendMsg(in)
	_ = stream.CloseSend()
	if err := stream.RecvMsg(out); err != nil && !errors.Is(err, io.EOF) {
		return status.Code(err)
	}
	return codes.OK
}

func newMessage(t *testing.T, d protoreflect.MessageDescriptor) proto.Message {
	t.Helper()
	mt, err := protoregistry.GlobalTypes.FindMessageByName(d.FullName())
	if err != nil {
		t.Fatal(err)
	}
	return mt.New().Interface()
}

type restCall struct{ method, path, body, contentType string }

var pathVariable = regexp.MustCompile(`\{[a-z_]+\}`)

// restOf is how an RPC is reached over REST. What is named does not exist and what is sent is empty, so that little
// changes if the call is let in.
func restOf(m protoreflect.MethodDescriptor) []restCall {
	const (
		base      = "/v1/groups/default"
		jsonBody  = "application/json"
		mergeBody = "application/merge-patch+json"
		nothing   = `{}`
	)
	paths := []string{"/services/x", "/routes/x", "/consumers/x", "/consumer-groups/x", "/consumers/x/credentials/x", "/certificates/x", "/ca-certificates/x", "/secret-providers/x", "/credential-stores/x", "/redis-stores/x", "/acme-issuers/x"}
	each := func(method, body, contentType string) (out []restCall) {
		for _, p := range paths {
			out = append(out, restCall{method, base + p, body, contentType})
		}
		return out
	}
	switch m.FullName() {
	case "keyward.admin.v1.ResourceService.Get":
		return append(each(http.MethodGet, "", ""), restCall{http.MethodGet, base + "/settings", "", ""})
	case "keyward.admin.v1.ResourceService.List":
		var out []restCall
		for _, p := range []string{"/services", "/routes", "/consumers", "/consumer-groups", "/consumers/alice/credentials", "/certificates", "/ca-certificates", "/secret-providers", "/credential-stores", "/redis-stores", "/acme-issuers"} {
			out = append(out, restCall{http.MethodGet, base + p, "", ""})
		}
		return out
	case "keyward.admin.v1.ResourceService.Put":
		return append(each(http.MethodPut, nothing, jsonBody), restCall{http.MethodPut, base + "/settings", nothing, jsonBody})
	case "keyward.admin.v1.ResourceService.Patch":
		return append(each(http.MethodPatch, nothing, mergeBody), restCall{http.MethodPatch, base + "/settings", nothing, mergeBody})
	case "keyward.admin.v1.ResourceService.Delete":
		return each(http.MethodDelete, "", "")
	case "keyward.admin.v1.ResourceService.Apply":
		return []restCall{{http.MethodPost, base + ":apply", nothing, jsonBody}}
	case "keyward.admin.v1.ResourceService.Export":
		return []restCall{{http.MethodGet, base + ":export", "", ""}}
	}
	rule := proto.GetExtension(m.Options(), annotations.E_Http).(*annotations.HttpRule)
	method, path := http.MethodGet, rule.GetGet()
	switch pattern := rule.GetPattern().(type) {
	case *annotations.HttpRule_Post:
		method, path = http.MethodPost, pattern.Post
	case *annotations.HttpRule_Delete:
		method, path = http.MethodDelete, pattern.Delete
	}
	path = strings.NewReplacer("{group}", "default", "{revision}", "1").Replace(path)
	body, contentType := "", ""
	if rule.GetBody() != "" {
		body, contentType = nothing, jsonBody
	}
	return []restCall{{method, pathVariable.ReplaceAllString(path, "x"), body, contentType}}
}

// dump is what tables hold, as text.
func dump(c *harness.Cluster, tables ...string) string {
	var b strings.Builder
	for _, table := range tables {
		for _, row := range c.Rows(fmt.Sprintf("select t::text from %s t order by 1", table)) {
			b.WriteString(table + " " + row[0] + "\n")
		}
	}
	return b.String()
}

// TestTokensEndWhenTheyShould holds that a token past its end and a deleted one are useless on every replica.
func TestTokensEndWhenTheyShould(t *testing.T) {
	t.Parallel()
	c := harness.New(t, harness.Options{Replicas: 2})
	made := c.REST(http.MethodPost, "/v1/admin-tokens", `{name: short, grants: [{group: default, role: viewer}], ttl: 2s}`)
	var short struct {
		Secret string `json:"secret"`
	}
	if err := made.JSON(&short); err != nil || short.Secret == "" {
		t.Fatalf("create token: %d %s", made.Status, made.Body)
	}
	long := c.AdminToken("long", "default", "viewer")
	const path = "/v1/groups/default/routes"
	for _, token := range []string{short.Secret, long} {
		if got := c.RESTAs(token, http.MethodGet, path, ""); got.Status != http.StatusOK {
			t.Errorf("a fresh token: %d %s", got.Status, got.Body)
		}
	}
	if a := c.REST(http.MethodDelete, "/v1/admin-tokens/"+idOf(long), ""); a.Status/100 != 2 {
		t.Fatalf("delete token: %d %s", a.Status, a.Body)
	}
	for i := range c.Replicas {
		c.UseReplica(i)
		awaitStatus(t, c, long, path, http.StatusUnauthorized, "a deleted token")
		awaitStatus(t, c, short.Secret, path, http.StatusUnauthorized, "a token past its end")
	}
}

func awaitStatus(t *testing.T, c *harness.Cluster, token, path string, want int, what string) {
	t.Helper()
	testkit.Await(t, 5*time.Second, func() error {
		if a := c.RESTAs(token, http.MethodGet, path, ""); a.Status != want {
			return fmt.Errorf("%s: %d, want %d", what, a.Status, want)
		}
		return nil
	})
}
