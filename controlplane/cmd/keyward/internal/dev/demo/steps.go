package demo

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/durationpb"

	adminv1 "keyward.dev/proto/gen/keyward/admin/v1"

	"keyward.dev/controlplane/cmd/keyward/internal/dev/ports"
	"keyward.dev/controlplane/cmd/keyward/internal/terminal"
)

const (
	group = "default"
	// patience bounds every wait for gateways.
	patience = 30 * time.Second
	// probePause is between two requests that look for a change.
	probePause = 500 * time.Microsecond
)

func drain(r io.Reader) error {
	if _, err := io.Copy(io.Discard, r); err != nil {
		return fmt.Errorf("read answer: %w", err)
	}
	return nil
}

// configure applies the quick-start document and makes a key for each consumer.
func (t *tour) configure(ctx context.Context) error {
	t.heading("Push configuration: it is checked, sealed, stored, streamed to the gateways and enforced there")
	doc, err := os.ReadFile(t.File)
	if err != nil {
		return fmt.Errorf("read document: %w", err)
	}
	if up := t.Getenv("KEYWARD_UPSTREAM"); up != "" {
		doc = bytes.ReplaceAll(doc, []byte("http://"+ports.DefaultUpstream), []byte("http://"+up))
	}
	t.command("apply", "-f", t.File, "--wait")
	if err := t.keyward(ctx, doc, "apply", "-f", "-", "--wait", "--min-gateways", strconv.Itoa(len(t.gateways))); err != nil {
		return err
	}
	name := "demo-" + strconv.FormatInt(t.Now().Unix(), 10)
	var last int64
	for _, who := range []string{"alice", "bob", "carol"} {
		t.command("credential", "generate", who, name)
		res, err := t.resources().GenerateCredential(ctx, &adminv1.GenerateCredentialRequest{Group: group, Parent: who, Name: name, Type: "key-auth"})
		if err != nil {
			return fmt.Errorf("generate a key for %s: %w", who, err)
		}
		t.keys[who], last = res.GetSecret(), res.GetRevision()
	}
	return t.applied(ctx, last)
}

// authenticate shows who gets in.
func (t *tour) authenticate(ctx context.Context) error {
	t.heading("Gateways know who calls (key-auth) and who may (acl: group gold)")
	for _, r := range []request{
		{who: "", want: http.StatusUnauthorized, why: "without a key"},
		{who: "alice", want: http.StatusOK, why: "alice is in group gold"},
		{who: "bob", want: http.StatusForbidden, why: "bob is not"},
	} {
		if err := t.show(ctx, r); err != nil {
			return err
		}
	}
	return nil
}

// limitRate uses up what alice has left on each gateway; one request of hers has been made already.
func (t *tour) limitRate(ctx context.Context) error {
	t.heading("Each gateway lets %d requests of a consumer through in 60 s (rate-limit)", limit)
	for i, addr := range t.gateways {
		for n := 2; ; n++ {
			res, err := t.get(ctx, addr, "alice") //nolint:bodyclose // get has read and closed it
			if err != nil {
				return err
			}
			if n <= limit && res.StatusCode == http.StatusOK {
				continue
			}
			if n != limit+1 || res.StatusCode != http.StatusTooManyRequests {
				return fmt.Errorf("rate limit: gateway %d (%s) answered %d to request %d of alice", i+1, addr, res.StatusCode, n)
			}
			t.tell("  %s  gateway %d  alice    %d to request %d; Retry-After: %s", t.IO.Paint(terminal.Green, "✓"), i+1, res.StatusCode, n, res.Header.Get("Retry-After"))
			break
		}
	}
	return nil
}

