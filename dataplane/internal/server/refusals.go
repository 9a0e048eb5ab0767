package server

import (
	"strings"

	"keyward.dev/dataplane/internal/exchange"
	"keyward.dev/dataplane/internal/httpwire"
)

// refusals are the answers of the gateway itself, prepared once.
type refusals struct {
	notReady, closed, badTarget, badHost, badMethod, plain, headers, uri, body, badBody, badRequest, notFound, upgrade, timeout *exchange.Refusal
	internal, unreachable, upstreamTimeout, noTarget, circuitOpen, exhausted, noTrust, headTimeout, lastHop                     *exchange.Refusal
	gone, bodyMemory                                                                                                            *exchange.Refusal
	noClient, revokedClient, unsureClient, badClient, misdirected                                                               *exchange.Refusal
}

// malformed returns the answer to a message that is refused for what is wrong with it.
func (r *refusals) malformed(e *httpwire.Error) *exchange.Refusal {
	switch e.Status {
	case 414:
		return r.uri
	case 431:
		return r.headers
	}
	return exchange.NewRefusal(e.Status, "malformed", "The request is malformed: "+e.Reason+".")
}

func newRefusals() *refusals {
	return &refusals{
		notReady: exchange.NewRefusal(503, "not_ready", "This gateway has no configuration yet.", exchange.Field("Retry-After", "1")),
		closed: exchange.NewRefusal(503, "closed",
			"The configuration of this route cannot be used, so the gateway does not serve it.", exchange.Field("Retry-After", "10")),
		badTarget:  exchange.NewRefusal(400, "bad_target", "The request target is malformed or ambiguous."),
		badRequest: exchange.NewRefusal(400, "malformed", "The request is malformed."),
		badHost:    exchange.NewRefusal(400, "bad_host", "The host is missing or malformed."),
		badMethod:  exchange.NewRefusal(501, "not_implemented", "The method is not supported."),
		plain:      exchange.NewRefusal(403, "https_required", "Use https."),
		headers:    exchange.NewRefusal(431, "headers_too_large", "The request has too many header fields, or too large ones."),
		uri:        exchange.NewRefusal(414, "uri_too_long", "The request target is too long."),
		body:       exchange.NewRefusal(413, "body_too_large", "The request body is too large."),
		gone:       exchange.NewRefusal(400, "client_gone", "The request body did not come."),
		bodyMemory: exchange.NewRefusal(503, "body_memory", "There is no memory now for a request body that has to be read whole.",
			exchange.Field("Retry-After", "1")),
		badBody:       exchange.NewRefusal(400, "bad_body", "The request body is not well-formed."),
		noClient:      exchange.NewRefusal(403, "client_certificate_required", "The route needs a client certificate."),
		badClient:     exchange.NewRefusal(403, "client_certificate_refused", "The client certificate is not allowed here."),
		revokedClient: exchange.NewRefusal(403, "client_certificate_revoked", "The client certificate is revoked."),
		unsureClient: exchange.NewRefusal(503, "client_certificate_unchecked",
			"It cannot be found out now whether the client certificate is revoked.", exchange.Field("Retry-After", "5")),
		misdirected:     exchange.NewRefusal(421, "misdirected", "The host needs a connection of its own: it asks for other client certificates than the name this one was made for."),
		notFound:        exchange.NewRefusal(404, "no_route", "No route takes this request."),
		upgrade:         exchange.NewRefusal(501, "upgrade_not_supported", "The connection cannot be upgraded."),
		timeout:         exchange.NewRefusal(408, "request_timeout", "The request body did not come in time."),
		internal:        exchange.NewRefusal(500, "internal", "The gateway could not process the request."),
		unreachable:     exchange.NewRefusal(502, "upstream_unreachable", "The service did not give a usable answer."),
		upstreamTimeout: exchange.NewRefusal(504, "upstream_timeout", "The service did not answer in time."),
		lastHop:         exchange.NewAnswer(204),
		headTimeout:     exchange.NewRefusal(408, "request_timeout", "The request head did not come in time."),
		circuitOpen:     exchange.NewRefusal(503, "circuit_open", "The service fails too often and is left alone for a while."),
		exhausted:       exchange.NewRefusal(503, "pool_exhausted", "All connections to the service are in use."),
		noTrust:         exchange.NewRefusal(503, "upstream_tls_unavailable", "What the service is verified by cannot be read."),
		noTarget:        exchange.NewRefusal(503, "no_target", "The service takes no requests now."),
	}
}

// unavailable returns the answer for a service that takes no request now.
func (r *refusals) unavailable(code string) *exchange.Refusal {
	for _, known := range []*exchange.Refusal{r.circuitOpen, r.exhausted, r.noTrust} {
		if known.Code() == code {
			return known
		}
	}
	return r.noTarget
}

func notAllowed(methods []string) *exchange.Refusal {
	return exchange.NewRefusal(405, "method_not_allowed", "The route does not take this method.",
		exchange.Field("Allow", strings.Join(methods, ", ")))
}
