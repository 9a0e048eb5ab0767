package proxybench

import (
	"fmt"
	"path/filepath"
	"strings"
)

// Site is what a peer is to serve. Every peer has one worker unless Workers says more, keeps connections to clients and
// upstream alive, and writes no log.
type Site struct {
	Dir      string // for its files
	Plain    string // host:port
	TLS      string // host:port; empty: none
	Upstream string // host:port
	// CertFile and KeyFile are PEM; Combined has both.
	CertFile, KeyFile, Combined string
	// Hosts is how many routes there are; each is a host.
	Hosts   int
	Workers int
	// Consumers is the file that the Lua policies read, see ConsumerLine.
	Consumers string
}

// HostName is the host of a route.
func HostName(i int) string { return fmt.Sprintf("h%d.bench.test", i) }

// ConsumerName is the name of a consumer.
func ConsumerName(i int) string { return fmt.Sprintf("c%d", i) }

// Key is the API key of a consumer.
func Key(i int) string { return fmt.Sprintf("Load%07dxV2mN9pL4tR8wB1cD5fG6hJ3kS0", i) }

const (
	// requests a connection may carry before it is closed; more than any run sends.
	keepAliveRequests = 1_000_000_000
	// idle connections that a peer keeps to the upstream: as many as the gateway keeps.
	upstreamConnections = 512
	// connections of clients, for ten thousand idle ones.
	clientConnections = 16_000
	// suite is one that all contenders have: without saying so each would choose another one.
	suite = "TLS_AES_128_GCM_SHA256"
)

// nginxMain is what every configuration of nginx begins with. A single worker is the only process: a master would leave it
// behind if it was killed, and the memory that both share would count twice.
func nginxMain(dir string, workers int, modules ...string) string {
	var b strings.Builder
	for _, m := range modules {
		fmt.Fprintf(&b, "load_module %s;\n", m)
	}
	processes := "master_process off"
	if workers > 1 {
		processes = fmt.Sprintf("worker_processes %d", workers)
	}
	fmt.Fprintf(&b, "daemon off;\n%s;\npid %s;\nerror_log %s;\n", processes, filepath.Join(dir, "pid"), filepath.Join(dir, "error.log"))
	fmt.Fprintf(&b, "events { worker_connections %d; }\n", clientConnections+2000)
	return b.String()
}

// nginxHTTP is what every http block of nginx begins with.
func nginxHTTP(dir string) string {
	var b strings.Builder
	for _, kind := range []string{"client_body", "proxy", "fastcgi", "uwsgi", "scgi"} {
		fmt.Fprintf(&b, "\t%s_temp_path %s;\n", kind, filepath.Join(dir, kind))
	}
	fmt.Fprintf(&b, "\taccess_log off;\n\tkeepalive_requests %d;\n\tkeepalive_timeout 600s;\n", keepAliveRequests)
	return b.String()
}

// UpstreamConfig is that of the nginx that everybody forwards to. It serves the sizes: small answers from memory in one write, large ones
// from the folder "files" of its directory. /post takes a body, and /-/requests counts.
func UpstreamConfig(dir, addr string) string {
	var b strings.Builder
	b.WriteString(nginxMain(dir, 1))
	b.WriteString("http {\n" + nginxHTTP(dir))
	b.WriteString("\tsendfile on;\n\ttcp_nopush on;\n\topen_file_cache max=16;\n\topen_file_cache_valid 1h;\n\tdefault_type application/octet-stream;\n")
	fmt.Fprintf(&b, "\tserver {\n\t\tlisten %s backlog=4096;\n", addr)
	b.WriteString("\t\tlocation = /-/requests { stub_status; }\n")
	fmt.Fprintf(&b, "\t\tlocation = /post { return 200 %q; }\n", strings.Repeat("p", 1024))
	for _, s := range Sizes() {
		if s.Bytes <= 1<<10 {
			fmt.Fprintf(&b, "\t\tlocation = %s { return 200 %q; }\n", s.Path, strings.Repeat("x", s.Bytes))
		}
	}
	fmt.Fprintf(&b, "\t\tlocation / { root %s; }\n\t}\n}\n", filepath.Join(dir, "files"))
	return b.String()
}

