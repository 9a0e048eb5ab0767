package issuance

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/mholt/acmez/v3/acme"

	"keyward.dev/controlplane/internal/audit"
	"keyward.dev/controlplane/internal/sealer"
	"keyward.dev/controlplane/internal/store"
)

// purpose binds sealed accounts to their table.
const purpose = "acme_accounts"

// Ledger keeps the accounts of groups.
type Ledger struct {
	store  *store.Store
	vaults func(ctx context.Context, group string) (*sealer.Group, error)
	now    func() time.Time
}

// NewLedger returns the ledger of a database.
func NewLedger(s *store.Store, vaults func(ctx context.Context, group string) (*sealer.Group, error), now func() time.Time) *Ledger {
	return &Ledger{s, vaults, now}
}

// account is what is kept of one: all that is needed to order as the same one again.
type account struct {
	Directory string   `json:"directory"`
	Location  string   `json:"location,omitempty"`
	Contact   []string `json:"contact,omitempty"`
	Key       []byte   `json:"key"` // PKCS#8
}

// accountID is equal for what is one account: an issuer that changes its directory or its external account has another one.
func accountID(w want) string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%q %q %q", w.issuerUID, w.issuer.GetDirectory(), w.issuer.GetExternalAccount().GetKeyId()))
	return hex.EncodeToString(sum[:])
}

// read answers an account, nil if there is none.
func (l *Ledger) read(ctx context.Context, group, id string) (*account, error) {
	rows, err := l.store.AcmeAccounts(ctx, group)
	if err != nil {
		return nil, err
	}
	i := slices.IndexFunc(rows, func(r store.AcmeAccount) bool { return r.ID == id })
	if i < 0 {
		return nil, nil
	}
	vault, err := l.vaults(ctx, group)
	if err != nil {
		return nil, err
	}
	plain, err := vault.OpenBlob(purpose, id, rows[i].Sealed)
	if err != nil {
		return nil, err
	}
	defer clear(plain)
	a := new(account)
	if json.Unmarshal(plain, a) != nil { // its text could repeat something of the key
		return nil, errors.New("open ACME account: malformed")
	}
	return a, nil
}

// write keeps an account. It holds the head of the group, so that no term of its keyring is removed meanwhile.
func (l *Ledger) write(ctx context.Context, group, id string, a *account, action string) error {
	vault, err := l.vaults(ctx, group)
	if err != nil {
		return err
	}
	plain, err := json.Marshal(a)
	if err != nil {
		return errors.New("write ACME account: malformed")
	}
	defer clear(plain)
	sealed, err := vault.SealBlob(purpose, id, plain)
	if err != nil {
		return err
	}
	now := l.now().UTC().Truncate(time.Microsecond)
	return l.store.InGroup(ctx, group, func(ctx context.Context, tx *store.GroupTx) error {
		if err := tx.PutAcmeAccount(ctx, store.AcmeAccount{ID: id, Sealed: sealed, UpdatedAt: now}); err != nil {
			return err
		}
		return audit.Record(ctx, tx, vault, event(now, action, id, a.Directory))
	})
}

// keep removes the accounts of a group that no issuer has any more.
func (l *Ledger) keep(ctx context.Context, group string, ids []string) error {
	rows, err := l.store.AcmeAccounts(ctx, group)
	if err != nil {
		return err
	}
	rows = slices.DeleteFunc(rows, func(r store.AcmeAccount) bool { return slices.Contains(ids, r.ID) })
	if len(rows) == 0 {
		return nil
	}
	vault, err := l.vaults(ctx, group)
	if err != nil {
		return err
	}
	return l.store.InGroup(ctx, group, func(ctx context.Context, tx *store.GroupTx) error {
		for _, r := range rows {
			if err := tx.DeleteAcmeAccount(ctx, r.ID); err != nil {
				return err
			}
			if err := audit.Record(ctx, tx, vault, event(l.now(), "acme-account.delete", r.ID, "")); err != nil {
				return err
			}
		}
		return nil
	})
}

