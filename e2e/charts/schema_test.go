package charts_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// values builds nested values from a path.
func values(path string, value any) map[string]any {
	parts := strings.Split(path, ".")
	for _, part := range slices.Backward(parts) {
		value = map[string]any{part: value}
	}
	return value.(map[string]any)
}

func TestWrongValuesAreRefused(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name, chart, path string
		value             any
		want              string // in the message
	}{
		{"typo at the top", controlPlaneChart, "replica", 3, "replica"},
		{"typo at the top", gatewayChart, "replicaCount", 3, "replicaCount"},
		{"typo below", controlPlaneChart, "database.url.secretName", "x", "secretName"},
		{"typo below", gatewayChart, "join.serviceAccount.enable", true, "enable"},
		{"secret as a value", controlPlaneChart, "kek.value", "c2VjcmV0", "value"},
		{"secret as a value", gatewayChart, "join.token.value", "kwj_x", "value"},
		{"another kind of key", controlPlaneChart, "kek.uri", "gcpkms:projects/p", "uri"},
		{"a key over plain HTTP", controlPlaneChart, "kek.retired", []any{"vault:http://vault/transit/k"}, "retired"},
		{"all files of a Secret", controlPlaneChart, "kek.files", []any{map[string]any{"secret": "b"}}, "keys"},
		{"wrong type", controlPlaneChart, "replicas", "three", "replicas"},
		{"no secret named", controlPlaneChart, "adminToken.secret", "", "adminToken"},
		{"root", controlPlaneChart, "runAs.user", 0, "runAs"},
		{"log level", gatewayChart, "log.level", "trace", "log"},
		{"digest", gatewayChart, "image.digest", "latest", "digest"},
		{"address without port", gatewayChart, "controlPlane.addresses", []any{"keyward"}, "addresses"},
		{"no control plane", gatewayChart, "controlPlane.addresses", []any{}, "addresses"},
		{"engine", gatewayChart, "httpEngine", "nginx", "httpEngine"},
		{"time without a unit", gatewayChart, "clients.timeouts.head", "10", "head"},
		{"less than no memory", gatewayChart, "clients.bodyMemory", -1, "bodyMemory"},
		{"fewer than no connections", gatewayChart, "clients.maxConnections", -1, "maxConnections"},
		{"files from nowhere", gatewayChart, "files", []any{map[string]any{"name": "ca", "keys": []any{"k"}}}, "files"},
		{"files from two places", gatewayChart, "files", []any{map[string]any{"name": "ca", "configMap": "a", "secret": "b", "keys": []any{"k"}}}, "files"},
		{"all files of a Secret", gatewayChart, "files", []any{map[string]any{"name": "ca", "secret": "b"}}, "keys"},
		{"service account without pin", gatewayChart, "join.serviceAccount.enabled", true, "rootSPKI"},
		{"no listener", gatewayChart, "http.enabled", false, ""},
		{"no issuer", controlPlaneChart, "serviceAccountJoin.enabled", true, "issuer"},
		{"keys over plain HTTP", controlPlaneChart, "serviceAccountJoin.jwks.url", "http://x", "url"},
		{"keys from two places", controlPlaneChart, "serviceAccountJoin", map[string]any{
			"enabled": true, "issuer": "i", "allow": []any{map[string]any{"group": "g", "namespace": "n", "serviceAccount": "s"}},
			"jwks": map[string]any{"inline": "{}", "url": "https://x"},
		}, "jwks"},
		{"wildcard account", controlPlaneChart, "serviceAccountJoin.allow", []any{map[string]any{"group": "g", "namespace": "*", "serviceAccount": "s"}}, "namespace"},
		{"no time to end", controlPlaneChart, "shutdown.gracePeriodSeconds", 5, "gracePeriodSeconds"},
		{"bundle over plain HTTP", gatewayChart, "fallbackBundle", map[string]any{"secret": "s", "url": "http://x"}, "url"},
		{"bundle from nowhere", gatewayChart, "fallbackBundle.secret", "s", "fallbackBundle"},
		{"bundle from two places", gatewayChart, "fallbackBundle", map[string]any{"secret": "s", "url": "https://x", "claim": "c"}, "fallbackBundle"},
		{"bundle without its key", gatewayChart, "fallbackBundle.url", "https://x", "fallbackBundle"},
		{"bundles to two places", controlPlaneChart, "bundle", map[string]any{"claim": "c", "s3": map[string]any{"url": "https://x/b"}}, "bundle"},
		{"bundles over plain HTTP", controlPlaneChart, "bundle.s3.url", "http://x/b", "url"},
		{"bundles to no bucket", controlPlaneChart, "bundle.s3.url", "https://x", "url"},
		{"age without a unit", gatewayChart, "sealedCache.maxAge", "10", "maxAge"},
		{"time without a unit", controlPlaneChart, "bundle.ttl", "10", "ttl"},
		{"values of the library", gatewayChart, "keyward-common.image", "x", "keyward-common"},
	} {
		t.Run(test.chart+"/"+test.path+"/"+test.name, func(t *testing.T) {
			t.Parallel()
			_, _, err := render(test.chart, values(test.path, test.value))
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("render with %s = %v: error %v, want one that names %q", test.path, test.value, err, test.want)
			}
		})
	}
}

