package dev

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	adminv1 "keyward.dev/proto/gen/keyward/admin/v1"

	"keyward.dev/controlplane/cmd/keyward/internal/client"
	"keyward.dev/controlplane/cmd/keyward/internal/dev/database"
	"keyward.dev/controlplane/cmd/keyward/internal/dev/supervisor"
	"keyward.dev/controlplane/cmd/keyward/internal/failure"
)

const (
	controlPlane        = "controlplane"
	postgres            = "postgres"
	controlPlaneProgram = "keyward-controlplane"
	gatewayProgram      = "keyward-dataplane"

	group       = "default"
	readyTick   = 20 * time.Millisecond
	askPatience = 2 * time.Second
	// joinLife is how long the gateways' join token is good: long enough for a gateway that is started again by hand.
	joinLife = 24 * time.Hour
)

// start brings everything up, in order.
func (s *stack) start(ctx context.Context) error {
	for _, step := range []struct {
		what string
		do   func(context.Context) error
	}{
		{"PostgreSQL", s.startDatabase},
		{"schema", s.migrate},
		{"control plane", s.startControlPlane},
		{"gateways", s.startGateways},
	} {
		s.opts.Factory.IO.Status("starting: %s …", step.what)
		if err := step.do(ctx); err != nil {
			s.opts.Factory.IO.Done()
			return err
		}
	}
	s.opts.Factory.IO.Done()
	return s.state.done()
}

func (s *stack) startDatabase(ctx context.Context) (err error) {
	if s.opts.Postgres != "" {
		role, password, err := s.state.runtimeRole()
		if err != nil {
			return err
		}
		s.db, err = database.Use(s.opts.Postgres, role, password)
		return err
	}
	addr, err := netip.ParseAddrPort(s.plan.Database)
	if err != nil {
		return fmt.Errorf("address of PostgreSQL: %w", err)
	}
	s.db, err = database.Start(ctx, s.state.path("postgres"), int(addr.Port()), !s.state.temporary)
	return err
}

// migrate brings the schema up to date and makes group default and the admin token.
func (s *stack) migrate(ctx context.Context) error {
	env := append(s.environment(), "KEYWARD_DATABASE_URL="+s.db.OwnerURL)
	env = append(env, s.insecure()...)
	if s.db.RuntimePassword != "" {
		env = append(env, "KEYWARD_RUNTIME_PASSWORD="+s.db.RuntimePassword)
	}
	_, err := supervisor.Once(ctx, supervisor.Spec{
		Name: "migrate", Path: s.program(controlPlaneProgram), Args: []string{"migrate", "--runtime-role", s.db.RuntimeRole}, Env: env,
	}, s.logs("migrate"))
	if err != nil {
		return err
	}
	_, err = supervisor.Once(ctx, supervisor.Spec{
		Name: "bootstrap", Path: s.program(controlPlaneProgram), Args: []string{"bootstrap", "--token-file", s.tokenFile, "--group", group},
		Env: s.controlPlaneEnv(),
	}, s.logs("bootstrap"))
	if err != nil && s.opts.Postgres != "" && s.state.isNew() {
		return failure.Hint(err, "if another keyward dev has used this database, its key is in its state directory: give that with --dir, or another database")
	}
	return err
}

func (s *stack) startControlPlane(ctx context.Context) error {
	s.procs.Add(supervisor.Spec{
		Name: controlPlane,
		Path: s.program(controlPlaneProgram),
		Args: []string{
			"serve",
			"--admin-listen=" + s.plan.Admin,
			"--admin-tls-cert=" + s.certs.Cert,
			"--admin-tls-key=" + s.certs.Key,
			"--sync-listen=" + s.plan.Sync,
			"--sync-names=localhost,127.0.0.1",
			"--status-listen=" + s.plan.ControlStatus,
			"--replica=dev",
			"--log-level=" + s.opts.LogLevel,
		},
		Env:   s.controlPlaneEnv(),
		Ready: func(ctx context.Context) error { return awaitReady(ctx, s.plan.ControlStatus) },
	})
	return s.procs.Start(ctx, controlPlane)
}

// startGateways lets them join and waits until all of them have what the control plane has.
func (s *stack) startGateways(ctx context.Context) error {
	conn, err := client.Dial(client.Target{Addr: "https://" + reachable(s.plan.Admin), CACert: s.certs.CA, Token: s.token})
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := s.allowHTTP(ctx, adminv1.NewResourceServiceClient(conn)); err != nil {
		return err
	}
	if s.opts.Gateways == 0 {
		return nil
	}
	gateways := adminv1.NewGatewayServiceClient(conn)
	if err := s.joinToken(ctx, gateways); err != nil {
		return err
	}
	for i := range s.opts.Gateways {
		s.addGateway(i)
	}
	results := make(chan error, s.opts.Gateways)
	for i := range s.opts.Gateways {
		go func() { results <- s.procs.Start(ctx, gatewayName(i)) }()
	}
	var faults []error
	for range s.opts.Gateways {
		faults = append(faults, <-results)
	}
	if err := errors.Join(faults...); err != nil {
		return err
	}
	return s.awaitApplied(ctx, gateways, adminv1.NewGroupServiceClient(conn))
}

