package telemetry

import (
	"crypto/fips140"
	"runtime"
	"runtime/debug"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
)

// version is set by the linker; see the Makefile.
var version string

// Version returns the version this binary was built as, such as v0.3.1 or v0.3.1-4-gabcdef0.
func Version() string {
	if version != "" {
		return version
	}
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "devel"
}

// FIPS140 says which cryptography this process runs: "off" for Go's own, "on" for the FIPS 140-3 module, "only" for that
// module with everything refused that it does not approve of (GODEBUG=fips140=only).
func FIPS140() string {
	switch {
	case fips140.Enforced():
		return "only"
	case fips140.Enabled():
		return "on"
	}
	return "off"
}

// NewRegistry returns a registry of its own (never the library's global one) with the Go and process collectors and
// keyward_<component>_build_info, whose value is always 1.
func NewRegistry(component string) *prometheus.Registry {
	reg := prometheus.NewRegistry()
	build := prometheus.NewGauge(prometheus.GaugeOpts{
		Namespace:   "keyward",
		Subsystem:   component,
		Name:        "build_info",
		Help:        "What is running: always 1, the labels tell.",
		ConstLabels: prometheus.Labels{"version": Version(), "go_version": runtime.Version(), "fips140": FIPS140()},
	})
	build.Set(1)
	reg.MustRegister(
		build,
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	)
	return reg
}