// NginxConfig is that of nginx as a bare reverse proxy.
func NginxConfig(s Site) string {
	return nginxMain(s.Dir, s.Workers) + "http {\n" + nginxHTTP(s.Dir) + nginxSite(s) + "}\n"
}

// The modules as Debian installs them.
const (
	ndkModule = "/usr/lib/nginx/modules/ndk_http_module.so"
	luaModule = "/usr/lib/nginx/modules/ngx_http_lua_module.so"
)

// NginxLuaConfig is that of nginx with policies in Lua; policies is the file they are in.
func NginxLuaConfig(s Site, policies string) string {
	lua := fmt.Sprintf(`	lua_shared_dict counters 64m;
	init_by_lua_block { policies = assert(loadfile(%q))(%q) }
	access_by_lua_block { policies.access() }
`, policies, s.Consumers)
	return nginxMain(s.Dir, s.Workers, ndkModule, luaModule) + "http {\n" + nginxHTTP(s.Dir) + lua + nginxSite(s) + "}\n"
}

// nginxSite has the upstream and a server for every route.
func nginxSite(s Site) string {
	var b strings.Builder
	fmt.Fprintf(&b, "\tserver_names_hash_max_size 65536;\n\tserver_names_hash_bucket_size 128;\n")
	fmt.Fprintf(&b, "\tupstream backend {\n\t\tserver %s;\n\t\tkeepalive %d;\n\t\tkeepalive_requests %d;\n\t}\n",
		s.Upstream, upstreamConnections, keepAliveRequests)
	b.WriteString("\tproxy_http_version 1.1;\n\tproxy_set_header Connection \"\";\n\tproxy_max_temp_file_size 0;\n\tclient_max_body_size 0;\n")
	if s.TLS != "" {
		fmt.Fprintf(&b, "\tssl_certificate %s;\n\tssl_certificate_key %s;\n\tssl_conf_command Ciphersuites %s;\n", s.CertFile, s.KeyFile, suite)
	}
	for i := range max(s.Hosts, 1) {
		once := ""
		if i == 0 {
			once = " backlog=4096"
		}
		fmt.Fprintf(&b, "\tserver { listen %s%s; ", s.Plain, once)
		if s.TLS != "" {
			fmt.Fprintf(&b, "listen %s ssl http2%s; ", s.TLS, once)
		}
		fmt.Fprintf(&b, "server_name %s; location / { proxy_pass http://backend; } }\n", HostName(i))
	}
	return b.String()
}

// HAProxyConfig is that of haproxy as a bare reverse proxy. Routes of the large row are looked up in the file "hosts.map" of its
// directory, see HostMap.
func HAProxyConfig(s Site) string {
	var b strings.Builder
	fmt.Fprintf(&b, "global\n\tnbthread %d\n\tmaxconn %d\n\tno strict-limits\n\tssl-default-bind-ciphersuites %s\n", max(s.Workers, 1), clientConnections, suite)
	b.WriteString("defaults\n\tmode http\n\thttp-reuse always\n")
	b.WriteString("\ttimeout connect 5s\n\ttimeout client 600s\n\ttimeout server 600s\n\ttimeout http-keep-alive 600s\n")
	fmt.Fprintf(&b, "frontend clients\n\tbind %s backlog 4096\n", s.Plain)
	if s.TLS != "" {
		fmt.Fprintf(&b, "\tbind %s ssl crt %s alpn h2,http/1.1 backlog 4096\n", s.TLS, s.Combined)
	}
	if s.Hosts > 1 {
		fmt.Fprintf(&b, "\tuse_backend %%[req.hdr(host),lower,map(%s)]\n", filepath.Join(s.Dir, "hosts.map"))
	} else {
		fmt.Fprintf(&b, "\tuse_backend backend if { req.hdr(host) -i %s }\n", HostName(0))
	}
	fmt.Fprintf(&b, "backend backend\n\tserver upstream %s pool-max-conn %d\n", s.Upstream, upstreamConnections)
	return b.String()
}

// HostMap is the map of hosts to backends for haproxy.
func HostMap(hosts int) string {
	var b strings.Builder
	for i := range hosts {
		fmt.Fprintf(&b, "%s backend\n", HostName(i))
	}
	return b.String()
}
