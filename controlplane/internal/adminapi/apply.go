package adminapi

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	adminv1 "keyward.dev/proto/gen/keyward/admin/v1"
	"keyward.dev/shared/catalog"
	"keyward.dev/shared/problem"

	"keyward.dev/controlplane/internal/admission"
	"keyward.dev/controlplane/internal/configsvc"
	"keyward.dev/controlplane/internal/snapshot"
)

const (
	// maxDocument bounds an applied document, maxApplies how many are in memory at once.
	maxDocument = 64 << 20
	maxApplies  = 4
	// exportChunk is how much of an exported document goes into one message.
	exportChunk = 64 << 10
	// maxChangesBytes bounds the list of changes in an answer: a caller must be able to take it (gRPC: 4 MiB unless told
	// otherwise) after the change is made. A dry run is asked for the list itself.
	maxChangesBytes, maxDryRunBytes = 3 << 20, 48 << 20
)

// Apply makes the group look like a document.
func (s *resources) Apply(stream grpc.ClientStreamingServer[adminv1.ApplyRequest, adminv1.ApplyResponse]) error {
	ctx := stream.Context()
	first, err := stream.Recv()
	if err != nil {
		return failure(err)
	}
	header := first.GetHeader()
	if header == nil {
		return failure(problem.Errorf(problem.Malformed, "the first message must be the header"))
	}
	if !catalog.Supported(header.GetContentType()) {
		return failure(problem.Errorf(problem.UnsupportedMediaType, "the document must be %s or %s", catalog.YAML, catalog.JSON))
	}
	select {
	case s.applies <- struct{}{}:
		defer func() { <-s.applies }()
	case <-ctx.Done():
		return failure(ctx.Err())
	}
	body, err := receive(stream)
	if err != nil {
		return failure(err)
	}
	out, err := s.applyDocument(ctx, header, body)
	if err != nil {
		return failure(err)
	}
	return stream.SendAndClose(out)
}

// receive collects the document.
func receive(stream grpc.ClientStreamingServer[adminv1.ApplyRequest, adminv1.ApplyResponse]) ([]byte, error) {
	var body bytes.Buffer
	for {
		msg, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return body.Bytes(), nil
		}
		if err != nil {
			return nil, err
		}
		if body.Len()+len(msg.GetChunk()) > maxDocument {
			return nil, problem.Errorf(problem.TooLarge, "the document is larger than %d bytes", maxDocument)
		}
		body.Write(msg.GetChunk())
	}
}

func (s *resources) applyDocument(ctx context.Context, header *adminv1.ApplyHeader, body []byte) (*adminv1.ApplyResponse, error) {
	doc, violations := s.catalog.Decode(body, header.GetContentType())
	if doc == nil {
		return nil, problem.Violated(violations)
	}
	if doc.Group != "" && doc.Group != header.GetGroup() {
		violations = append(violations, problem.Violation{Path: "group", Reason: "the document is for another group than it is applied to"})
	}
	res, err := s.write(ctx, configsvc.Request{
		Action: "resources.apply", Group: header.GetGroup(), Changes: changesOf(doc), Prune: header.GetPrune(),
		DryRun: header.GetDryRun(), Immediate: header.GetImmediate(), Faults: violations,
	})
	if err == nil && len(violations) > 0 {
		err = problem.Violated(violations) // whatever the write path thinks of it
	}
	if err != nil {
		return nil, located(doc, err)
	}
	return applied(header, res)
}

func changesOf(doc *catalog.Document) []admission.Change {
	out := make([]admission.Change, 0, len(doc.Items))
	for _, it := range doc.Items {
		out = append(out, admission.Change{Kind: it.Kind, Name: it.Name, Path: it.Path, Message: it.Message, Clears: it.Clears})
	}
	return out
}

// located adds line and column to the violations of an error.
func located(doc *catalog.Document, err error) error {
	p := problem.Of(err)
	if len(p.Violations) == 0 {
		return err
	}
	more := *p
	more.Violations = doc.Locate(slices.Clone(p.Violations))
	return &problem.Error{Problem: &more}
}

// applied renders what was, or would be, done.
func applied(header *adminv1.ApplyHeader, res configsvc.Result) (*adminv1.ApplyResponse, error) {
	out := &adminv1.ApplyResponse{
		Group: header.GetGroup(), Revision: res.Revision, Changed: res.Changed,
		Unchanged: int64(res.Unchanged), Warnings: notices(res.Warnings),
	}
	var err error
	var rest []*adminv1.Notice
	out.Changes, rest, err = listed(res.Items, header.GetDryRun())
	out.Warnings = append(out.Warnings, rest...)
	return out, err
}

// listed renders changes as far as an answer can hold them, and says so if that is not all.
func listed(items []configsvc.Item, whole bool) ([]*adminv1.ResourceChange, []*adminv1.Notice, error) {
	left := maxChangesBytes
	if whole {
		left = maxDryRunBytes
	}
	var out []*adminv1.ResourceChange
	for i, it := range items {
		c, err := resourceChange(it, whole)
		if err != nil {
			return nil, nil, err
		}
		if left -= proto.Size(c); left < 0 {
			return out, []*adminv1.Notice{{Message: fmt.Sprintf("%d more changes are not listed", len(items)-i)}}, nil
		}
		out = append(out, c)
	}
	return out, nil, nil
}

// resourceChange renders one change; before and after only where they were asked for, which is in a dry run.
func resourceChange(it configsvc.Item, whole bool) (*adminv1.ResourceChange, error) {
	c := &adminv1.ResourceChange{Action: it.Action, Kind: it.Kind, Name: it.Name}
	if !whole {
		return c, nil
	}
	var err error
	if it.Before != nil && it.Before.Message != nil { // one that cannot be read may be replaced
		if c.Before, err = render(it.Before, nil); err != nil {
			return nil, err
		}
	}
	c.After, err = render(it.After, nil)
	return c, err
}

// Export answers the group as a document.
func (s *resources) Export(req *adminv1.ExportRequest, stream grpc.ServerStreamingServer[adminv1.ExportResponse]) error {
	contentType := req.GetContentType()
	if contentType == "" {
		contentType = catalog.YAML
	}
	if contentType != catalog.YAML && contentType != catalog.JSON {
		return failure(problem.Errorf(problem.UnsupportedMediaType, "documents are written as %s or %s", catalog.YAML, catalog.JSON))
	}
	view, err := s.view(stream.Context(), req.GetGroup(), req.GetMinRevision())
	if err != nil {
		return failure(err)
	}
	messages, err := s.exportable(view)
	if err != nil {
		return failure(err)
	}
	var doc bytes.Buffer
	if err := s.catalog.Export(&doc, req.GetGroup(), messages, contentType); err != nil {
		return failure(err)
	}
	for doc.Len() > 0 {
		if err := stream.Send(&adminv1.ExportResponse{Chunk: slices.Clone(doc.Next(exportChunk))}); err != nil {
			return err
		}
	}
	return nil
}

// exportable lists the resources of an export. One that cannot be read ends it: a document without it, applied with
// prune, would remove it.
func (s *resources) exportable(view *snapshot.View) ([]proto.Message, error) {
	var out []proto.Message
	for _, k := range s.catalog.Kinds() {
		for r := range view.All(k.Name) {
			if r.Message == nil {
				return nil, problem.Errorf(problem.Internal, "the stored %s cannot be read: %s", catalog.Ref(r.Kind, r.Name), r.Unreadable)
			}
			out = append(out, r.Message)
		}
	}
	return out, nil
}