// withoutControlPlane stops it, shows that nothing is different, and starts it again.
func (t *tour) withoutControlPlane(ctx context.Context) error {
	t.heading("Gateways need no control plane to serve")
	t.command("dev", "stop", "controlplane")
	if err := t.keyward(ctx, nil, "dev", "stop", "controlplane", "--dir", t.Dir); err != nil {
		return err
	}
	for _, r := range []request{
		{who: "", want: http.StatusUnauthorized, why: "without a key, control plane down"},
		{who: "carol", want: http.StatusOK, why: "carol is in group gold, control plane down"},
		{who: "bob", want: http.StatusForbidden, why: "bob is still not, control plane down"},
	} {
		if err := t.show(ctx, r); err != nil {
			return err
		}
	}
	t.command("dev", "start", "controlplane")
	if err := t.keyward(ctx, nil, "dev", "start", "controlplane", "--dir", t.Dir); err != nil {
		return err
	}
	start := t.Now()
	g, err := adminv1.NewGroupServiceClient(t.Conn).GetGroup(ctx, &adminv1.GetGroupRequest{Group: group}, grpc.WaitForReady(true))
	if err != nil {
		return fmt.Errorf("ask the control plane where it stands: %w", err)
	}
	if err := t.applied(ctx, g.GetRevision()); err != nil {
		return err
	}
	t.tell("  %s  all gateways are connected again, %s after it was ready", t.IO.Paint(terminal.Green, "✓"), t.Now().Sub(start).Round(time.Millisecond))
	return nil
}

// change puts bob into group gold and times how long it takes until each gateway lets him in.
func (t *tour) change(ctx context.Context) error {
	t.heading("A change goes live at once: bob joins group gold")
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	start := t.Now()
	live := make(chan error, len(t.gateways))
	after := make([]time.Duration, len(t.gateways))
	for i, addr := range t.gateways {
		go func() {
			err := t.probe(ctx, addr, "bob")
			after[i] = t.Now().Sub(start)
			live <- err
		}()
	}
	_, err := t.resources().Patch(ctx, &adminv1.PatchRequest{Group: group, Kind: "consumers", Name: "bob", MergePatch: []byte(`{"groups":["gold"]}`)})
	answered := t.Now().Sub(start)
	if err != nil {
		cancel()
	}
	for range t.gateways {
		if e := <-live; err == nil {
			err = e
		}
	}
	if err != nil {
		return fmt.Errorf("change bob's groups: %w", err)
	}
	t.tell("  the control plane answered after %s", milliseconds(answered))
	for i := range t.gateways {
		t.tell("  %s  gateway %d  bob      200, %s after the change was sent", t.IO.Paint(terminal.Green, "✓"), i+1, milliseconds(after[i]))
	}
	return nil
}

// probe makes requests until one is let through. Refused ones do not count for the rate limit.
func (t *tour) probe(ctx context.Context, addr, who string) error {
	for {
		res, err := t.get(ctx, addr, who) //nolint:bodyclose // get has read and closed it
		if err != nil {
			return err
		}
		switch res.StatusCode {
		case http.StatusOK:
			return nil
		case http.StatusForbidden:
		default:
			return fmt.Errorf("gateway %s answered %d to %s", addr, res.StatusCode, who)
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(probePause):
		}
	}
}

func milliseconds(d time.Duration) string {
	return strconv.FormatFloat(float64(d)/float64(time.Millisecond), 'f', 1, 64) + " ms"
}

func (t *tour) resources() adminv1.ResourceServiceClient {
	return adminv1.NewResourceServiceClient(t.Conn)
}

// applied waits until all gateways have a revision.
func (t *tour) applied(ctx context.Context, revision int64) error {
	res, err := adminv1.NewGatewayServiceClient(t.Conn).WaitForRevision(ctx, &adminv1.WaitForRevisionRequest{
		Group: group, Revision: revision, MinGateways: int32(len(t.gateways)), Timeout: durationpb.New(patience),
	})
	if err != nil {
		return fmt.Errorf("wait for gateways: %w", err)
	}
	if !res.GetApplied() {
		return fmt.Errorf("not all gateways have applied revision %d: %d connected, pending %v", revision, res.GetConnected(), res.GetPending())
	}
	return nil
}

// command shows the command that a person would type for what comes next.
func (t *tour) command(args ...string) {
	var line strings.Builder
	line.WriteString("$ keyward")
	for _, a := range args {
		line.WriteString(" " + a)
	}
	t.tell("%s", t.IO.Paint(terminal.Faint, line.String()))
}

// keyward runs the command itself.
func (t *tour) keyward(ctx context.Context, stdin []byte, args ...string) error {
	cmd := exec.CommandContext(ctx, t.Program, args...)
	cmd.Stdin = bytes.NewReader(stdin)
	cmd.Stdout, cmd.Stderr = t.IO.Out, t.IO.Out
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("keyward %s: %w", args[0], err)
	}
	return nil
}
