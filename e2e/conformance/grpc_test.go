package conformance_test

import (
	"context"
	"net"
	"os/exec"
	"testing"
	"time"

	"keyward.dev/e2e/harness"
	"keyward.dev/shared/testkit"
)

// interopCases are gRPC's own interoperability cases; those that need a cloud's credentials, several servers or a policy in the
// client are left out.
var interopCases = []string{
	"empty_unary", "large_unary", "client_streaming", "server_streaming", "ping_pong", "empty_stream", "timeout_on_sleeping_server", "cancel_after_begin",
	"cancel_after_first_response", "status_code_and_message", "special_status_message", "custom_metadata", "unimplemented_method", "unimplemented_service",
	"rpc_soak", "channel_soak",
}

// interop runs gRPC's client against gRPC's server through the gateway, with and without TLS to the upstream.
func interop(t *testing.T, s *site) func(t *testing.T) {
	t.Helper()
	plain, secure := testkit.Addr(t), testkit.Addr(t)
	s.serve("grpc", plain, ", protocol: grpc", "")
	s.serve("grpcs", secure, ", protocol: grpcs, tls: {verify: false}", "")
	return func(t *testing.T) {
		client, server := harness.Tool(t, "grpc-interop-client"), harness.Tool(t, "grpc-interop-server")
		cert := harness.NewCertificate(t, "grpcs.test")
		harness.StartServer(t, server, plain, "--port", port(t, plain))
		harness.StartServer(t, server, secure, "--port", port(t, secure), "--use_tls", "--tls_cert_file", cert.CertFile, "--tls_key_file", cert.KeyFile)
		gatewayHost, gatewayPort, err := net.SplitHostPort(s.HTTPS)
		if err != nil {
			t.Fatal(err)
		}
		for _, host := range []string{"grpc.test", "grpcs.test"} {
			for _, name := range interopCases {
				t.Run(host+"/"+name, func(t *testing.T) {
					t.Parallel()
					ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
					defer cancel()
					out, err := exec.CommandContext(ctx, client, "--use_tls", "--use_test_ca", "--ca_file", s.Cert.CAFile, "--server_host", gatewayHost, "--server_port", gatewayPort,
						"--server_host_override", host, "--test_case", name,
						"--soak_per_iteration_max_acceptable_latency_ms", "20000", "--soak_overall_timeout_seconds", "50").CombinedOutput()
					if err != nil {
						t.Errorf("%v\n%s", err, out)
					}
				})
			}
		}
	}
}

func port(t *testing.T, addr string) string {
	t.Helper()
	_, p, err := net.SplitHostPort(addr)
	if err != nil {
		t.Fatal(err)
	}
	return p
}
