package sealedcache

import (
	"bufio"
	"crypto"
	"crypto/sha256"
	"errors"
	"io"
	"io/fs"
	"time"

	"keyward.dev/dataplane/internal/state"
	"keyward.dev/shared/mtls"
	"keyward.dev/shared/sealedset"
)

// sealed is a file that is to be written.
type sealed struct {
	set    *state.Set
	header []byte
	key    sealedset.Secret
}

// newSealed makes a file of the set under a key of its own.
func newSealed(o *owner, set *state.Set, at time.Time) (*sealed, error) {
	data := sealedset.NewSecret()
	h := &header{
		group: o.id.Group, gateway: o.id.String(), keyHash: o.keyHash,
		epoch: set.Epoch, revision: set.Revision, digest: set.Digest, written: at,
	}
	var err error
	if h.enc, h.wrapped, err = o.wrap(data, h.core()); err != nil {
		return nil, err
	}
	key, err := o.recordsKey(data)
	if err != nil {
		return nil, err
	}
	return &sealed{set: set, header: h.marshal(), key: key}, nil
}

func (s *sealed) id() fileID { return sha256.Sum256(s.header) }

func (s *sealed) writeTo(w io.Writer) error {
	if _, err := w.Write(s.header); err != nil {
		return err
	}
	sw, err := sealedset.NewSealWriter(w, s.key, s.header)
	if err != nil {
		return err
	}
	if err := sealedset.WriteRecords(sw, recordsOf(s.set)); err != nil {
		return err
	}
	return sw.Close()
}

// open reads, checks and folds the file.
func (c *Cache) open(id mtls.ID, signer crypto.Signer) (*kept, error) {
	o, err := newOwner(id, signer)
	if err != nil {
		return nil, refuse(sealedset.OtherKey, "%w", err)
	}
	f, err := c.files.open(configFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, ErrAbsent
	}
	if err != nil {
		return nil, refuse(sealedset.Unreadable, "%w", err)
	}
	defer f.Close()
	in := bufio.NewReaderSize(f, sealedset.ChunkSize)
	h, raw, err := readHeader(in)
	if err != nil {
		return nil, err
	}
	k := &kept{id: id, signer: signer, file: sha256.Sum256(raw)}
	if k.at, err = c.admit(o, h, k.file); err != nil {
		return nil, err
	}
	k.set, err = openRecords(o, h, raw, in, c.cfg.Limits)
	return k, err
}

// admit checks what the header says: whose file it is, that it is the last one, and that it is not too old. It returns
// when the control plane last stood behind it. The header is not proven until the records have been opened.
func (c *Cache) admit(o *owner, h *header, file fileID) (time.Time, error) {
	switch {
	case h.group != o.id.Group:
		return time.Time{}, refuse(sealedset.OtherGroup, "it is of group %q", h.group)
	case h.gateway != o.id.String():
		return time.Time{}, refuse(sealedset.OtherGateway, "it is of gateway %q", h.gateway)
	case h.keyHash != o.keyHash:
		return time.Time{}, refuse(sealedset.OtherKey, "it was sealed for another key of this gateway")
	}
	s, err := c.readSeen(o)
	if err != nil {
		return time.Time{}, err
	}
	at := h.written
	switch {
	case file == s.have && s.confirmed.After(at):
		at = s.confirmed
	case file != s.have && file != s.next:
		return time.Time{}, refuse(sealedset.OlderThanSeen, "it holds revision %d, but is not the file that was written last", h.revision)
	}
	age := c.cfg.Now().Sub(at)
	switch {
	case age < -skew:
		return time.Time{}, refuse(sealedset.Future, "it is of %s, which has not come yet", at.UTC().Format(time.RFC3339))
	case age > c.cfg.MaxAge:
		return time.Time{}, refuse(sealedset.TooOld, "the control plane stood behind it %s ago, at most %s are allowed", age.Round(time.Second), c.cfg.MaxAge)
	}
	return at, nil
}

func openRecords(o *owner, h *header, raw []byte, in io.Reader, limits state.Limits) (*state.Set, error) {
	data, err := o.unwrap(h.enc, h.wrapped, h.core())
	if err != nil {
		return nil, refuse(sealedset.Damaged, "%w", err)
	}
	key, err := o.recordsKey(data)
	if err != nil {
		return nil, refuse(sealedset.Damaged, "%w", err)
	}
	opened, err := sealedset.NewOpenReader(in, key, raw)
	if err != nil {
		return nil, refuse(sealedset.Damaged, "%w", err)
	}
	return readRecords(opened, h, limits)
}
