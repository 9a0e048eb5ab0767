// Package check holds the rules about single resources that neither a type nor a format can say: what may be bound
// where, which keys are strong enough, what contradicts itself. Admission in the control plane and compilation in the
// gateway call the same functions, so what is admitted compiles. Rules that need other resources are admission's.
//
// The package is pure: no sockets, no files, no clock. It expects normalised messages, never changes them, and no
// violation repeats the value of a secret. Paths are relative to the message that is checked.
package check

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	configv1 "keyward.dev/proto/gen/keyward/config/v1"
	optionsv1 "keyward.dev/proto/gen/keyward/options/v1"
	"keyward.dev/shared/check/certs"
	"keyward.dev/shared/check/revocation"
	"keyward.dev/shared/problem"
)

// violations collects what is wrong below a path.
type violations []problem.Violation

func (v *violations) add(path, format string, args ...any) {
	*v = append(*v, problem.Violation{Path: path, Reason: fmt.Sprintf(format, args...)})
}

// Resource checks a resource of any kind.
func Resource(m proto.Message) []problem.Violation {
	switch m := m.(type) {
	case *configv1.Settings:
		return Settings(m)
	case *configv1.Service:
		return Service(m)
	case *configv1.Route:
		return Route(m)
	case *configv1.Consumer:
		return owner(optionsv1.Site_SITE_CONSUMER, m.GetLabels(), m.GetPolicies())
	case *configv1.ConsumerGroup:
		return owner(optionsv1.Site_SITE_CONSUMER_GROUP, m.GetLabels(), m.GetPolicies())
	case *configv1.Credential:
		return Credential(m)
	case *configv1.Certificate:
		_, vs := certs.Open(m)
		return slices.Concat(checkLabels(m.GetLabels()), serverNameTLS(m), certs.Order(m), vs)
	case *configv1.AcmeIssuer:
		return append(checkLabels(m.GetLabels()), acmeIssuer(m)...)
	case *configv1.CaCertificate:
		authorities, vs := certs.OpenCA(m)
		if len(vs) == 0 { // else what is signed by whom cannot be said
			_, vs = revocation.Open(m, authorities)
		}
		return append(checkLabels(m.GetLabels()), vs...)
	case *configv1.SecretProvider:
		return checkLabels(m.GetLabels())
	case *configv1.RedisStore:
		return append(checkLabels(m.GetLabels()), redisStore(m)...)
	case *configv1.CredentialStore:
		return append(checkLabels(m.GetLabels()), credentialStore(m)...)
	default:
		return nil
	}
}

// owner checks what all resources with policies have.
func owner(site optionsv1.Site, labels map[string]string, policies []*configv1.Binding) violations {
	vs := checkLabels(labels)
	for i, b := range policies {
		vs = append(vs, problem.Under(problem.Index("policies", i), Binding(site, b))...)
	}
	return vs
}

var labelKeyForm = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9._@/-]{0,126}[A-Za-z0-9])?$`)

const maxLabelValue = 256

// checkLabels keeps labels such that a selector (`key=value,key2!=value2`) can name them.
func checkLabels(labels map[string]string) violations {
	var vs violations
	for k, v := range labels {
		if !labelKeyForm.MatchString(k) {
			vs.add(problem.Key("labels", k), "a key is 1 to 128 letters, digits and . _ @ / -, with a letter or digit at both ends")
		}
		if len(v) > maxLabelValue || strings.ContainsFunc(v, func(r rune) bool { return r < ' ' || r == 0x7f || r == ',' }) {
			vs.add(problem.Key("labels", k), "a value has at most %d bytes, no comma and no control characters", maxLabelValue)
		}
	}
	return vs
}

// Binding checks a policy binding on a level.
func Binding(site optionsv1.Site, b *configv1.Binding) []problem.Violation {
	var vs violations
	cfg, opts, reason := policyOf(b)
	if reason != "" {
		vs.add("config", "%s", reason)
		return vs
	}
	if !slices.Contains(opts.GetBindableOn(), site) {
		vs.add("type", "%s cannot be bound on %s; it can be on %s", b.GetType(), siteName(site), siteNames(opts.GetBindableOn()))
	}
	if b.GetMode() == configv1.Mode_MODE_REPORT && opts.GetPhase() == optionsv1.Phase_PHASE_AUTHN {
		vs.add("mode", "an authentication policy cannot only report: nobody would know who calls")
	}
	return append(vs, problem.Under("config", Policy(cfg))...)
}

// policyOf unpacks the configuration of a binding and finds what its type declares.
func policyOf(b *configv1.Binding) (proto.Message, *optionsv1.PolicyOptions, string) {
	cfg, reason := unpack(b.GetConfig())
	if reason != "" {
		return nil, nil, reason
	}
	opts, _ := proto.GetExtension(cfg.ProtoReflect().Descriptor().Options(), optionsv1.E_Policy).(*optionsv1.PolicyOptions)
	if opts.GetType() != b.GetType() {
		return nil, nil, fmt.Sprintf("is not the configuration of policy type %q", b.GetType())
	}
	return cfg, opts, ""
}

func unpack(packed *anypb.Any) (proto.Message, string) {
	if packed.GetTypeUrl() == "" {
		return nil, "is missing"
	}
	m, err := packed.UnmarshalNew()
	if err != nil { // its text could repeat bytes of the value
		return nil, "cannot be read by this version"
	}
	return m, ""
}

// PolicyOptions returns what the type of a binding declares, nil if it is not known here.
func PolicyOptions(b *configv1.Binding) *optionsv1.PolicyOptions {
	_, opts, _ := policyOf(b)
	return opts
}

func siteName(s optionsv1.Site) string {
	switch s {
	case optionsv1.Site_SITE_SETTINGS:
		return "settings"
	case optionsv1.Site_SITE_SERVICE:
		return "a service"
	case optionsv1.Site_SITE_ROUTE:
		return "a route"
	case optionsv1.Site_SITE_CONSUMER_GROUP:
		return "a consumer group"
	case optionsv1.Site_SITE_CONSUMER:
		return "a consumer"
	default:
		return "this"
	}
}

func siteNames(sites []optionsv1.Site) string {
	names := make([]string, len(sites))
	for i, s := range sites {
		names[i] = siteName(s)
	}
	return strings.Join(names, ", ")
}
