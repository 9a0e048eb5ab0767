package catalog_test

import (
	"slices"
	"strings"
	"testing"

	"keyward.dev/shared/catalog"
)

// TestRules has, for each rule of the decoder, a document that keeps it and one that breaks it.
func TestRules(t *testing.T) {
	t.Parallel()
	c := newCatalog(t)
	const credential = "{name: a, consumer: alice, type: key-auth, config: "
	for _, tt := range []struct {
		rule, kind   string
		accept       string
		reject, path string
		reason       string
	}{
		{"known fields", "routes", "{name: r, service: s}", "{name: r, servce: s}", "servce", `did you mean "service"?`},
		{"snake case only", "settings", "{require_https: true}", "{requireHttps: true}", "requireHttps", `did you mean "require_https"?`},
		{"keys stand once", "routes", "{name: r}", "{name: r, name: s}", "name", "written twice"},
		{"keys are strings", "routes", `{labels: {"1": a}}`, "{labels: {1: a}}", "labels", "a key must be a string"},
		{"no anchors", "routes", "{name: r}", "{name: &x r}", "", "anchors are not supported"},
		{"no aliases", "routes", `{name: r, description: "*x"}`, "{name: r, description: *x}", "", "aliases are not supported"},
		{"no tags", "routes", `{name: "1"}`, "{name: !!str 1}", "", "tags are not supported"},
		{"no merge keys", "routes", "{name: r}", "{<<: {name: r}}", "", "merge keys are not supported"},
		{"one document", "routes", "name: r\n", "name: r\n---\nname: s\n", "", "one document"},
		{"syntax", "routes", "name: r", "name: [", "", "this is not YAML"},
		{"a mapping", "routes", "{}", "[]", "", "expected a mapping, found a list"},
		{"not null", "routes", "{}", "{service: null}", "service", "leave the field out"},
		{"strings are quoted numbers", "routes", `{description: "123"}`, "{description: 123}", "description", "put it in quotes"},
		{"strings are quoted booleans", "routes", `{description: yes}`, "{description: true}", "description", "put it in quotes"},
		{"strings are quoted null", "routes", `{description: "~"}`, "{description: ~}", "description", "null is not a value"},
		{"booleans", "settings", "{require_https: false}", `{require_https: "false"}`, "require_https", "without quotes"},
		{"booleans of YAML 1.1", "settings", "{require_https: true}", "{require_https: off}", "require_https", "expected true or false"},
		{"integers", "routes", "{priority: -7}", `{priority: "7"}`, "priority", "without quotes"},
		{"no floats", "routes", "{priority: 7}", "{priority: 7.5}", "priority", "expected an integer"},
		{"plain decimal", "routes", "{priority: 0}", "{priority: 0x10}", "priority", "plain decimal"},
		{"no octal", "routes", "{priority: 10}", "{priority: 010}", "priority", "plain decimal"},
		{"range", "routes", "{priority: 2147483647}", "{priority: 2147483648}", "priority", "between -2147483648 and 2147483647"},
		{"unsigned", "services", "{pool: {max_idle: 0}}", "{pool: {max_idle: -1}}", "pool.max_idle", "between 0 and"},
		{"sizes", "settings", "{limits: {body: 64KiB, head: 4096}}", "{limits: {body: 64KB}}", "limits.body", "not a size"},
		{"size overflow", "settings", "{limits: {body: 1TiB}}", "{limits: {body: 99999999999TiB}}", "limits.body", "not a size"},
		{"zero that means default", "settings", "{limits: {body: 1}}", "{limits: {body: 0}}", "limits.body", "must not be empty or 0"},
		{"durations", "services", "{timeouts: {connect: 250ms, idle: 1h30m, total: 0s}}", "{timeouts: {connect: 5}}", "timeouts.connect", "expected a duration"},
		{"duration units", "services", "{timeouts: {connect: 5m}}", "{timeouts: {connect: 5min}}", "timeouts.connect", "not a duration"},
		{"no negative durations", "services", "{timeouts: {connect: 1s}}", "{timeouts: {connect: -1s}}", "timeouts.connect", "not a duration"},
		{"times", "credentials", "{expires: 2026-01-31T12:00:00Z}", "{expires: 2026-01-31}", "expires", "not a time"},
		{"enums", "services", "{protocol: https}", "{protocol: PROTOCOL_HTTPS}", "protocol", "is not one of: http, https"},
		{"enum words only", "services", "{protocol: http}", "{protocol: 1}", "protocol", "expected one of: http, https"},
		{"lists", "routes", "{headers: []}", "{headers: {}}", "headers", "expected a list"},
		{"scalar for list", "routes", "{hosts: a.test}", "{policies: key-auth}", "policies", "expected a list"},
		{"scalar for message", "routes", `{paths: [/a]}`, `{rewrite: /a}`, "rewrite", "expected a mapping"},
		{"scalar of the right type", "routes", `{paths: [/a]}`, `{paths: [1]}`, "paths[0]", "expected a string"},
		{"list for message", "routes", `{authn: {any_of: [[a, b], c]}}`, `{authn: {any_of: [[1]]}}`, "authn.any_of[0][0]", "expected a string"},
		{"oneof", "routes", `{paths: [{exact: /a}]}`, `{paths: [{exact: /a, regex: /b}]}`, "paths[0].regex", "exact and regex exclude each other"},
		{"unique", "routes", "{methods: [GET, PUT]}", "{methods: [GET, GET]}", "methods[1]", "the same as element 0"},
		{"unique in normal form", "settings", "{trusted_proxies: [10.0.0.0/8]}", "{trusted_proxies: [10.0.0.0/8, 10.1.2.3/8]}", "trusted_proxies[1]", "the same as element 0"},
		{"names", "routes", "{name: a.B_c@d-9}", "{name: -a}", "name", "is not a name"},
		{"name length", "routes", "{name: " + strings.Repeat("a", 128) + "}", "{name: " + strings.Repeat("a", 129) + "}", "name", "is not a name"},
		{"methods", "routes", "{methods: PURGE}", "{methods: get}", "methods", "upper-case"},
		{"hosts", "routes", "{hosts: [Api.Test, \"*.b.test\"]}", "{hosts: [\"a.*.test\"]}", "hosts[0]", "a star stands alone"},
		{"no star host", "routes", "{hosts: []}", `{hosts: ["*"]}`, "hosts[0]", "leave hosts out"},
		{"host without port", "routes", "{hosts: [a.test]}", `{hosts: ["a.test:80"]}`, "hosts[0]", "without a port"},
		{"A-labels", "routes", "{hosts: [xn--bcher-kva.test]}", `{hosts: [bücher.test]}`, "hosts[0]", "A-labels"},
		{"IPv4 hosts", "routes", `{hosts: [10.0.0.1]}`, `{hosts: [10.0.0.300]}`, "hosts[0]", "not a host name"},
		{"paths", "routes", "{paths: [/a%20b]}", `{paths: ["/a b"]}`, "paths[0]", "not an absolute path"},
		{"absolute paths", "routes", "{paths: [/]}", `{paths: [{exact: a}]}`, "paths[0].exact", "not an absolute path"},
		{"regex", "routes", `{paths: [{regex: "/[0-9]+"}]}`, `{paths: [{regex: "/["}]}`, "paths[0].regex", "not an RE2 expression"},
		{"regex size", "routes", `{paths: [{regex: "/x{1,100}"}]}`, `{paths: [{regex: "/((x{100}){100}){9}"}]}`, "paths[0].regex", "not an RE2 expression"},
		{"urls", "services", "{url: \"https://A.test:8443/x\"}", "{url: ftp://a.test}", "url", "does not begin with http"},
		{"no user in urls", "services", "{url: http://a.test}", "{url: \"http://u:p@a.test\"}", "url", "without user and password"},
		{"no query in urls", "services", "{url: http://a.test/x}", "{url: \"http://a.test/?x\"}", "url", "no query"},
		{"port in urls", "services", "{url: \"http://[::1]:80\"}", "{url: \"http://a.test:0\"}", "url", "ports are 1 to 65535"},
		{"host:port", "services", `{targets: ["[::1]:80", {address: "a:1"}]}`, `{targets: ["::1:80"]}`, "targets[0]", "IPv6 address stands in brackets"},
		{"ports", "services", `{targets: ["a:65535"]}`, `{targets: ["a:65536"]}`, "targets[0]", "1 to 65535"},
		{"networks", "settings", "{trusted_proxies: [10.1.2.3, \"fd00::/8\"]}", "{trusted_proxies: [10.0.0.0/33]}", "trusted_proxies[0]", "not an IP address or CIDR"},
		{"percentages", "services", "{retries: {budget: 0.5%}}", "{retries: {budget: 20}}", "retries.budget", "expected a percentage such as 20%, found a number"},
		{"percentages up to all", "settings", "{access_log: {sample: 100.0000%}}", "{access_log: {sample: 100.0001%}}", "access_log.sample", "from 0% to 100%"},
		{"digits of percentages", "settings", "{access_log: {sample: 0.0001%}}", "{access_log: {sample: 0.00001%}}", "access_log.sample", "down to 0.0001%"},
		{"percentages with their sign", "settings", "{access_log: {sample: 0%}}", `{access_log: {sample: "0.2"}}`, "access_log.sample", "not a percentage"},
		{"words for mappings", "services", "{balancer: peak-ewma}", "{balancer: fastest}", "balancer", "is not one of: round-robin, least-connections, peak-ewma, consistent-hash"},
		{"words in words", "services", "{balancer: {hash_on: ip}}", "{balancer: {hash_on: [ip]}}", "balancer.hash_on", "expected a string or a mapping"},
		{"lists of words", "services", "{retries: {on: [connect, gateway-timeout]}}", "{retries: {on: [connect, 504]}}", "retries.on[1]", "expected one of: connect"},
		{"words once", "services", "{retries: {on: reset}}", "{retries: {on: [reset, connect, reset]}}", "retries.on[2]", "the same as element 0"},
		{"maps of mappings", "settings", "{listeners: {http: {proxy_protocol: true}}}", "{listeners: {http: {proxy: true}}}", "listeners.http.proxy", "unknown field"},
		{"maps are mappings", "settings", "{listeners: {}}", "{listeners: [http]}", "listeners", "expected a mapping, found a list"},
		{"TLS versions as text", "services", `{tls: {min_version: "1.2", max_version: TLSv1.3}}`, `{tls: {min_version: "1.1"}}`, "tls.min_version", "not a version of TLS that is spoken: 1.2, 1.3"},
		{"TLS versions as numbers", "services", "{tls: {min_version: 1.2, max_version: 772}}", "{tls: {max_version: 1.30}}", "tls.max_version", "not a version of TLS"},
		{"server names", "services", "{tls: {sni: A.test.}}", `{tls: {sni: "*.a.test"}}`, "tls.sni", "not a host name or address"},
		{"names in certificates", "services", `{tls: {san: [a.test, "fd00::1", "[::1]", 10.0.0.1]}}`, `{tls: {san: "a.test:443"}}`, "tls.san", "without a port"},
		{"URIs in certificates", "services", `{tls: {san: spiffe://a.test/ns/b}}`, `{tls: {san: "spiffe://a.test?x"}}`, "tls.san", "is not a URI of the form"},
		{"names in certificates once", "services", "{tls: {san: [a.test, b.test]}}", "{tls: {san: [a.test, A.TEST]}}", "tls.san[1]", "the same as element 0"},
		{"pins in Base64", "services", "{tls: {pins: 47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=}}", "{tls: {pins: 47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuA==}}", "tls.pins", "not a SHA-256 hash"},
		{
			"pins in hex", "services", "{tls: {pins: E3B0C44298FC1C149AFBF4C8996FB92427AE41E4649B934CA495991B7852B855}}",
			"{tls: {pins: [47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=, e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855]}}",
			"tls.pins[1]", "the same as element 0",
		},
		{"protocols", "routes", "{upgrade: [WebSocket, chat/2]}", "{upgrade: web socket}", "upgrade", "not the name of a protocol"},
		{"protocol versions", "routes", "{upgrade: chat/2}", "{upgrade: chat/}", "upgrade", "not the name of a protocol"},
		{"protocols once", "routes", "{upgrade: websocket}", "{upgrade: [websocket, WebSocket]}", "upgrade[1]", "the same as element 0"},
		{"optional sizes", "routes", "{limits: {body: 0}}", "{limits: {body: -1}}", "limits.body", "between 0 and"},
		{"policy types", "routes", "{policies: [{type: acl, config: {allow: x}}]}", "{policies: [{type: ack, config: {allow: x}}]}", "policies[0].type", `did you mean "acl"?`},
		{"type with config", "routes", "{policies: [{type: cors}]}", "{policies: [{config: {}}]}", "policies[0].type", "required"},
		{"config fields", "routes", "{policies: [{type: acl, config: {allow: x}}]}", "{policies: [{type: acl, config: {allowed: x}}]}", "policies[0].config.allowed", `did you mean "allow"?`},
		{"header names", "routes", "{policies: [{type: key-auth, config: {header: X-Key}}]}", "{policies: [{type: key-auth, config: {header: \"X Key\"}}]}", "policies[0].config.header", "not a field name"},
		{"credential types", "credentials", credential + "{key: x}}", "{type: key-ath, config: {key: x}}", "type", `did you mean "key-auth"?`},
		{"secret strings", "credentials", credential + `{key: "1"}}`, credential + "{key: 1}}", "config.key", "put it in quotes"},
		{"secret mapping", "credentials", credential + `{key: {plaintext: "{x"}}}`, credential + "{key: {plain: x}}}", "config.key", "none of plaintext, ref, hash and set"},
		{"secret kept", "credentials", credential + `{key: {set: true}}}`, credential + "{key: {set: false}}}", "config.key.set", "can only be true"},
		{"one form of a secret", "credentials", credential + `{key: {set: true}}}`, credential + "{key: {set: true, plaintext: x}}}", "config.key", "exactly one of"},
		{"no empty secret", "credentials", credential + `{key: null}}`, credential + `{key: ""}}`, "config.key", "must not be empty"},
		{"references", "credentials", credential + `{key: "{vault://corp/kv/x#f}"}}`, credential + `{key: "{vault://corp#f}"}}`, "config.key", "is not a reference"},
		{"references by ref", "credentials", credential + `{key: {ref: "{vault://corp/kv/x#f}"}}}`, credential + `{key: {ref: "vault://corp/kv/x#f"}}}`, "config.key.ref", "is not a reference"},
		{"broken references", "credentials", credential + `{key: "x{"}}`, credential + `{key: "{vault:/corp"}}`, "config.key", "is not a reference"},
		{"references of others", "credentials", credential + `{key: {plaintext: "env://X"}}}`, credential + `{key: "$secret://vault/1/x"}}`, "config.key", "of another product"},
		{"environment of others", "credentials", credential + `{key: "environment"}}`, credential + `{key: "env://X"}}`, "config.key", "of another product"},
		{"templates", "credentials", credential + `{key: "$x"}}`, credential + `{key: "${X}"}}`, "config.key", "of another product"},
		{"secrets are not lists", "credentials", credential + `{key: x}}`, credential + `{key: [x]}}`, "config.key", "found a list"},
	} {
		t.Run(tt.rule, func(t *testing.T) {
			t.Parallel()
			if _, vs := c.DecodeResource(tt.kind, []byte(tt.accept), catalog.YAML, catalog.Place{}); len(vs) > 0 {
				t.Errorf("%s is refused: %v", tt.accept, vs)
			}
			_, vs := c.DecodeResource(tt.kind, []byte(tt.reject), catalog.YAML, catalog.Place{})
			i := slices.Index(pathsOf(vs), tt.path)
			if i < 0 {
				t.Fatalf("%s gives %v, want one at %q", tt.reject, vs, tt.path)
			}
			if !strings.Contains(vs[i].Reason, tt.reason) {
				t.Errorf("reason = %q, want %q in it", vs[i].Reason, tt.reason)
			}
			if vs[i].Line == 0 {
				t.Errorf("%v has no position", vs[i])
			}
		})
	}
}

