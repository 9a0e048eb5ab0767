package authorize

import (
	"bytes"

	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"

	"keyward.dev/dataplane/internal/exchange"
	"keyward.dev/shared/check/expression"
)

// variables are what conditions see of an exchange. They are made when a condition asks for them.
type variables struct {
	x       *exchange.Exchange
	headers lazyMap
	query   lazyMap
}

func newVariables() *variables {
	v := &variables{}
	v.headers.of, v.query.of = (*headers)(v), (*query)(v)
	return v
}

// nobody is the principal of requests that are not authenticated.
var nobody = &exchange.Principal{}

// Parent implements expression.Variables.
func (v *variables) Parent() expression.Variables { return nil }

// ResolveName implements expression.Variables.
func (v *variables) ResolveName(name string) (any, bool) {
	if value := v.ofRequest(name); value != nil {
		return value, true
	}
	p := v.x.Principal
	if p == nil {
		p = nobody
	}
	if value := ofPrincipal(p, name); value != nil {
		return value, true
	}
	switch name {
	case expression.Route:
		return types.String(v.x.Route.Name), true
	case expression.Service:
		return types.String(v.x.Route.Service), true
	case expression.Now:
		return types.Timestamp{Time: v.x.Timings.Received.UTC()}, true
	}
	return nil, false
}

func (v *variables) ofRequest(name string) ref.Val {
	q := &v.x.Request
	switch name {
	case expression.Method:
		return text(q.Method)
	case expression.Path:
		return text(q.Path)
	case expression.RawPath:
		path, _, _ := bytes.Cut(q.RawTarget, []byte("?"))
		return text(path)
	case expression.Host:
		return text(q.Host)
	case expression.Scheme:
		return types.String(q.Scheme)
	case expression.RemoteIP:
		return address(q.RemoteAddr.Addr())
	case expression.ClientIP:
		return address(q.ClientIP)
	case expression.TLS:
		return types.Bool(q.TLS)
	case expression.Headers:
		return &v.headers
	case expression.Query:
		return &v.query
	}
	return nil
}

func ofPrincipal(p *exchange.Principal, name string) ref.Val {
	switch name {
	case expression.Kind:
		return types.String(kind(p.Kind))
	case expression.Consumer:
		return types.String(p.Consumer)
	case expression.Subject:
		return types.String(p.Subject())
	case expression.How:
		return types.String(p.How)
	case expression.Groups:
		return types.NewStringList(types.DefaultTypeAdapter, p.Groups)
	case expression.Scopes:
		return types.NewStringList(types.DefaultTypeAdapter, p.Scopes())
	case expression.Labels:
		return types.NewStringStringMap(types.DefaultTypeAdapter, p.Labels())
	case expression.Claims:
		return types.NewStringInterfaceMap(types.DefaultTypeAdapter, p.Claims())
	}
	return nil
}

func kind(k exchange.PrincipalKind) string {
	switch k {
	case exchange.KindUser:
		return "user"
	case exchange.KindMachine:
		return "machine"
	default:
		return "anonymous"
	}
}
