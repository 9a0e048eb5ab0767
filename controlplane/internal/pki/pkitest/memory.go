// Package pkitest keeps authorities in memory for tests. Only tests use it.
package pkitest

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"sync"

	"keyward.dev/controlplane/internal/pki"
	"keyward.dev/controlplane/internal/store"
)

// Authorities keeps authorities as the store does. The zero value is empty.
type Authorities struct {
	mu   sync.Mutex
	rows []store.Authority
}

// Of returns a store that holds the rows.
func Of(rows []store.Authority) *Authorities { return &Authorities{rows: slices.Clone(rows)} }

// Rows returns a copy of what it holds.
func (m *Authorities) Rows() []store.Authority {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.rows)
}

// Add puts a row in.
func (m *Authorities) Add(a store.Authority) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.rows = append(m.rows, a)
}

// Authorities implements pki.Authorities.
func (m *Authorities) Authorities(context.Context) ([]store.Authority, error) { return m.Rows(), nil }

// UpdateAuthorities implements pki.Authorities.
func (m *Authorities) UpdateAuthorities(_ context.Context, plan func([]store.Authority) (pki.Plan, error)) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	p, err := plan(slices.Clone(m.rows))
	if err != nil {
		return err
	}
	for i := range m.rows {
		if s, ok := p.States[m.rows[i].ID]; ok {
			m.rows[i].State = s
		}
	}
	m.rows = append(m.rows, p.Create...)
	m.rows = slices.DeleteFunc(m.rows, func(a store.Authority) bool { return a.State == "retired" })
	return nil
}

// Sealer binds to purpose and id and hides nothing, which is all that the authority relies on.
type Sealer struct{}

// SealBlob implements pki.Sealer.
func (Sealer) SealBlob(purpose, id string, plain []byte) ([]byte, error) {
	return append([]byte(purpose+"|"+id+"|"), plain...), nil
}

// OpenBlob implements pki.Sealer.
func (Sealer) OpenBlob(purpose, id string, sealed []byte) ([]byte, error) {
	plain, ok := bytes.CutPrefix(sealed, []byte(purpose+"|"+id+"|"))
	if !ok {
		return nil, errors.New("unreadable")
	}
	return bytes.Clone(plain), nil
}
