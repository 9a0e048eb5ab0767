// Package backup is the form of a whole backup: everything that an installation has in its database, in one file that is
// sealed, and authenticated as a whole. It reads and writes streams and knows no files, no database and no table; package app
// takes the tables from package store and puts them back.
//
// # Form
//
// A backup is
//
//	"KEYWARD BACKUP\n" | format (1 byte) | length (4) | header (JSON) | MAC (32) | chunks
//
// The file's key is drawn for this one file. The header holds it twice: wrapped by the key-encryption key, whose name is
// there, and sealed to a recovery key. Whoever has either opens all of it. The MAC is under a key derived from the
// file's: that it is right proves, before anything else is read, that the keys named are those it was made with. The chunks
// are a STREAM, as in package sealedset, and bound to the header: they can be neither altered, exchanged, left out nor cut off.
//
// Format 1 is sealed to the recovery key as format 1 of package recovery; it is read and no longer written.
//
// In the chunks are sections: kind (1 byte), length (4), content. A table begins with its name and columns, and goes on in parts.
// The manifest is the last section and says how much each table has, and where each group stands: its authenticated head and its
// wrapped keyring. Before it come the keyrings sealed once more to the recovery key, as package recovery does it.
package backup

import (
	"context"
	"errors"
	"time"
)

const (
	magic  = "KEYWARD BACKUP\n"
	format = 2
	// maxHeader bounds what is read before anything is authenticated.
	maxHeader = 64 << 10
	// maxSection bounds a section: the manifest and the keyrings of some hundred thousand groups.
	maxSection = 256 << 20
	// partSize is how much of a table is in one section.
	partSize = 256 << 10
)

var (
	// ErrMalformed says that a file is not a backup, or not a whole one.
	ErrMalformed = errors.New("the backup is damaged, cut off, or no backup")
	// ErrFormat says that a backup is of another form than this program knows.
	ErrFormat = errors.New("the backup is of a form that this program does not know")
	// ErrKey says that neither the key-encryption key nor the recovery key opens the backup.
	ErrKey = errors.New("the backup does not open with these keys")
)

// Wrapper is a key-encryption key.
type Wrapper interface {
	ID() string
	Wrap(ctx context.Context, wrapContext, plaintext []byte) ([]byte, error)
	Unwrap(ctx context.Context, wrapContext, wrapped []byte) ([]byte, error)
}

// Header is what can be read without a key. Only Open says whether it is true.
type Header struct {
	// format is that of the file.
	format byte

	// ID is drawn for each backup.
	ID string    `json:"id"`
	At time.Time `json:"at"`
	// Program is the version of the program that made it.
	Program string `json:"program"`
	// KEK names the key-encryption key, and Recovery the recovery key, which open it.
	KEK      string `json:"kek"`
	Recovery string `json:"recovery"`

	// Wrapped is the file's key under the key-encryption key; Encapsulated and Sealed are it under the recovery key.
	Wrapped      []byte `json:"wrapped"`
	Encapsulated []byte `json:"encapsulated"`
	Sealed       []byte `json:"sealed"`
}

// Manifest says what is in a backup.
type Manifest struct {
	// Schema is the version of the schema of the tables.
	Schema int     `json:"schema"`
	Groups []Group `json:"groups"`
	Tables []Table `json:"tables"`
}

// Group is where a group stands. Head is what its keyring authenticates.
type Group struct {
	UID            string    `json:"uid"`
	Name           string    `json:"name"`
	Epoch          uint64    `json:"epoch,string"` // a string: 63 bits do not survive every JSON reader
	Revision       int64     `json:"revision"`
	Resources      int64     `json:"resources"`
	Digest         []byte    `json:"digest"`
	KeyringVersion int32     `json:"keyring_version"`
	AuditSeq       int64     `json:"audit_seq"`
	AuditHead      []byte    `json:"audit_head"`
	MAC            []byte    `json:"mac"`
	UpdatedAt      time.Time `json:"updated_at"`
	// KEK names the key-encryption key that wraps Keyring.
	KEK     string `json:"kek"`
	Keyring []byte `json:"keyring"`
}

// Table says how much a table has.
type Table struct {
	Name    string   `json:"name"`
	Columns []string `json:"columns"`
	Rows    int64    `json:"rows"`
	Bytes   int64    `json:"bytes"`
	// SHA256 is of the content.
	SHA256 []byte `json:"sha256"`
}
