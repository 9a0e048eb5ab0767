package expression

import (
	"fmt"
	"slices"
	"strings"
	"sync"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/ext"
)

// The variables. Their dots are part of their names, so that an expression asks for nothing that it does not name.
const (
	Method   = "request.method"
	Path     = "request.path"
	RawPath  = "request.raw_path"
	Host     = "request.host"
	Scheme   = "request.scheme"
	Query    = "request.query"
	Headers  = "request.headers"
	RemoteIP = "request.remote_ip"
	ClientIP = "request.client_ip"
	TLS      = "request.tls"

	Kind     = "principal.kind"
	Consumer = "principal.consumer"
	Groups   = "principal.groups"
	Scopes   = "principal.scopes"
	Claims   = "principal.claims"
	Labels   = "principal.labels"
	Subject  = "principal.subject"
	How      = "principal.how"

	Route   = "route.name"
	Service = "route.service"
	Now     = "now"
)

// variables are the variables with their types.
func variables() map[string]*cel.Type {
	list := cel.ListType(cel.StringType)
	types := map[string]*cel.Type{
		Query: cel.MapType(cel.StringType, list), Headers: cel.MapType(cel.StringType, cel.StringType), TLS: cel.BoolType,
		Groups: list, Scopes: list, Now: cel.TimestampType,
		Claims: cel.MapType(cel.StringType, cel.DynType), Labels: cel.MapType(cel.StringType, cel.StringType),
	}
	for _, name := range []string{
		Method, Path, RawPath, Host, Scheme, RemoteIP, ClientIP, Kind, Consumer, Subject, How, Route, Service,
	} {
		types[name] = cel.StringType
	}
	return types
}

// environment is made once: it is immutable, and to make it takes longer than to compile an expression.
var environment = sync.OnceValues(newEnvironment)

func newEnvironment() (*cel.Env, error) {
	options := []cel.EnvOption{
		ext.Network(),
		cel.DefaultUTCTimeZone(true), cel.CrossTypeNumericComparisons(true),
		cel.ParserExpressionSizeLimit(MaxBytes), cel.ParserRecursionLimit(maxDepth),
		cel.ASTValidators(
			cel.ValidateDurationLiterals(), cel.ValidateTimestampLiterals(), cel.ValidateRegexLiterals(),
			cel.ValidateComprehensionNestingLimit(maxNesting),
		),
	}
	for name, t := range variables() {
		options = append(options, cel.Variable(name, t))
	}
	env, err := cel.NewEnv(options...)
	if err != nil {
		return nil, fmt.Errorf("make the environment of expressions: %w", err)
	}
	return env, nil
}

// alternatives lists the variables that begin with what an expression names and is none.
func alternatives(prefix string) []string {
	var names []string
	for name := range variables() {
		if strings.HasPrefix(name, prefix+".") {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}
