package render_test

import (
	"testing"

	"keyward.dev/controlplane/cmd/keyward/internal/render"
)

func TestBar(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		done, all int64
		want      string
	}{
		{0, 8, "[----]   0%"},
		{1, 8, "[----]  12%"},
		{4, 8, "[##--]  50%"},
		{8, 8, "[####] 100%"},
		{9, 8, "[####] 100%"},
		{-1, 8, "[----]   0%"},
		{0, 0, "[####] 100%"},
	} {
		if got := render.Bar(c.done, c.all, 4); got != c.want {
			t.Errorf("Bar(%d, %d) = %q, want %q", c.done, c.all, got, c.want)
		}
	}
}
