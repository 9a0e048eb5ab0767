package rest

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	adminv1 "keyward.dev/proto/gen/keyward/admin/v1"
	"keyward.dev/shared/catalog"
	"keyward.dev/shared/problem"
)

func (c *call) getResource(ctx context.Context) error {
	in := &adminv1.GetRequest{}
	if err := c.query(in); err != nil {
		return err
	}
	in.Kind = c.op.Kind.Name
	if c.op.Several && strings.Contains(in.GetName(), ",") {
		return c.answerList(ctx, &adminv1.ListRequest{
			Group: in.GetGroup(), Kind: in.GetKind(), Names: strings.Split(in.GetName(), ","), MinRevision: in.GetMinRevision(),
		})
	}
	var out adminv1.Resource
	if err := c.invoke(ctx, in, &out); err != nil {
		return err
	}
	return c.answerResource(http.StatusOK, out.GetResource())
}

func (c *call) listResources(ctx context.Context) error {
	in := &adminv1.ListRequest{}
	if err := c.query(in); err != nil {
		return err
	}
	in.Kind = c.op.Kind.Name
	return c.answerList(ctx, in)
}

// answerList answers a page.
func (c *call) answerList(ctx context.Context, in *adminv1.ListRequest) error {
	var out adminv1.ListResponse
	if err := c.invokeMethod(ctx, adminv1.ResourceService_List_FullMethodName, in, &out); err != nil {
		return err
	}
	page := struct {
		Resources     []json.RawMessage `json:"resources"`
		NextPageToken string            `json:"next_page_token,omitempty"`
		AtRevision    int64             `json:"at_revision"`
	}{Resources: make([]json.RawMessage, 0, len(out.GetResources())), NextPageToken: out.GetNextPageToken(), AtRevision: out.GetAtRevision()}
	for _, resource := range out.GetResources() {
		doc, _, err := c.encode(resource)
		if err != nil {
			return err
		}
		page.Resources = append(page.Resources, doc)
	}
	body, err := json.Marshal(page)
	if err != nil {
		return fmt.Errorf("encode page: %w", err)
	}
	c.answer(http.StatusOK, body)
	return nil
}

func (c *call) putResource(ctx context.Context) error {
	at, err := c.target()
	if err != nil {
		return err
	}
	in := &adminv1.PutRequest{Group: at.GetGroup(), Kind: at.GetKind(), Parent: at.GetParent(), Name: at.GetName(), DryRun: at.GetDryRun(), Immediate: at.GetImmediate()}
	if in.IfMatch, err = c.ifMatch(); err != nil {
		return err
	}
	if in.IfNoneMatch, err = c.ifNoneMatch(); err != nil {
		return err
	}
	contentType, err := c.contentType(catalog.JSON, catalog.YAML)
	if err != nil {
		return err
	}
	body, err := c.body()
	if err != nil {
		return err
	}
	item, violations := c.cfg.Catalog.DecodeResource(c.op.Kind.Name, body, contentType, catalog.Place{Parent: at.GetParent(), Name: at.GetName()})
	if err := problem.Violated(violations); err != nil {
		return err
	}
	if in.Resource, err = anypb.New(item.Message); err != nil {
		return fmt.Errorf("wrap %s: %w", c.op.Kind.Name, err)
	}
	in.Clear = item.Clears
	return c.answerWrite(ctx, in)
}

func (c *call) patchResource(ctx context.Context) error {
	at, err := c.target()
	if err != nil {
		return err
	}
	in := &adminv1.PatchRequest{Group: at.GetGroup(), Kind: at.GetKind(), Parent: at.GetParent(), Name: at.GetName(), DryRun: at.GetDryRun(), Immediate: at.GetImmediate()}
	if in.IfMatch, err = c.ifMatch(); err != nil {
		return err
	}
	if _, err := c.contentType(catalog.MergePatch); err != nil {
		return err
	}
	if in.MergePatch, err = c.body(); err != nil {
		return err
	}
	return c.answerWrite(ctx, in)
}

func (c *call) deleteResource(ctx context.Context) error {
	in, err := c.target()
	if err != nil {
		return err
	}
	if err := c.noBody(); err != nil {
		return err
	}
	if in.IfMatch, err = c.ifMatch(); err != nil {
		return err
	}
	var out adminv1.WriteResponse
	if err := c.invoke(ctx, in, &out); err != nil {
		return err
	}
	c.warn(&out)
	c.w.WriteHeader(http.StatusNoContent)
	return nil
}

// target reads what all writes of one resource have in common from path and query.
func (c *call) target() (*adminv1.DeleteRequest, error) {
	at := &adminv1.DeleteRequest{}
	if err := c.queryOnly(at); err != nil {
		return nil, err
	}
	at.Kind = c.op.Kind.Name
	return at, c.fillFromPath(at)
}

// answerWrite writes one resource and answers it as it is stored now.
func (c *call) answerWrite(ctx context.Context, in proto.Message) error {
	var out adminv1.WriteResponse
	if err := c.invoke(ctx, in, &out); err != nil {
		return err
	}
	c.warn(&out)
	status := http.StatusOK
	if out.GetCreated() {
		status = http.StatusCreated
	}
	return c.answerResource(status, out.GetResource())
}

func (c *call) warn(out *adminv1.WriteResponse) {
	const most = 16 // headers are bounded; gRPC callers get all
	for i, n := range out.GetWarnings() {
		if i == most {
			return
		}
		text, err := json.Marshal(n.GetPath() + ": " + n.GetMessage()) // quoted, so that no character breaks the header
		if err != nil {
			continue
		}
		c.w.Header().Add(WarningHeader, string(text))
	}
}

func (c *call) answerResource(status int, resource *anypb.Any) error {
	body, etag, err := c.encode(resource)
	if err != nil {
		return err
	}
	c.w.Header().Set("ETag", quote(etag))
	if c.op.Method == http.MethodGet && c.notModified(etag) {
		c.w.WriteHeader(http.StatusNotModified)
		return nil
	}
	c.answer(status, body)
	return nil
}

// encode writes a resource as JSON and returns its entity tag.
func (c *call) encode(resource *anypb.Any) (body []byte, etag string, err error) {
	m, err := resource.UnmarshalNew()
	if err != nil {
		return nil, "", fmt.Errorf("unwrap resource: %w", err)
	}
	if tagged, ok := m.(interface{ GetEtag() string }); ok {
		etag = tagged.GetEtag()
	}
	body, err = c.cfg.Catalog.Encode(m, catalog.JSON, catalog.EncodeOptions{})
	if err != nil {
		return nil, "", fmt.Errorf("encode resource: %w", err)
	}
	return body, etag, nil
}