// valueSchema is the part of JSON Schema that says which names there are.
type valueSchema struct {
	Ref                  string                  `json:"$ref"`
	Type                 any                     `json:"type"`
	AdditionalProperties any                     `json:"additionalProperties"`
	Properties           map[string]*valueSchema `json:"properties"`
	Items                *valueSchema            `json:"items"`
	Defs                 map[string]*valueSchema `json:"$defs"`
}

func readSchema(t *testing.T, chart string) *valueSchema {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(chartDir(chart), "values.schema.json"))
	if err != nil {
		t.Fatal(err)
	}
	var s valueSchema
	if err := json.Unmarshal(text, &s); err != nil {
		t.Fatal(err)
	}
	return &s
}

// paths lists what has a name. Objects that take any name, such as annotations, end a path.
func (s *valueSchema) paths(prefix string, root *valueSchema, found map[string]bool) {
	if name, ok := strings.CutPrefix(s.Ref, "#/$defs/"); ok {
		root.Defs[name].paths(prefix, root, found)
		return
	}
	if prefix != "" {
		found[prefix] = true
	}
	for name, property := range s.Properties {
		property.paths(strings.TrimPrefix(prefix+"."+name, "."), root, found)
	}
}

func valuePaths(prefix string, value any, known map[string]bool, found map[string]bool) {
	if prefix != "" {
		found[prefix] = true
	}
	m, ok := value.(map[string]any)
	if !ok {
		return
	}
	for name, v := range m {
		path := strings.TrimPrefix(prefix+"."+name, ".")
		if strings.Contains(path, "resources.") && !known[path] {
			continue // cpu and memory: Kubernetes' names, not ours
		}
		valuePaths(path, v, known, found)
	}
}

// TestSchemaAndValuesAgree: a value that only one of the two knows is either refused or not documented.
func TestSchemaAndValuesAgree(t *testing.T) {
	t.Parallel()
	// Names for a probe that nobody has to set.
	optional := regexp.MustCompile(`^probes\.\w+\.(initialDelaySeconds|successThreshold)$|^global$|^keyward-common`)
	for _, chart := range charts() {
		t.Run(chart, func(t *testing.T) {
			t.Parallel()
			s := readSchema(t, chart)
			inSchema, inValues := map[string]bool{}, map[string]bool{}
			s.paths("", s, inSchema)
			for path := range inSchema {
				if optional.MatchString(path) {
					delete(inSchema, path)
				}
			}
			valuePaths("", readValues(t, filepath.Join(chartDir(chart), "values.yaml")), inSchema, inValues)
			if diff := cmp.Diff(inSchema, inValues); diff != "" {
				t.Errorf("-schema +values:\n%s", diff)
			}
		})
	}
}

// TestSchemaIsClosed: every object either lists its names or is one that takes any.
func TestSchemaIsClosed(t *testing.T) {
	t.Parallel()
	for _, chart := range charts() {
		s := readSchema(t, chart)
		var walk func(path string, s *valueSchema)
		walk = func(path string, s *valueSchema) {
			if s == nil {
				return
			}
			if closed, ok := s.AdditionalProperties.(bool); len(s.Properties) > 0 && (!ok || closed) {
				t.Errorf("%s: %s takes names it does not know", chart, path)
			}
			for name, p := range s.Properties {
				walk(path+"."+name, p)
			}
			for name, p := range s.Defs {
				walk("$defs."+name, p)
			}
			walk(path+"[]", s.Items)
		}
		walk("values", s)
	}
}

var keyLine = regexp.MustCompile(`^\s*[A-Za-z]\w*:`)

// TestEveryValueIsExplained: the values file is the reference of the chart.
func TestEveryValueIsExplained(t *testing.T) {
	t.Parallel()
	for _, chart := range charts() {
		text, err := os.ReadFile(filepath.Join(chartDir(chart), "values.yaml"))
		if err != nil {
			t.Fatal(err)
		}
		before := ""
		for i, line := range strings.Split(string(text), "\n") {
			if keyLine.MatchString(line) && !strings.HasPrefix(strings.TrimSpace(before), "#") {
				t.Errorf("%s, values.yaml:%d: %s has no comment above it", chart, i+1, strings.TrimSpace(line))
			}
			before = line
		}
	}
}
