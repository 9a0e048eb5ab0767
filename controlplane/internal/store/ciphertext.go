package store

// Ciphertext is a column that holds what a keyring sealed, or a key-encryption key wrapped.
type Ciphertext struct {
	Table  string
	Column string
	// Term says that the first bytes name a term of a keyring, so that rewrapping visits it and removing a term counts it.
	Term bool
	// kind, uid and revision are the columns of the place it was sealed for; empty: there is none. The purpose is the table.
	kind, uid, revision string
	// system says that all rows are under the keyring of the system; otherwise group_uid tells.
	system bool
}

// Ciphertexts is the one list of columns that hold ciphertext. A column missing from it would be left behind when a term
// is removed; a test compares it with the schema, another seals in each and rewraps.
func Ciphertexts() []Ciphertext {
	return []Ciphertext{
		{Table: "resources", Column: "sealed", Term: true, kind: "kind", uid: "uid", revision: "revision"},
		{Table: changesTable, Column: "sealed", Term: true, revision: "revision"},
		{Table: "baselines", Column: "sealed", Term: true, revision: "revision"},
		{Table: "baseline_records", Column: "sealed", Term: true, kind: "kind", uid: "uid", revision: "revision"},
		{Table: "certificate_authorities", Column: "sealed", Term: true, uid: "id", system: true},
		{Table: "bundle_keys", Column: "sealed", Term: true, uid: "version::text"},
		{Table: "acme_accounts", Column: "sealed", Term: true, uid: "id"},
		{Table: "keyrings", Column: "wrapped"},
		{Table: "next_keyrings", Column: "wrapped"},
	}
}

// changesTable is the one whose rows the runtime role cannot update.
const changesTable = "changes"

// of is the condition that a row belongs to the group $1.
func (c Ciphertext) of() string {
	if c.system {
		return "$1::text = '" + SystemUID + "'"
	}
	return "group_uid = $1"
}

// term is the expression for the term's number, as its four bytes.
func (c Ciphertext) term() string { return "substring(" + c.Column + " from 2 for 4)" }

// place is the list of expressions for kind, uid and revision.
func (c Ciphertext) place() string {
	or := func(column, none string) string {
		if column == "" {
			return none
		}
		return column
	}
	return or(c.kind, "''") + ", " + or(c.uid, "''") + ", " + or(c.revision, "0")
}
