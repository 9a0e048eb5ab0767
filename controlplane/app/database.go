package app

import (
	"context"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"sync"

	"keyward.dev/controlplane/internal/store"
	"keyward.dev/shared/settings"
)

// Database says how the database is reached; every subcommand needs it.
type Database struct {
	URL settings.Secret
	// User stands for the one in URL.
	User settings.Secret
	// Password stands for the one in URL.
	Password settings.Secret
	Insecure bool

	places *places // nil: they are asked anew
}

// Flags declares the settings.
func (d *Database) Flags(fs *flag.FlagSet) {
	settings.VaultSecretVar(fs, &d.URL, "database-url", "connection `URL` of PostgreSQL; needs sslmode=verify-full unless it is on this machine")
	settings.VaultSecretVar(fs, &d.User, "database-user", "`user` for that URL, instead of the one in it; with a password beside it, and read again like that")
	settings.VaultSecretVar(fs, &d.Password, "database-password", "`password` for that URL, instead of the one in it; read again for each connection")
	fs.BoolVar(&d.Insecure, "insecure-database", false, "accept a database connection that is not verified")
}

// Check names what is missing.
func (d *Database) Check(faults *settings.Faults) {
	if !d.URL.IsSet() {
		faults.Addf("database-url", "is needed, in the environment or by --database-url-file")
	}
	checkSecret(faults, "database-url", d.URL)
	checkLeasable(faults, "database-user", d.User)
	checkLeasable(faults, "database-password", d.Password)
	switch user, password := leasedAt(d.User), leasedAt(d.Password); {
	case d.User.IsSet() && !d.Password.IsSet():
		faults.Addf("database-user", "needs database-password, too")
	case user != password:
		faults.Addf("database-user", "and database-password have to come from one login that Vault makes, with the same parameters")
	}
}

// checkOwner refuses logins that end: what is made as one of them could not be used after it.
func (d *Database) checkOwner(faults *settings.Faults) {
	if leasedAt(d.User) != "" {
		faults.Addf("database-user", "must not be one that Vault makes: the tables would belong to it when it ends")
	}
}

// Open connects, as the settings say at the moment, and later connections as they say then.
func (d *Database) Open(ctx context.Context, log *slog.Logger) (*store.Store, error) {
	cfg, err := d.storeConfig(ctx, log)
	if err != nil {
		return nil, err
	}
	return store.Open(ctx, cfg)
}

// storeConfig reads what is needed to connect.
func (d *Database) storeConfig(ctx context.Context, log *slog.Logger) (store.Config, error) {
	here := *d
	if here.places == nil {
		here.places = newPlaces(os.LookupEnv) // one for all that is read, so that user and password are of one login
	}
	d = &here
	dsn, err := d.places.read(ctx, "database-url", d.URL)
	if err != nil {
		return store.Config{}, err
	}
	cfg := store.Config{DSN: dsn, AllowInsecure: d.Insecure, Log: log}
	if !d.Password.IsSet() && !d.URL.Changes() {
		return cfg, nil
	}
	l := &login{database: *d, log: log}
	if l.last, err = l.read(ctx); err != nil {
		return store.Config{}, err
	}
	cfg.Login, cfg.Outdated = l.now, d.places.outdated(d.User)
	return cfg, nil
}

// login is as whom connections are made. It is read for each of them, so that a password is changed without a restart.
type login struct {
	database Database
	log      *slog.Logger
	mu       sync.Mutex
	last     store.Login // guarded by mu
}

// now answers the login as it is now. While it cannot be read the last one is tried: the database decides.
func (l *login) now(ctx context.Context) store.Login {
	got, err := l.read(ctx)
	l.mu.Lock()
	defer l.mu.Unlock()
	if err != nil {
		l.log.WarnContext(ctx, "login to the database could not be read; trying the last one", "err", err)
		return l.last
	}
	l.last = got
	return got
}

func (l *login) read(ctx context.Context) (store.Login, error) {
	d := &l.database
	if d.User.IsSet() {
		user, password, err := d.places.pair(ctx, d.User, d.Password)
		return store.Login{User: user, Password: settings.NewSecret(password)}, err
	}
	if d.Password.IsSet() {
		password, err := d.places.read(ctx, "database-password", d.Password)
		return store.Login{Password: settings.NewSecret(password)}, err
	}
	dsn, err := d.places.read(ctx, "database-url", d.URL)
	if err != nil {
		return store.Login{}, err
	}
	got, err := store.LoginOf(dsn)
	if err != nil {
		return store.Login{}, fmt.Errorf("database-url: %w", err)
	}
	return got, nil
}
