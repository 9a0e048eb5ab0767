package proxybench

import (
	"fmt"
	"regexp"
)

// Protocol is what clients speak.
type Protocol string

// The protocols that are compared.
const (
	Plain Protocol = "plain" // HTTP/1.1
	TLS   Protocol = "tls"   // HTTP/1.1 over TLS
	H2    Protocol = "h2"    // HTTP/2 over TLS
)

// Size is how large the answers are.
type Size struct {
	Name, Path string
	Bytes      int
}

// Sizes are what the upstream serves.
func Sizes() []Size {
	return []Size{{"0", "/0", 0}, {"1KiB", "/1k", 1 << 10}, {"64KiB", "/64k", 64 << 10}, {"1MiB", "/1m", 1 << 20}}
}

// Variant is one comparison.
type Variant struct {
	Protocol    Protocol
	Size        Size
	Connections int
	// Streams that each HTTP/2 connection has under way.
	Streams int
	// Large: with many routes and consumers, drawn at random; else with one of each.
	Large bool
	// Full says that it runs only when everything is wanted.
	Full bool
}

// How many there are in the large row.
const (
	LargeRoutes    = 10_000
	LargeConsumers = 100_000
)

// Name is how the variant is chosen and reported.
func (v Variant) Name() string {
	connections, row := fmt.Sprint(v.Connections), "one-route"
	if v.Protocol == H2 {
		connections = fmt.Sprintf("%dx%d", v.Connections, v.Streams)
	}
	if v.Large {
		row = "10k-routes"
	}
	return fmt.Sprintf("%s/%s/%s/%s", v.Protocol, v.Size.Name, connections, row)
}

// Variants are all comparisons, the ones with budgets first.
func Variants() []Variant {
	sizes := Sizes()
	small := sizes[1]
	all := []Variant{
		{Protocol: Plain, Size: small, Connections: 64},
		{Protocol: Plain, Size: small, Connections: 64, Large: true},
		{Protocol: TLS, Size: small, Connections: 64},
		{Protocol: H2, Size: small, Connections: 16, Streams: 4},
	}
	for _, protocol := range []Protocol{Plain, TLS} {
		for _, connections := range []int{16, 256} {
			all = append(all, Variant{Protocol: protocol, Size: small, Connections: connections, Full: true})
		}
		for _, size := range []Size{sizes[0], sizes[2], sizes[3]} {
			all = append(all, Variant{Protocol: protocol, Size: size, Connections: 64, Full: true})
		}
	}
	return append(all, Variant{Protocol: H2, Size: sizes[2], Connections: 16, Streams: 4, Full: true})
}

// Choice says what to run: what matches the pattern or, without one, the quick selection or everything.
type Choice struct {
	Pattern *regexp.Regexp
	Full    bool
}

// Has says whether something of this name is to be run.
func (c Choice) Has(name string, full bool) bool {
	if c.Pattern != nil {
		return c.Pattern.MatchString(name)
	}
	return c.Full || !full
}

// Of returns the variants that are to be run.
func (c Choice) Of(all []Variant) []Variant {
	var chosen []Variant
	for _, v := range all {
		if c.Has(v.Name(), v.Full) {
			chosen = append(chosen, v)
		}
	}
	return chosen
}
