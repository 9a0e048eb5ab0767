// Package database gets `keyward dev` a database with the two roles that the control plane wants: an owner that migrates
// and a runtime role that serves. It is either on a throw-away server, where passwords are made anew on every start and stored
// nowhere, or in a database that somebody gives.
package database

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"sync"

	"keyward.dev/shared/testkit/pgserver"
)

// Database is what the control plane needs to know.
type Database struct {
	// OwnerURL and RuntimeURL are connection strings of the two roles.
	OwnerURL, RuntimeURL string
	// RuntimeRole is the name of the role in RuntimeURL; RuntimePassword is set where the role is still to be made.
	RuntimeRole, RuntimePassword string

	config pgserver.Config

	mu       sync.Mutex // guards what follows; nil and closed for a given database
	server   *pgserver.Server
	stopping bool
	// back is closed when the server, having ended, was started again.
	back chan struct{}
}

// ErrGiven is for starting and stopping a database that somebody gave.
var ErrGiven = errors.New("the database is not ours to start and stop")

const (
	name        = "keyward"
	ownerRole   = "keyward_owner"
	runtimeRole = "keyward_runtime"
)

// Start starts a throw-away server in dir, on a port of 127.0.0.1. With durable its data survives a crash of the machine.
func Start(ctx context.Context, dir string, port int, durable bool) (*Database, error) {
	config := pgserver.Config{Dir: dir, Port: port, Durable: durable}
	server, err := pgserver.Start(ctx, config)
	if err != nil {
		return nil, err
	}
	ownerPassword, runtimePassword := pgserver.NewPassword(), pgserver.NewPassword()
	db := &Database{
		OwnerURL:    server.URLFor(name, ownerRole, ownerPassword),
		RuntimeURL:  server.URLFor(name, runtimeRole, runtimePassword),
		RuntimeRole: runtimeRole,
		config:      config,
		server:      server,
		back:        make(chan struct{}),
	}
	err = errors.Join(
		role(ctx, server, ownerRole, ownerPassword),
		role(ctx, server, runtimeRole, runtimePassword),
	)
	if err == nil {
		err = create(ctx, server)
	}
	if err != nil {
		return nil, errors.Join(err, db.Stop(ctx))
	}
	return db, nil
}

func create(ctx context.Context, server *pgserver.Server) error {
	found, err := server.Query(ctx, "postgres", "select 1 from pg_database where datname = '"+name+"'")
	if err != nil || len(found) > 0 {
		return err
	}
	if err := server.Exec(ctx, "postgres", "create database "+name+" owner "+ownerRole); err != nil {
		return fmt.Errorf("create database: %w", err)
	}
	return nil
}

// role makes a login role, or gives the one that is there a new password. Names and passwords are ours and need no quoting.
func role(ctx context.Context, server *pgserver.Server, role, password string) error {
	found, err := server.Query(ctx, "postgres", "select 1 from pg_roles where rolname = '"+role+"'")
	if err != nil {
		return fmt.Errorf("look for role %s: %w", role, err)
	}
	verb := "create"
	if len(found) > 0 {
		verb = "alter"
	}
	if err := server.Exec(ctx, "postgres", verb+" role "+role+" login password '"+password+"'"); err != nil {
		return fmt.Errorf("%s role %s: %w", verb, role, err)
	}
	return nil
}

// Use takes a database that somebody gives: the URL's user owns what is made there. The runtime role, whose name and
// password the caller chooses, is made by the migration, for which that user needs the right to make roles.
func Use(ownerURL, role, password string) (*Database, error) {
	u, err := url.Parse(ownerURL)
	if err != nil || u.Host == "" || u.Scheme != "postgres" && u.Scheme != "postgresql" {
		return nil, errors.New("--postgres takes postgres://user:password@host:port/database")
	}
	runtime := *u
	runtime.User = url.UserPassword(role, password)
	return &Database{OwnerURL: ownerURL, RuntimeURL: runtime.String(), RuntimeRole: role, RuntimePassword: password}, nil
}

// Watch calls lost each time a throw-away server ends without having been asked to, until ctx ends.
func (d *Database) Watch(ctx context.Context, lost func()) {
	for {
		d.mu.Lock()
		server, back := d.server, d.back
		d.mu.Unlock()
		var gone <-chan struct{}
		if server != nil {
			gone = server.Done()
		}
		select {
		case <-ctx.Done():
			return
		case <-gone:
		}
		d.mu.Lock()
		stopping := d.stopping
		d.mu.Unlock()
		if !stopping {
			lost()
		}
		select {
		case <-ctx.Done():
			return
		case <-back:
		}
	}
}

// Restart starts a throw-away server that has ended, on the same port with the same data; one that runs is left alone.
func (d *Database) Restart(ctx context.Context) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.server == nil {
		return ErrGiven
	}
	select {
	case <-d.server.Done():
	default:
		return nil
	}
	server, err := pgserver.Start(ctx, d.config)
	if err != nil {
		return err
	}
	d.server, d.stopping = server, false
	close(d.back)
	d.back = make(chan struct{})
	return nil
}

// Stop ends a throw-away server.
func (d *Database) Stop(ctx context.Context) error {
	d.mu.Lock()
	server := d.server
	d.stopping = true
	d.mu.Unlock()
	if server == nil {
		return ErrGiven
	}
	return server.Stop(ctx)
}
