// Package rollout is `keyward rollout`: how far the newest change of a gateway group has got, and how to stop it or hurry
// it on.
package rollout

import (
	"context"
	"fmt"
	"strconv"

	"github.com/spf13/cobra"

	adminv1 "keyward.dev/proto/gen/keyward/admin/v1"

	"keyward.dev/controlplane/cmd/keyward/internal/cli/factory"
	"keyward.dev/controlplane/cmd/keyward/internal/render"
)

// New makes the command.
func New(f *factory.Factory) *cobra.Command {
	return factory.Parent("rollout", "Show and steer how a change reaches the gateways",
		newStatus(f),
		newSteer(f, "pause", "Stop changes where they are", `Stop changes where they are. Newer ones wait, too, until keyward rollout resume; those that never wait go to all gateways
at once all the same.`),
		newSteer(f, "resume", "Go on after a pause or an abort", `Go on after a pause or an abort, with the whole soak time of the stage from now on.`),
		newSteer(f, "abort", "Let the newest change go no further", `Let the newest change go no further. Gateways that have it keep it; undo it with keyward rollback, or apply a better one:
a newer change begins a roll-out of its own.`),
		newSteer(f, "promote", "Give all gateways the newest revision now", `Give all gateways the newest revision now, whatever stages, soak time, pause or freeze say.`),
	)
}

func newStatus(f *factory.Factory) *cobra.Command {
	return &cobra.Command{
		Use:   "status",
		Short: "Show how far the newest change has got",
		Args:  factory.Args(""),
		RunE:  func(cmd *cobra.Command, _ []string) error { return status(cmd.Context(), f) },
	}
}

func newSteer(f *factory.Factory, action, short, long string) *cobra.Command {
	var reason string
	cmd := &cobra.Command{
		Use:   action,
		Short: short,
		Long:  long,
		Args:  factory.Args(""),
		RunE:  func(cmd *cobra.Command, _ []string) error { return steer(cmd.Context(), f, action, reason) },
	}
	cmd.Flags().StringVar(&reason, "reason", "", "why, for status and audit chain")
	return cmd
}

func status(ctx context.Context, f *factory.Factory) error {
	conn, err := f.Conn()
	if err != nil {
		return err
	}
	res, err := adminv1.NewRolloutServiceClient(conn).GetRollout(ctx, &adminv1.GetRolloutRequest{Group: f.Group()})
	if err != nil {
		return fmt.Errorf("show roll-out: %w", err)
	}
	return show(f, res)
}

func steer(ctx context.Context, f *factory.Factory, action, reason string) error {
	conn, err := f.Conn()
	if err != nil {
		return err
	}
	res, err := adminv1.NewRolloutServiceClient(conn).SteerRollout(ctx, &adminv1.SteerRolloutRequest{
		Group: f.Group(), Action: action, Reason: reason,
	})
	if err != nil {
		return fmt.Errorf("%s roll-out: %w", action, err)
	}
	return show(f, res)
}

func show(f *factory.Factory, r *adminv1.RolloutStatus) error {
	return f.Print(r, func() error {
		if len(r.GetStages()) == 0 {
			f.IO.Say("group %s stages nothing: every change goes to all gateways at once; it is at revision %d", r.GetGroup(), r.GetRevision())
			return nil
		}
		g := render.NewGrid(f.IO, "STAGE", "GATEWAYS", "REVISION", "CONNECTED", "APPLIED", "REJECTING", "SOAK")
		for i, s := range r.GetStages() {
			soak := "-"
			if s.GetSoak() != nil {
				soak = s.GetSoak().AsDuration().String()
			}
			g.Add(strconv.Itoa(i+1), s.GetMembers(), strconv.FormatInt(s.GetTarget(), 10), strconv.Itoa(int(s.GetConnected())),
				strconv.Itoa(int(s.GetApplied())), strconv.Itoa(int(s.GetRejecting())), soak)
		}
		if err := g.Print(); err != nil {
			return err
		}
		f.IO.Say("%s", Line(r))
		return nil
	})
}

// Line says in one line where the newest change has got to.
func Line(r *adminv1.RolloutStatus) string {
	line := fmt.Sprintf("revision %d is %s", r.GetRevision(), r.GetState())
	switch r.GetState() {
	case "rolling":
		line = fmt.Sprintf("revision %d is rolling out, stage %d of %d", r.GetRevision(), r.GetStage(), len(r.GetStages()))
	case "done":
		line = fmt.Sprintf("revision %d is given to all gateways", r.GetRevision())
	}
	if r.GetWaiting() != "" {
		line += ", waiting: " + r.GetWaiting()
	}
	if r.GetActor() != "" && r.GetState() != "rolling" && r.GetState() != "done" {
		line += ", by " + r.GetActor()
	}
	if r.GetReason() != "" {
		line += ": " + r.GetReason()
	}
	return line
}