func TestJSONIsStrict(t *testing.T) {
	t.Parallel()
	c := newCatalog(t)
	for doc, reason := range map[string]string{
		`{"name":"r",}`:           "not JSON",
		`{"name":"r"} x`:          "not JSON",
		`{'name':'r'}`:            "not JSON",
		"{\"name\":\"r\" // c\n}": "not JSON",
		`{"name":"r","name":"s"}`: "written twice",
		`{"priority":1.0}`:        "expected an integer",
		`{"priority":1e2}`:        "expected an integer",
		`{"name":"\xff"}`:         "not JSON",
		"":                        "ends too early",
		strings.Repeat("[", 70) + "1" + strings.Repeat("]", 70): "nested too deeply",
	} {
		_, vs := c.DecodeResource("routes", []byte(doc), catalog.JSON, catalog.Place{})
		if len(vs) == 0 || !strings.Contains(vs[0].Reason, reason) {
			t.Errorf("%q gives %v, want %q", doc, vs, reason)
		}
	}
	item, vs := c.DecodeResource("routes", []byte("{\"name\": \"r\",\n \"description\": \"\\ud83d\\ude00\\/\"}"), catalog.JSON, catalog.Place{})
	if len(vs) > 0 {
		t.Fatal(vs)
	}
	if got := item.Message.ProtoReflect().Get(item.Message.ProtoReflect().Descriptor().Fields().ByName("description")).String(); got != "😀/" {
		t.Errorf("description = %q", got)
	}
	_, vs = c.DecodeResource("routes", []byte("{\"name\": \"r\",\n  \"servise\": \"s\"}"), catalog.JSON, catalog.Place{})
	if len(vs) != 1 || vs[0].Line != 2 || vs[0].Column != 3 {
		t.Errorf("violation = %+v, want one at line 2, column 3", vs)
	}
}

