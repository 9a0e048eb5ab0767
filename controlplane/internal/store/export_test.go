package store

// VolatileTables is for tests.
func VolatileTables() map[string]string { return volatileTables() }