// allowHTTP switches require_https off, the first time: examples use plain HTTP on this machine. Later it is the user's.
func (s *stack) allowHTTP(ctx context.Context, resources adminv1.ResourceServiceClient) error {
	if !s.state.isNew() {
		return nil
	}
	_, err := resources.Patch(ctx, &adminv1.PatchRequest{Group: group, Kind: "settings", MergePatch: []byte(`{"require_https":false}`)})
	if err != nil {
		return fmt.Errorf("allow plain HTTP: %w", err)
	}
	return nil
}

// joinToken makes the token that gateways without an identity join with.
func (s *stack) joinToken(ctx context.Context, gateways adminv1.GatewayServiceClient) error {
	res, err := gateways.CreateJoinToken(ctx, &adminv1.CreateJoinTokenRequest{
		Group: group, Uses: int32(s.opts.Gateways), Ttl: durationpb.New(joinLife), Description: "keyward dev",
	})
	if err != nil {
		return fmt.Errorf("create join token: %w", err)
	}
	return writeSecret(s.joinTokenFile(), []byte(res.GetSecret()+"\n"))
}

func (s *stack) joinTokenFile() string { return s.state.path("secrets", "join-token") }

func (s *stack) addGateway(i int) {
	name := gatewayName(i)
	accessLog := "off"
	if s.opts.AccessLog {
		accessLog = "stdout"
	}
	s.procs.Add(supervisor.Spec{
		Name: name,
		Path: s.program(gatewayProgram),
		Args: []string{
			"--control-plane=" + s.plan.Sync,
			"--join-token-file=" + s.joinTokenFile(),
			"--group=" + group,
			"--identity-dir=" + s.state.path(name),
			"--listen=http=" + s.plan.HTTP[i],
			"--listen=https=" + s.plan.HTTPS[i],
			"--tls-cert=" + s.certs.Cert,
			"--tls-key=" + s.certs.Key,
			"--status-listen=" + s.plan.Status[i],
			"--label=dev=" + name,
			"--drain-timeout=3s",
			"--access-log=" + accessLog,
			"--log-level=" + s.opts.LogLevel,
		},
		Env:   s.environment(),
		Ready: func(ctx context.Context) error { return awaitReady(ctx, s.plan.Status[i]) },
	})
}

// awaitApplied returns when all gateways are connected and have what the control plane has.
func (s *stack) awaitApplied(ctx context.Context, gateways adminv1.GatewayServiceClient, groups adminv1.GroupServiceClient) error {
	g, err := groups.GetGroup(ctx, &adminv1.GetGroupRequest{Group: group})
	if err != nil {
		return fmt.Errorf("wait for gateways: %w", err)
	}
	for {
		res, err := gateways.WaitForRevision(ctx, &adminv1.WaitForRevisionRequest{
			Group: group, Revision: g.GetRevision(), MinGateways: int32(s.opts.Gateways), Timeout: durationpb.New(askPatience),
		})
		if err != nil {
			return fmt.Errorf("wait for gateways: %w", err)
		}
		// A gateway that refuses a resource is as ready as it can be: state that was kept may hold such a thing.
		if res.GetApplied() || len(res.GetPending()) == 0 && int(res.GetConnected()) >= s.opts.Gateways {
			return nil
		}
	}
}

// awaitReady returns when a status listener says that its process is ready.
func awaitReady(ctx context.Context, addr string) error {
	client := &http.Client{Timeout: askPatience, Transport: &http.Transport{DisableKeepAlives: true}}
	tick := time.NewTicker(readyTick)
	defer tick.Stop()
	for {
		last := ask(ctx, client, "http://"+addr+"/readyz")
		if last == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w; last answer of %s: %w", context.Cause(ctx), addr, last)
		case <-tick.C:
		}
	}
}

func ask(ctx context.Context, client *http.Client, url string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	res, err := client.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return errors.New(res.Status)
	}
	return nil
}

func (s *stack) program(name string) string { return filepath.Join(s.bin, name) }

// environment is ours without any variable that is a setting of our programs: they are to run as we say.
func (s *stack) environment() []string {
	var env []string
	for _, kv := range os.Environ() {
		if !strings.HasPrefix(kv, "KEYWARD_") {
			env = append(env, kv)
		}
	}
	return env
}

func (s *stack) controlPlaneEnv() []string {
	env := append(s.environment(),
		"KEYWARD_DATABASE_URL="+s.db.RuntimeURL,
		"KEYWARD_KEK_FILE="+s.state.path("secrets", "kek"),
	)
	return append(env, s.insecure()...)
}

// insecure lets a database that somebody gives be spoken to as they say: they know where it is.
func (s *stack) insecure() []string {
	if s.opts.Postgres == "" {
		return nil
	}
	return []string{"KEYWARD_INSECURE_DATABASE=true"}
}
