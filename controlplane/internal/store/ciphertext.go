package store

// Ciphertext is a column that holds what a keyring sealed, or a key-encryption key wrapped.
type Ciphertext struct {
	Table  string
	Column string
	// Term says that the first bytes name a term of a keyring, so that rewrapping has to visit it.
	Term bool
}

// Ciphertexts is the one list of columns that hold ciphertext. A column missing from it would be left behind when a term
// is removed; a test compares it with the schema.
func Ciphertexts() []Ciphertext {
	return []Ciphertext{
		{Table: "resources", Column: "sealed", Term: true},
		{Table: "changes", Column: "sealed", Term: true},
		{Table: "baselines", Column: "sealed", Term: true},
		{Table: "baseline_records", Column: "sealed", Term: true},
		{Table: "certificate_authorities", Column: "sealed", Term: true},
		{Table: "bundle_keys", Column: "sealed", Term: true},
		{Table: "keyrings", Column: "wrapped"},
	}
}
