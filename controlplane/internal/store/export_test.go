package store

// VolatileTables is for tests.
func VolatileTables() map[string]string { return volatileTables() }

// SelectGroupsHolding is for tests.
const SelectGroupsHolding = selectGroupsHolding
