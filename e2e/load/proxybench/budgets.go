package proxybench

// Budget limits what a request of a contender may cost in CPU, as a multiple of what it costs in another one.
type Budget struct {
	Variant, Contender, Baseline string
	Max                          float64
	Reason                       string
}

// The other budgets.
const (
	// MallocsPerRequest is for a live process with the full chain: the request path does not allocate.
	MallocsPerRequest = 0.01
	// IdlePlain and IdleTLS are bytes of an idle connection.
	IdlePlain = 8 << 10
	IdleTLS   = 24 << 10
	// StreamGrowth is how many bytes the process may grow while 10 GiB pass: buffers and what waits for the collector.
	StreamGrowth = 16 << 20
)

// Budgets are all that compare contenders.
func Budgets() []Budget {
	one := Variant{Protocol: Plain, Size: Sizes()[1], Connections: 64}
	large, tls := one, one
	large.Large, tls.Protocol = true, TLS
	return []Budget{
		{one.Name(), Chain, Nginx, 1.25, "with its policies the gateway costs little more than a bare nginx"},
		{one.Name(), Chain, NginxLua, 1, "and less than nginx with the same policies"},
		{one.Name(), Bare, Nginx, 1.1, "without policies it costs what a bare nginx costs"},
		{large.Name(), Chain, Nginx, 1.25, "the same with many routes and consumers"},
		{large.Name(), Chain, NginxLua, 1, "the same with many routes and consumers"},
		{tls.Name(), Chain, Nginx, 1.25, "the same over TLS"},
	}
}

// judge holds the upper end of the interval against the budget.
func (b Budget) judge(all []Series) Result {
	name := prefix + b.Variant + "/" + b.Contender + "/of-" + b.Baseline
	of, baselines := values(all, b.Contender, cpu), values(all, b.Baseline, cpu)
	if len(of) == 0 || len(baselines) == 0 {
		return Result{Name: name, Unit: "cpu-us/request", Budget: &b.Max}
	}
	value := MedianInterval(of).Median
	r := Result{Name: name, Value: &value, Unit: "cpu-us/request", Budget: &b.Max}
	high := compare(&r, of, baselines).High
	r.Ratio, r.OK = &high, high <= b.Max
	return r
}
