// Package syncbench measures how configuration gets from a commit to many gateways: the pure parts are here (figures and
// budgets, and the bare fan-out that is measured beside), the driver is in the tests. `make bench-sync` runs it; nothing
// else does. It drives processes and knows nothing of their insides.
package syncbench
