// Package proxybench compares what a request costs in the gateway with what it costs in other proxies: the pure parts
// are here (configurations of the peers, reading what loaders and the kernel tell, statistics, budgets), the driver is in
// the tests. `make bench-proxy` runs it; nothing else does. It drives processes and knows nothing of their insides.
package proxybench
