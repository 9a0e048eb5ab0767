package openapi_test

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"keyward.dev/shared/catalog"
	"keyward.dev/shared/testkit/openapicheck"

	"keyward.dev/controlplane/internal/adminapi/operation"
	"keyward.dev/controlplane/internal/openapi"
)

func document(t *testing.T) []byte {
	t.Helper()
	cat, err := catalog.New()
	if err != nil {
		t.Fatal(err)
	}
	ops, err := operation.List(cat.Kinds())
	if err != nil {
		t.Fatal(err)
	}
	doc, err := openapi.Document(cat, ops, "1.2.3")
	if err != nil {
		t.Fatal(err)
	}
	return doc
}

func TestDocumentIsStable(t *testing.T) {
	t.Parallel()
	if a, b := document(t), document(t); !bytes.Equal(a, b) {
		t.Error("two runs differ")
	}
}

func TestDocumentHasPathsPerKind(t *testing.T) {
	t.Parallel()
	var doc struct {
		Paths map[string]map[string]json.RawMessage `json:"paths"`
	}
	if err := json.Unmarshal(document(t), &doc); err != nil {
		t.Fatal(err)
	}
	for path, methods := range map[string]string{
		"/v1/groups/{group}/services/{name}":                                  "get put patch delete",
		"/v1/groups/{group}/services":                                         "get",
		"/v1/groups/{group}/settings":                                         "get put patch",
		"/v1/groups/{group}/consumers/{consumer}/credentials/{name}":          "get put patch delete",
		"/v1/groups/{group}/consumers/{consumer}/credentials":                 "get",
		"/v1/groups/{group}/consumer-groups/{name}":                           "get put patch delete",
		"/v1/groups/{group}:apply":                                            "post",
		"/v1/groups/{group}:export":                                           "get",
		"/v1/groups/{group}/routes/{route}:explain":                           "get",
		"/v1/groups/{group}:test-route":                                       "post",
		"/v1/groups/{group}/consumers/{consumer}/credentials/{name}:generate": "post",
		"/v1/groups/{group}/revisions/{revision}:wait":                        "get",
		"/v1/version":      "get",
		"/v1/admin-tokens": "get post",
	} {
		for method := range strings.FieldsSeq(methods) {
			if doc.Paths[path][method] == nil {
				t.Errorf("no %s %s", method, path)
			}
		}
		if got, want := len(doc.Paths[path]), len(strings.Fields(methods)); got != want {
			t.Errorf("%s: %d methods, want %d", path, got, want)
		}
	}
}

func TestSchemasTakeBothForms(t *testing.T) {
	t.Parallel()
	checker, err := openapicheck.New(document(t))
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name, schema, doc string
		ok                bool
	}{
		{"short", "Route", `{"service":"s","paths":["/a",{"exact":"/b"}],"hosts":"h","policies":[{"type":"key-auth","config":{"header":"X-K"}}]}`, true},
		{"normalised", "Route", `{"name":"r","service":"s","paths":[{"prefix":"/a"}],"hosts":["h"],"enabled":true,"uid":"u","etag":"3","revision":3}`, true},
		{"unknown field", "Route", `{"service":"s","stripPrefix":true}`, false},
		{"no service", "Route", `{"paths":["/a"]}`, false},
		{"unknown policy type", "Route", `{"service":"s","policies":[{"type":"nope"}]}`, false},
		{"field of another policy", "Route", `{"service":"s","policies":[{"type":"key-auth","config":{"windows":[]}}]}`, false},
		{"policy config", "Route", `{"service":"s","policies":[{"type":"rate-limit","config":{"windows":[{"limit":5,"window":"60s"}],"by":"consumer"}}]}`, true},
		{"enum in capitals", "Route", `{"service":"s","policies":[{"type":"rate-limit","config":{"windows":[{"limit":5,"window":"60s"}],"by":"CONSUMER"}}]}`, false},
		{"not a duration", "Route", `{"service":"s","policies":[{"type":"rate-limit","config":{"windows":[{"limit":5,"window":60}]}}]}`, false},
		{"target short", "Service", `{"targets":["10.0.0.1:80",{"address":"10.0.0.2:80","weight":5}]}`, true},
		{"secret plain", "Credential", `{"type":"key-auth","config":{"key":"k"}}`, true},
		{"secret kept", "Credential", `{"type":"key-auth","config":{"key":{"set":true}}}`, true},
		{"secret cleared", "Credential", `{"type":"key-auth","config":{"key":null}}`, true},
		{"secret hash", "Credential", `{"type":"key-auth","config":{"key":{"keyed_hash":{}}}}`, false},
		{"size", "Settings", `{"limits":{"body":"10MiB","head":1024}}`, true},
		{"too many headers", "Settings", `{"limits":{"headers":5000}}`, false},
		{"percentage", "Service", `{"url":"https://a","retries":{"budget":"20%","on":"reset","methods":["idempotent","POST"]},"circuit_breaker":{"failure_ratio":"5%"}}`, true},
		{"percentage without its sign", "Service", `{"url":"https://a","retries":{"budget":20}}`, false},
		{"word for a mapping", "Service", `{"url":"https://a","balancer":"peak-ewma"}`, true},
		{"mapping for a word", "Service", `{"url":"https://a","balancer":{"algorithm":"consistent-hash","hash_on":"ip"}}`, true},
		{"unknown word for a mapping", "Service", `{"url":"https://a","balancer":"fastest"}`, false},
		{"statuses", "Service", `{"url":"https://a","health":{"active":{"statuses":[200,404]},"passive":{"statuses":503}}}`, true},
		{"status that is none", "Service", `{"url":"https://a","health":{"passive":{"statuses":[99]}}}`, false},
		{"TLS", "Service", `{"url":"https://a","tls":{"min_version":1.3,"max_version":"1.3","pins":"47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=","san":["a","::1"]}}`, true},
		{"TLS of the past", "Service", `{"url":"https://a","tls":{"min_version":"1.1"}}`, false},
		{"pin of another size", "Service", `{"url":"https://a","tls":{"pins":"00"}}`, false},
		{"upgrade", "Route", `{"service":"s","upgrade":"websocket","max_stream_age":"1h","timeouts":{"idle":"5m"},"retries":{"attempts":1},"limits":{"body":0}}`, true},
		{"upgrade to nothing", "Route", `{"service":"s","upgrade":"web socket"}`, false},
		{"listeners", "Settings", `{"listeners":{"http":{"proxy_protocol":true}},"upgrades":false,"access_log":{"sample":"0.5%","client_ip":"hashed","redact":"path"}}`, true},
		{"listeners of something else", "Settings", `{"listeners":{"http":true}}`, false},
		{"file", "File", `{"group":"default","settings":{},"consumers":[{"name":"a","groups":"gold","credentials":[{"name":"a-1","type":"key-auth","config":{"key":"k"}}]}]}`, true},
		{"credentials outside a file", "Consumer", `{"credentials":[]}`, false},
	} {
		err := checker.Validate(tc.schema, "application/json", []byte(tc.doc))
		if (err == nil) != tc.ok {
			t.Errorf("%s: %v, want ok %v", tc.name, err, tc.ok)
		}
	}
}

func TestDescriptionsComeFromComments(t *testing.T) {
	t.Parallel()
	doc := string(document(t))
	for _, want := range []string{
		"What is done with request targets whose meaning differs between servers", // field
		"ListGateways answers the gateways that ever enrolled",                    // method
	} {
		if !strings.Contains(doc, want) {
			t.Errorf("description %q is missing", want)
		}
	}
}