func event(at time.Time, action, id, detail string) audit.Event {
	return audit.Event{At: at, Actor: Actor, Action: action, Subjects: []string{"acme-accounts/" + id[:16]}, Detail: detail}
}

// open answers the account to order with, and registers it with the authority if it is new, or again if the authority does not
// know it.
func (o *order) open(ctx context.Context, again bool) (acme.Account, error) {
	id := accountID(o.want)
	kept, err := o.accounts.read(ctx, o.group, id)
	if err != nil {
		return acme.Account{}, err
	}
	if kept == nil {
		if kept, err = o.newAccount(ctx, id); err != nil {
			return acme.Account{}, err
		}
	}
	key, err := parseKey(kept.Key)
	if err != nil {
		return acme.Account{}, err
	}
	a := acme.Account{Status: acme.StatusValid, Location: kept.Location, Contact: kept.Contact, PrivateKey: key}
	contact := mailto(o.want.issuer.GetContact())
	switch {
	case kept.Location == "" || again:
		if a, err = o.register(ctx, key, contact); err != nil {
			return a, err
		}
	case !slices.Equal(kept.Contact, contact):
		a.Contact = contact
		a, err = o.client.UpdateAccount(ctx, acme.Account{Location: kept.Location, Contact: contact, PrivateKey: key})
		if err != nil {
			return a, fmt.Errorf("change the contact of the account: %w", err)
		}
		a.Location, a.PrivateKey = kept.Location, key
	default:
		return a, nil
	}
	kept.Location, kept.Contact = a.Location, contact
	return a, o.accounts.write(ctx, o.group, id, kept, "acme-account.register")
}

// newAccount keeps the key before the authority hears of it: an account whose key is lost can be of no use.
func (o *order) newAccount(ctx context.Context, id string) (*account, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make account key: %w", err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, errors.New("make account key: cannot be written down")
	}
	a := &account{Directory: o.want.issuer.GetDirectory(), Key: der}
	return a, o.accounts.write(ctx, o.group, id, a, "acme-account.create")
}

// register makes the account known; an authority that knows it answers the one that there is.
func (o *order) register(ctx context.Context, key crypto.Signer, contact []string) (acme.Account, error) {
	directory, err := o.client.GetDirectory(ctx)
	if err != nil {
		return acme.Account{}, err
	}
	external := o.want.issuer.GetExternalAccount()
	if m := directory.Meta; m != nil {
		switch {
		case m.TermsOfService != "" && !o.want.issuer.GetTermsAgreed():
			return acme.Account{}, fmt.Errorf("the authority wants its terms of service agreed to, %.200s: set terms_agreed of the issuer", m.TermsOfService)
		case m.ExternalAccountRequired && external == nil:
			return acme.Account{}, errors.New("the authority knows no strangers: set external_account of the issuer")
		}
	}
	a := acme.Account{Contact: contact, TermsOfServiceAgreed: o.want.issuer.GetTermsAgreed(), PrivateKey: key}
	if external != nil {
		mac := strings.TrimRight(external.GetKey().GetPlaintext(), "=")
		if err := a.SetExternalAccountBinding(ctx, o.client, acme.EAB{KeyID: external.GetKeyId(), MACKey: mac}); err != nil {
			return acme.Account{}, errors.New("external_account of the issuer cannot be used")
		}
	}
	if a, err = o.client.NewAccount(ctx, a); err != nil {
		return a, fmt.Errorf("register an account: %w", err)
	}
	if a.Status != acme.StatusValid {
		return a, fmt.Errorf("the account is %.32q", a.Status)
	}
	return a, nil
}

func mailto(contact []string) []string {
	var out []string
	for _, c := range contact {
		out = append(out, "mailto:"+c)
	}
	return out
}

func parseKey(der []byte) (crypto.Signer, error) {
	key, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		return nil, errors.New("open ACME account: malformed key")
	}
	signer, ok := key.(crypto.Signer)
	if !ok {
		return nil, errors.New("open ACME account: malformed key")
	}
	return signer, nil
}
