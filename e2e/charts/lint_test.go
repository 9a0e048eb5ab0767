package charts_test

import (
	"path/filepath"
	"testing"

	"helm.sh/helm/v4/pkg/chart/v2/lint"
	"helm.sh/helm/v4/pkg/chart/v2/lint/support"
)

// TestHelmHasNothingToSay runs what `helm lint` runs; an icon is all it may miss.
func TestHelmHasNothingToSay(t *testing.T) {
	t.Parallel()
	for _, chart := range charts() {
		found := lint.RunAll(chartDir(chart), readValues(t, filepath.Join(chartDir(chart), "values.yaml")), namespace)
		for _, m := range found.Messages {
			if m.Severity > support.InfoSev {
				t.Errorf("%s: %s", chart, m.Error())
			}
		}
	}
}
