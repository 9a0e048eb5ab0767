// Package stream sends documents to the control plane piece by piece, for the commands that do (apply, diff), and words
// what became of them.
package stream

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	adminv1 "keyward.dev/proto/gen/keyward/admin/v1"

	"keyward.dev/controlplane/cmd/keyward/internal/document"
	"keyward.dev/controlplane/cmd/keyward/internal/terminal"
)

// pieceBytes is well below the 4 MiB that gRPC accepts in one message, and large enough not to matter.
const pieceBytes = 64 << 10

// Apply sends header and document and answers what the control plane says.
func Apply(ctx context.Context, c adminv1.ResourceServiceClient, doc document.Document, h *adminv1.ApplyHeader) (*adminv1.ApplyResponse, error) {
	s, err := c.Apply(ctx)
	if err != nil {
		return nil, fmt.Errorf("apply %s: %w", doc.Name, err)
	}
	err = s.Send(&adminv1.ApplyRequest{Message: &adminv1.ApplyRequest_Header{Header: h}})
	for piece := range slices.Chunk(doc.Body, pieceBytes) {
		if err != nil {
			break
		}
		err = s.Send(&adminv1.ApplyRequest{Message: &adminv1.ApplyRequest_Chunk{Chunk: piece}})
	}
	// io.EOF says that the control plane has made up its mind already; its answer says why.
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("send %s: %w", doc.Name, err)
	}
	res, err := s.CloseAndRecv()
	if err != nil {
		return nil, fmt.Errorf("apply %s: %w", doc.Name, err)
	}
	return res, nil
}

// Done words an action of a change for people.
func Done(action string, dryRun bool) string {
	if dryRun {
		return "would " + action
	}
	return action + "d"
}

// Colour answers the colour of an action.
func Colour(action string) terminal.Colour {
	switch action {
	case "create":
		return terminal.Green
	case "delete":
		return terminal.Red
	default:
		return terminal.Yellow
	}
}
