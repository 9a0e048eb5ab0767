package rest

import (
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strings"

	"keyward.dev/shared/problem"
)

// contentType returns the media type of the body if it is one of those wanted.
func (c *call) contentType(wanted ...string) (string, error) {
	if enc := c.r.Header.Get("Content-Encoding"); enc != "" && !strings.EqualFold(enc, "identity") {
		return "", problem.Errorf(problem.UnsupportedMediaType, "bodies must not be compressed")
	}
	mediaType, params, err := mime.ParseMediaType(c.r.Header.Get("Content-Type"))
	if charset := params["charset"]; charset != "" && !strings.EqualFold(charset, "utf-8") {
		return "", problem.Errorf(problem.UnsupportedMediaType, "bodies must be UTF-8")
	}
	for _, w := range wanted {
		if err == nil && mediaType == w {
			return w, nil
		}
	}
	return "", problem.Errorf(problem.UnsupportedMediaType, "the Content-Type must be %s", strings.Join(wanted, " or "))
}

// body reads a whole body of at most maxBody bytes.
func (c *call) body() ([]byte, error) {
	data, err := io.ReadAll(http.MaxBytesReader(c.w, c.r.Body, maxBody))
	if err != nil {
		return nil, bodyError(err)
	}
	return data, nil
}

func bodyError(err error) error {
	if tooLarge, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return problem.Errorf(problem.TooLarge, "the body is larger than %d bytes", tooLarge.Limit)
	}
	return problem.Wrap(problem.Malformed, "the body ended early", err)
}

// ifMatch reads a precondition: `*` or one quoted entity tag; "" if there is none.
func (c *call) ifMatch() (string, error) {
	values := c.r.Header.Values("If-Match")
	switch {
	case len(values) == 0:
		return "", nil
	case len(values) == 1 && values[0] == "*":
		return "*", nil
	case len(values) == 1:
		if tag, ok := unquote(values[0]); ok {
			return tag, nil
		}
	}
	return "", problem.Errorf(problem.Malformed, `If-Match must be * or one entity tag in double quotes, as in the ETag of an answer`)
}

// ifNoneMatch reads the other precondition, which writes know as `*` only.
func (c *call) ifNoneMatch() (string, error) {
	values := c.r.Header.Values("If-None-Match")
	switch {
	case len(values) == 0:
		return "", nil
	case len(values) == 1 && values[0] == "*":
		return "*", nil
	}
	return "", problem.Errorf(problem.Malformed, "If-None-Match must be *: create only")
}

// notModified reports whether a reader has this version already.
func (c *call) notModified(etag string) bool {
	for _, value := range c.r.Header.Values("If-None-Match") {
		for tag := range strings.SplitSeq(value, ",") {
			tag = strings.TrimPrefix(strings.TrimSpace(tag), "W/") // reads compare weakly
			if tag == "*" || tag == quote(etag) {
				return true
			}
		}
	}
	return false
}

func quote(etag string) string { return fmt.Sprintf("%q", etag) }

func unquote(tag string) (string, bool) {
	if len(tag) < 3 || tag[0] != '"' || tag[len(tag)-1] != '"' || strings.ContainsAny(tag[1:len(tag)-1], `"\, `) {
		return "", false
	}
	return tag[1 : len(tag)-1], true
}
