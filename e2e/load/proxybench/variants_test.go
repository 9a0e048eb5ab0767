package proxybench_test

import (
	"regexp"
	"slices"
	"testing"

	"keyward.dev/e2e/load/proxybench"
)

func TestEveryBudgetHasAVariantThatAlwaysRuns(t *testing.T) {
	t.Parallel()
	var quick []string
	for _, v := range (proxybench.Choice{}).Of(proxybench.Variants()) {
		quick = append(quick, v.Name())
	}
	for _, b := range proxybench.Budgets() {
		if !slices.Contains(quick, b.Variant) {
			t.Errorf("the budget of %s is for %s, which is not among %v", b.Contender, b.Variant, quick)
		}
	}
}

func TestVariants(t *testing.T) {
	t.Parallel()
	all := proxybench.Variants()
	names := map[string]bool{}
	for _, v := range all {
		if names[v.Name()] {
			t.Errorf("%s is there twice", v.Name())
		}
		names[v.Name()] = true
	}
	for _, want := range []string{"plain/1KiB/64/one-route", "plain/1KiB/64/10k-routes", "tls/1MiB/64/one-route", "plain/1KiB/256/one-route", "h2/1KiB/16x4/one-route"} {
		if !names[want] {
			t.Errorf("no %s", want)
		}
	}
	for _, test := range []struct {
		name   string
		choice proxybench.Choice
		want   int
	}{
		{"quick", proxybench.Choice{}, 4},
		{"everything", proxybench.Choice{Full: true}, len(all)},
		{"by name", proxybench.Choice{Pattern: regexp.MustCompile("^tls/1MiB")}, 1},
	} {
		if got := len(test.choice.Of(all)); got != test.want {
			t.Errorf("%s: %d variants, want %d", test.name, got, test.want)
		}
	}
}

func TestFoldStacks(t *testing.T) {
	t.Parallel()
	const script = `keyward-datapla 
	    7f00aa main.inner
	    7f00bb main.outer

keyward-datapla 
	    7f00aa main.inner
	    7f00bb main.outer

nginx 
	ffffffff81 tcp_sendmsg

idle 

`
	const want = "keyward-datapla;main.outer;main.inner 2\nnginx;tcp_sendmsg 1\n"
	if got := proxybench.FoldStacks(script); got != want {
		t.Errorf("FoldStacks() = %q, want %q", got, want)
	}
}
