package proxybench_test

import (
	"fmt"
	"strings"
	"testing"

	"keyward.dev/e2e/load/proxybench"
)

func site(hosts int, tls string) proxybench.Site {
	return proxybench.Site{
		Dir: "/d", Plain: "127.0.0.1:1", TLS: tls, Upstream: "127.0.0.1:3", CertFile: "/c", KeyFile: "/k", Combined: "/b",
		Hosts: hosts, Workers: 1, Consumers: "/d/consumers",
	}
}

func TestConfigurations(t *testing.T) {
	t.Parallel()
	const tls = "127.0.0.1:2"
	lua := func(s proxybench.Site) string { return proxybench.NginxLuaConfig(s, "/d/policies.lua") }
	for _, test := range []struct {
		name     string
		config   string
		has, not []string
	}{
		{
			name: "nginx", config: proxybench.NginxConfig(site(1, tls)),
			has: []string{
				"master_process off;", "access_log off;", "keepalive 512;", `proxy_set_header Connection "";`, "server 127.0.0.1:3;",
				"listen 127.0.0.1:1 backlog", "listen 127.0.0.1:2 ssl http2 backlog", "server_name h0.bench.test;", "Ciphersuites TLS_AES_128_GCM_SHA256",
			},
			not: []string{"lua", "h1.bench.test"},
		},
		{
			name: "nginx without TLS", config: proxybench.NginxConfig(site(3, "")),
			has: []string{"listen 127.0.0.1:1; server_name h2.bench.test;"},
			not: []string{"ssl", "http2", "h3.bench.test"},
		},
		{
			name: "nginx with workers", config: proxybench.NginxConfig(proxybench.Site{Workers: 2}),
			has: []string{"worker_processes 2;"}, not: []string{"master_process"},
		},
		{
			name: "nginx with policies", config: lua(site(1, "")),
			has: []string{"ngx_http_lua_module.so", `loadfile("/d/policies.lua"))("/d/consumers")`, "policies.access()", "lua_shared_dict counters"},
		},
		{
			name: "haproxy", config: proxybench.HAProxyConfig(site(1, tls)),
			has: []string{"nbthread 1\n", "bind 127.0.0.1:2 ssl crt /b alpn h2,http/1.1", "req.hdr(host) -i h0.bench.test", "server upstream 127.0.0.1:3"},
			not: []string{"\tlog ", "map("},
		},
		{
			name: "haproxy with many routes", config: proxybench.HAProxyConfig(site(9, "")),
			has: []string{"map(/d/hosts.map)"}, not: []string{"ssl crt", "-i h0"},
		},
		{
			name: "upstream", config: proxybench.UpstreamConfig("/d", "127.0.0.1:3"),
			has: []string{"stub_status;", `location = /0 { return 200 ""; }`, strings.Repeat("x", 1024), "root /d/files;"}, not: []string{"= /64k"},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			if opened, closed := strings.Count(test.config, "{"), strings.Count(test.config, "}"); opened != closed {
				t.Errorf("%d braces open, %d close", opened, closed)
			}
			for _, want := range test.has {
				if !strings.Contains(test.config, want) {
					t.Errorf("no %q in\n%s", want, test.config)
				}
			}
			for _, unwanted := range test.not {
				if strings.Contains(test.config, unwanted) {
					t.Errorf("%q in\n%s", unwanted, test.config)
				}
			}
		})
	}
}

func TestScriptsAgreeWithTheConfigurations(t *testing.T) {
	t.Parallel()
	// The scripts make names and keys by themselves.
	for _, format := range []string{"Host: h%d.bench.test", "Load%07dxV2mN9pL4tR8wB1cD5fG6hJ3kS0"} {
		if !strings.Contains(proxybench.RandomScript, format) {
			t.Errorf("random.lua lacks %q", format)
		}
	}
	if got := fmt.Sprintf("h%d.bench.test Load%07dxV2mN9pL4tR8wB1cD5fG6hJ3kS0", 7, 7); got != proxybench.HostName(7)+" "+proxybench.Key(7) {
		t.Errorf("the configurations have %s %s", proxybench.HostName(7), proxybench.Key(7))
	}
	if got := proxybench.HostMap(2); got != "h0.bench.test backend\nh1.bench.test backend\n" {
		t.Errorf("HostMap() = %q", got)
	}
	if got := proxybench.ConsumerFile(2); strings.Count(got, "\n") != 2 || !strings.HasSuffix(got, " c1 gold\n") || got[40] != ' ' {
		t.Errorf("ConsumerFile() = %q", got)
	}
}

func TestDocuments(t *testing.T) {
	t.Parallel()
	bare := proxybench.Documents("g", "127.0.0.1:3", 2, 5, false)
	if len(bare) != 2 || strings.Contains(strings.Join(bare, ""), "policies") {
		t.Errorf("bare: %q", bare)
	}
	chain := proxybench.Documents("g", "127.0.0.1:3", 2, 45_000, true)
	if len(chain) != 1+1+3 {
		t.Fatalf("%d documents, want the group, the routes and three of consumers", len(chain))
	}
	for _, d := range chain {
		if !strings.HasPrefix(d, "group: g\n") {
			t.Errorf("a document begins %.40q", d)
		}
	}
	for _, policy := range []string{"ip-restriction", "key-auth", "rate-limit", "type: acl"} {
		if !strings.Contains(chain[0]+chain[1], policy) {
			t.Errorf("no %s in the chain", policy)
		}
	}
	if got := strings.Count(strings.Join(chain[2:], ""), "key-auth"); got != 45_000 {
		t.Errorf("%d credentials, want 45000", got)
	}
}