func TestPlaceOfASingleResource(t *testing.T) {
	t.Parallel()
	c := newCatalog(t)
	at := catalog.Place{Parent: "alice", Name: "a1"}
	item, vs := c.DecodeResource("credentials", []byte(`{"type": "key-auth"}`), catalog.JSON, at)
	if len(vs) > 0 || item.Name != "alice/a1" || item.Parent != "alice" {
		t.Errorf("item = %+v, %v", item, vs)
	}
	_, vs = c.DecodeResource("credentials", []byte(`{"name": "b", "consumer": "bob", "type": "key-auth"}`), catalog.JSON, at)
	if got := pathsOf(vs); !slices.Equal(got, []string{"consumer", "name"}) {
		t.Errorf("paths = %q, want consumer and name", got)
	}
	if _, vs := c.DecodeResource("gadgets", nil, catalog.JSON, at); len(vs) != 1 {
		t.Errorf("an unknown kind gives %v", vs)
	}
}

func TestLimitsOfDocuments(t *testing.T) {
	t.Parallel()
	c := newCatalog(t)
	for name, doc := range map[string]string{
		"size":  strings.Repeat(" ", catalog.DefaultMaxBytes+1),
		"utf-8": "name: \xff",
		"depth": strings.Repeat("[", 100) + strings.Repeat("]", 100),
		"bomb":  "a: &a [x,x]\nb: &b [*a,*a]\nc: [*b,*b]\n",
	} {
		if doc, vs := c.Decode([]byte(doc), ""); doc != nil || len(vs) != 1 {
			t.Errorf("%s: %v", name, vs)
		}
	}
}
