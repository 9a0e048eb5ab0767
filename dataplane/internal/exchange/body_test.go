package exchange_test

import (
	"testing"

	"keyward.dev/dataplane/internal/exchange"
)

// reader is a body that is read once for each call.
type reader struct {
	body  string
	calls int
}

func (r *reader) ReadBody(limit int64) ([]byte, *exchange.Refusal) {
	if r.calls++; int64(len(r.body)) > limit {
		return nil, exchange.RefuseBodyTooLong
	}
	return []byte(r.body), nil
}

func TestBody(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		length int64
		reader exchange.BodyReader
		limit  int64
		want   string
		status int // of the refusal; 0: none
	}{
		{"none", 0, nil, 0, "", 0},
		{"by length", 5, &reader{body: "hello"}, 5, "hello", 0},
		{"of unknown length", -1, &reader{body: "hello"}, 5, "hello", 0},
		{"longer than the limit", 5, &reader{body: "hello"}, 4, "", 413},
		{"that nobody reads", 5, nil, 5, "", 500},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			x := &exchange.Exchange{Bodies: tt.reader}
			x.Request.ContentLength = tt.length
			b, ok := x.Body(tt.limit)
			status := 0
			if r := x.Refusal(); r != nil {
				status = r.Status()
			}
			if string(b) != tt.want || ok != (tt.status == 0) || status != tt.status {
				t.Errorf("Body() = %q, %v with refusal %d; want %q, %d", b, ok, status, tt.want, tt.status)
			}
		})
	}
}

func TestBodyIsReadOnceAndHeldToEachLimit(t *testing.T) {
	t.Parallel()
	r := &reader{body: "hello"}
	x := &exchange.Exchange{Bodies: r}
	x.Request.ContentLength = 5
	for range 2 {
		if b, ok := x.Body(10); string(b) != "hello" || !ok {
			t.Fatalf("Body() = %q, %v", b, ok)
		}
	}
	if _, ok := x.Body(4); ok || r.calls != 1 {
		t.Errorf("a body of 5 bytes is within 4: %v; it was read %d times, want once", ok, r.calls)
	}
	x.Reset()
	if b, ok := x.Body(10); b != nil || !ok {
		t.Errorf("after Reset there is still a body: %q, %v", b, ok)
	}
}

func TestReplaceBody(t *testing.T) {
	t.Parallel()
	x := &exchange.Exchange{Bodies: &reader{body: "hello"}}
	x.Request.ContentLength = 5
	for _, name := range []string{"Content-Digest", "content-md5", "Digest", "Repr-Digest", "X-Kept"} {
		x.Request.Header.Add(exchange.Field(name, "v"))
	}
	x.Save()
	if _, ok := x.ReplacedBody(); ok {
		t.Error("ReplacedBody() before anything was replaced")
	}
	x.ReplaceBody([]byte("bye"))
	got, ok := x.ReplacedBody()
	if again, _ := x.Body(3); string(got) != "bye" || !ok || string(again) != "bye" {
		t.Errorf("ReplacedBody() = %q, %v and Body() = %q, want bye", got, ok, again)
	}
	if h := x.Request.Header; len(h) != 1 || string(h[0].Name) != "X-Kept" {
		t.Errorf("fields left are %v, want only the one that is no digest", h)
	}
	x.Restore()
	if b, _ := x.Body(5); string(b) != "hello" || len(x.Request.Header) != 5 {
		t.Errorf("after Restore the body is %q with %d fields, want hello with 5", b, len(x.Request.Header))
	}
	if _, ok := x.ReplacedBody(); ok {
		t.Error("after Restore a body is still replaced")
	}
}
