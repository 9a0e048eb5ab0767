package adminapi

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"google.golang.org/protobuf/proto"

	adminv1 "keyward.dev/proto/gen/keyward/admin/v1"
	configv1 "keyward.dev/proto/gen/keyward/config/v1"
	optionsv1 "keyward.dev/proto/gen/keyward/options/v1"
	"keyward.dev/shared/catalog"
	"keyward.dev/shared/check/chain"
	"keyward.dev/shared/check/match"
	"keyward.dev/shared/problem"

	"keyward.dev/controlplane/internal/snapshot"
)

// ExplainRoute answers the effective policy chain of a route.
func (s *resources) ExplainRoute(ctx context.Context, req *adminv1.ExplainRouteRequest) (*adminv1.ExplainRouteResponse, error) {
	view, err := s.view(ctx, req.GetGroup(), 0)
	if err != nil {
		return nil, failure(err)
	}
	route, err := get[*configv1.Route](s, view, "routes", req.GetRoute())
	if err != nil {
		return nil, failure(err)
	}
	links, err := s.chain(view, route, req.GetConsumer())
	if err != nil {
		return nil, failure(err)
	}
	return &adminv1.ExplainRouteResponse{
		Route: route.GetName(), Service: route.GetService(), Chain: links, Fallthrough: route.GetFallthrough(),
	}, nil
}

// get returns the message of a resource that must be there.
func get[M proto.Message](s *resources, view *snapshot.View, kind, name string) (M, error) {
	var none M
	k, err := s.kind(kind)
	if err != nil {
		return none, err
	}
	r, err := find(view, k, name)
	if err != nil {
		return none, err
	}
	m, ok := r.Message.(M)
	if !ok {
		return none, problem.Errorf(problem.Internal, "the stored %s cannot be read: %s", catalog.Ref(kind, name), r.Unreadable)
	}
	return m, nil
}

// chain works out the links by the very rules gateways compile by.
func (s *resources) chain(view *snapshot.View, route *configv1.Route, consumer string) ([]*adminv1.Link, error) {
	in := chain.Input{
		Settings: ownerOf(view, "settings", "settings"), Service: ownerOf(view, "services", route.GetService()),
		Route: ownerOf(view, "routes", route.GetName()), Authn: route.GetAuthn(),
	}
	if consumer != "" {
		m, err := get[*configv1.Consumer](s, view, consumers, consumer)
		if err != nil {
			return nil, err
		}
		in.Consumer = ownerOf(view, consumers, consumer)
		for _, label := range m.GetGroups() {
			if o := ownerOf(view, "consumer-groups", label); o != nil {
				in.Groups = append(in.Groups, o)
			}
		}
	}
	effective := chain.Effective(s.policyOptions, in)
	out := make([]*adminv1.Link, 0, len(effective.Links))
	for i := range effective.Links {
		out = append(out, linkOf(&effective.Links[i]))
	}
	return out, nil
}

// ownerOf returns the bindings of a resource, nil if there is none.
func ownerOf(view *snapshot.View, kind, name string) *chain.Owner {
	r, ok := view.Get(kind, name)
	if !ok {
		return nil
	}
	o := &chain.Owner{Kind: kind, UID: r.UID, Name: name}
	if bound, ok := r.Message.(interface{ GetPolicies() []*configv1.Binding }); ok {
		o.Bindings = bound.GetPolicies()
	}
	return o
}

func (s *resources) policyOptions(word string) *optionsv1.PolicyOptions {
	p, ok := s.catalog.Policy(word)
	if !ok {
		return nil
	}
	o, _ := proto.GetExtension(p.Config.Descriptor().Options(), optionsv1.E_Policy).(*optionsv1.PolicyOptions)
	return o
}

func linkOf(l *chain.Link) *adminv1.Link {
	mode := "enforce"
	if l.Binding.GetMode() == configv1.Mode_MODE_REPORT {
		mode = "report"
	}
	suppressed := l.Suppressed
	if l.Fault != "" {
		suppressed = "closes the route: " + l.Fault
	}
	return &adminv1.Link{
		Phase: strings.ToLower(strings.TrimPrefix(l.Phase.String(), "PHASE_")), Type: l.Type, Name: l.Name,
		BoundOn: l.OwnerKind, BoundName: l.OwnerName, Suppressed: suppressed, Locked: l.Binding.GetLocked(), Mode: mode,
	}
}

