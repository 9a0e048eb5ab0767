package rest

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"

	"google.golang.org/grpc"

	adminv1 "keyward.dev/proto/gen/keyward/admin/v1"
	"keyward.dev/shared/catalog"
)

// apply streams the body on as it comes.
func (c *call) apply(ctx context.Context) error {
	header := &adminv1.ApplyHeader{}
	if err := c.queryOnly(header); err != nil {
		return err
	}
	header.Group = c.vars["group"]
	var err error
	if header.ContentType, err = c.contentType(catalog.YAML, catalog.JSON); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx) // ends the stream when the body fails: what was sent so far must not count
	defer cancel()
	stream, err := adminv1.NewResourceServiceClient(c.cfg.Conn).Apply(ctx)
	if err != nil {
		return err
	}
	if err := c.sendDocument(stream, header); err != nil {
		return err
	}
	c.received()
	out, err := stream.CloseAndRecv()
	c.streamHeader(stream)
	if err != nil {
		return err
	}
	body, err := c.encodeMessage(out)
	if err != nil {
		return err
	}
	c.answer(http.StatusOK, body)
	return nil
}

// sendDocument sends the header and the body. It returns nil if the server has ended the stream: CloseAndRecv tells why.
func (c *call) sendDocument(stream grpc.ClientStreamingClient[adminv1.ApplyRequest, adminv1.ApplyResponse], header *adminv1.ApplyHeader) error {
	if err := stream.Send(&adminv1.ApplyRequest{Message: &adminv1.ApplyRequest_Header{Header: header}}); err != nil {
		return endOfStream(err)
	}
	body := http.MaxBytesReader(c.w, c.r.Body, maxDocument)
	for {
		buf := make([]byte, chunk) // not reused: the message belongs to the stream once sent
		n, readErr := io.ReadFull(body, buf)
		if n > 0 {
			c.extend()
			if err := stream.Send(&adminv1.ApplyRequest{Message: &adminv1.ApplyRequest_Chunk{Chunk: buf[:n]}}); err != nil {
				return endOfStream(err)
			}
		}
		switch {
		case errors.Is(readErr, io.EOF), errors.Is(readErr, io.ErrUnexpectedEOF) && c.complete(body):
			return nil
		case readErr != nil:
			return bodyError(readErr)
		}
	}
}

// complete tells the short last piece of a body from a body that was cut: only the former is followed by a clean end.
func (c *call) complete(body io.Reader) bool {
	_, err := body.Read(make([]byte, 1))
	return errors.Is(err, io.EOF)
}

func endOfStream(err error) error {
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

// export streams the document on as it comes.
func (c *call) export(ctx context.Context) error {
	in := &adminv1.ExportRequest{}
	if err := c.query(in); err != nil {
		return err
	}
	c.received()
	in.ContentType = catalog.YAML
	if accept := c.r.Header.Get("Accept"); strings.Contains(accept, contentTypeJSON) && !strings.Contains(accept, catalog.YAML) {
		in.ContentType = catalog.JSON
	}
	stream, err := adminv1.NewResourceServiceClient(c.cfg.Conn).Export(ctx, in)
	if err != nil {
		return err
	}
	first, err := stream.Recv()
	c.streamHeader(stream)
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	c.w.Header().Set("Content-Type", in.GetContentType())
	c.w.WriteHeader(http.StatusOK)
	for msg := first; err == nil; msg, err = stream.Recv() {
		c.received()
		if _, writeErr := c.w.Write(msg.GetChunk()); writeErr != nil {
			return nil //nolint:nilerr // the client is gone
		}
	}
	if !errors.Is(err, io.EOF) {
		c.cfg.Log.WarnContext(ctx, "export broken off", "err", err)
		panic(http.ErrAbortHandler) // half a document must not look like a whole one
	}
	return nil
}

func (c *call) streamHeader(stream grpc.ClientStream) {
	if md, err := stream.Header(); err == nil {
		c.header(md)
	}
}
