// Package charts_test renders the Helm charts as Helm does and holds the result against files, against Kubernetes' own
// types and against the rules every pod of ours keeps; then it starts the real programs with what was rendered. It is a
// module of its own, because Helm and Kubernetes must not choose the versions of libraries that the products ship.
package charts_test

import (
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"helm.sh/helm/v4/pkg/chart/common"
	"helm.sh/helm/v4/pkg/chart/common/util"
	"helm.sh/helm/v4/pkg/chart/v2/loader"
	"helm.sh/helm/v4/pkg/engine"
)

var update = flag.Bool("update", false, "rewrite the rendered files in testdata")

const (
	controlPlaneChart = "keyward-controlplane"
	gatewayChart      = "keyward-dataplane"
	namespace         = "gateways"
)

func charts() []string { return []string{controlPlaneChart, gatewayChart} }

func chartDir(name string) string { return filepath.Join("..", "..", "charts", name) }

// render returns what `helm template NAME CHART -n gateways` would give to the cluster, and the notes. The values are
// merged in order.
func render(name string, values ...map[string]any) (manifests, notes string, err error) {
	c, err := loader.Load(chartDir(name))
	if err != nil {
		return "", "", fmt.Errorf("load chart: %w", err)
	}
	merged := map[string]any{}
	for _, v := range values {
		merged = loader.MergeMaps(merged, v)
	}
	release := common.ReleaseOptions{Name: name, Namespace: namespace, Revision: 1, IsInstall: true}
	top, err := util.ToRenderValues(c, merged, release, common.DefaultCapabilities)
	if err != nil {
		return "", "", fmt.Errorf("check values: %w", err)
	}
	files, err := engine.Engine{Strict: true}.RenderWithContext(context.Background(), c, top)
	if err != nil {
		return "", "", fmt.Errorf("render: %w", err)
	}
	var out strings.Builder
	for _, path := range sorted(files) {
		content := strings.TrimSpace(files[path])
		switch {
		case strings.HasSuffix(path, "NOTES.txt"):
			notes = content
		case content != "" && !strings.HasPrefix(filepath.Base(path), "_"):
			fmt.Fprintf(&out, "---\n# Source: %s\n%s\n", path, strings.TrimPrefix(content, "---\n"))
		}
	}
	return out.String(), notes, nil
}

func sorted[V any](m map[string]V) []string {
	names := make([]string, 0, len(m))
	for name := range m {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

func readValues(t *testing.T, path string) map[string]any {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	values, err := loader.LoadValues(f)
	if err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	return values
}

// golden is a set of values and what comes of it.
type golden struct{ chart, name, manifests string }

// goldens renders every case of testdata. Case ha stands on the values for production that come with the chart.
func goldens(t *testing.T) []golden {
	t.Helper()
	var all []golden
	for _, chart := range charts() {
		files, err := filepath.Glob(filepath.Join("testdata", chart, "*.values.yaml"))
		if err != nil || len(files) == 0 {
			t.Fatalf("no cases for %s: %v", chart, err)
		}
		for _, file := range files {
			name := strings.TrimSuffix(filepath.Base(file), ".values.yaml")
			var values []map[string]any
			if name == "ha" {
				values = append(values, readValues(t, filepath.Join(chartDir(chart), "values-ha.yaml")))
			}
			manifests, notes, err := render(chart, append(values, readValues(t, file))...)
			if err != nil {
				t.Fatalf("%s, %s: %v", chart, name, err)
			}
			if notes == "" {
				t.Errorf("%s, %s: no notes", chart, name)
			}
			all = append(all, golden{chart, name, manifests})
		}
	}
	return all
}

func TestChartsRenderAsReviewed(t *testing.T) {
	t.Parallel()
	for _, g := range goldens(t) {
		t.Run(g.chart+"/"+g.name, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join("testdata", g.chart, g.name+".golden.yaml")
			if *update {
				if err := os.WriteFile(path, []byte(g.manifests), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			want, err := os.ReadFile(path)
			if err != nil {
				t.Fatalf("%v; write it with go test -update and review it", err)
			}
			if diff := cmp.Diff(string(want), g.manifests); diff != "" {
				t.Errorf("rendered differently; if that is meant, go test -update (-want +got):\n%s", diff)
			}
		})
	}
}

func TestRenderingIsRepeatable(t *testing.T) {
	t.Parallel()
	first, second := goldens(t), goldens(t)
	if diff := cmp.Diff(first, second, cmp.AllowUnexported(golden{})); diff != "" {
		t.Errorf("the same values rendered differently:\n%s", diff)
	}
}