// TestRoute answers which route takes a request.
func (s *resources) TestRoute(ctx context.Context, req *adminv1.TestRouteRequest) (*adminv1.TestRouteResponse, error) {
	u, headers, err := parseProbe(req)
	if err != nil {
		return nil, failure(err)
	}
	view, err := s.view(ctx, req.GetGroup(), 0)
	if err != nil {
		return nil, failure(err)
	}
	settings, err := get[*configv1.Settings](s, view, "settings", "settings")
	if err != nil && problem.Of(err).Code != problem.NotFound { // a group without any has the defaults
		return nil, failure(err)
	}
	if u.Scheme == "http" && (settings == nil || settings.RequireHttps == nil || settings.GetRequireHttps()) {
		return &adminv1.TestRouteResponse{Status: http.StatusForbidden, Reasons: []string{"settings.require_https refuses plain HTTP"}}, nil
	}
	strict := settings.GetPathPolicy() != configv1.PathPolicy_PATH_POLICY_PERMISSIVE
	probe, reason := normalise(u, headers, req.GetMethod(), strict)
	if reason != "" {
		return &adminv1.TestRouteResponse{Status: http.StatusBadRequest, Reasons: []string{reason}}, nil
	}
	out, err := s.route(view, probe, req.GetConsumer())
	return out, failure(err)
}

func (s *resources) route(view *snapshot.View, probe match.Request, consumer string) (*adminv1.TestRouteResponse, error) {
	var routes []*configv1.Route
	for r := range view.All("routes") {
		if m, ok := r.Message.(*configv1.Route); ok {
			routes = append(routes, m)
		}
	}
	res := match.Routes(routes, probe)
	out := &adminv1.TestRouteResponse{Reasons: res.Steps}
	if res.Route == nil {
		out.Status = int32(res.Status)
		return out, nil
	}
	out.Route, out.Service = res.Route.GetName(), res.Route.GetService()
	var err error
	out.Chain, err = s.chain(view, res.Route, consumer)
	return out, err
}

// parseProbe reads the request that is to be tested, telling all that is wrong with it.
func parseProbe(req *adminv1.TestRouteRequest) (*url.URL, []match.Field, error) {
	var vs []problem.Violation
	u, err := url.Parse(req.GetUrl())
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		vs = append(vs, problem.Violation{Path: "url", Reason: "must be an absolute http or https URL"})
	}
	if req.GetMethod() == "" {
		vs = append(vs, problem.Violation{Path: "method", Reason: "must be given"})
	}
	var headers []match.Field
	for i, line := range req.GetHeaders() {
		name, value, ok := strings.Cut(line, ":")
		if !ok || strings.TrimSpace(name) == "" {
			vs = append(vs, problem.Violation{Path: problem.Index("headers", i), Reason: "must be of the form name: value"})
			continue
		}
		headers = append(headers, match.Field{Name: strings.TrimSpace(name), Value: strings.TrimSpace(value)})
	}
	return u, headers, problem.Violated(vs)
}

// normalise brings the request into the form gateways match; reason says why one would refuse it.
func normalise(u *url.URL, headers []match.Field, method string, strict bool) (probe match.Request, reason string) {
	host, err := match.Host(nil, []byte(u.Host))
	if err != nil {
		return probe, fmt.Sprintf("the host is refused: %v", err)
	}
	target := u.EscapedPath()
	if target == "" {
		target = "/"
	}
	if u.RawQuery != "" {
		target += "?" + u.RawQuery
	}
	path, query, err := match.Target(nil, []byte(target), strict)
	if err != nil {
		return probe, fmt.Sprintf("the target is refused: %v", err)
	}
	return match.Request{Host: string(host), Path: string(path), Method: method, Headers: headers, Query: string(query)}, ""
}
