package check_test

import (
	"testing"

	configv1 "keyward.dev/proto/gen/keyward/config/v1"
)

func TestClientCertificatesNameSomebody(t *testing.T) {
	t.Parallel()
	some, nobody := &configv1.ClientCertificates{Ca: []string{"ca"}}, &configv1.ClientCertificates{}
	service := func(c *configv1.ClientCertificates) *configv1.Service {
		return &configv1.Service{Name: "s", Url: "http://a", ClientCertificates: c}
	}
	route := func(c *configv1.RouteClientCertificates) *configv1.Route {
		return &configv1.Route{Name: "r", Service: "s", ClientCertificates: c}
	}
	const at = "client_certificates"
	holds(t, []rule{
		{"settings", &configv1.Settings{ClientCertificates: some}, &configv1.Settings{ClientCertificates: nobody}, at},
		{"service", service(some), service(nobody), at},
		{"route", route(&configv1.RouteClientCertificates{Allow: []string{"c"}}), route(&configv1.RouteClientCertificates{}), at},
		{"route that inherits", route(&configv1.RouteClientCertificates{Inherit: true}), route(&configv1.RouteClientCertificates{}), at},
	})
}
