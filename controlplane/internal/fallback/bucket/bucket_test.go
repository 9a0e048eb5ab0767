package bucket_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"keyward.dev/controlplane/internal/fallback"
	"keyward.dev/controlplane/internal/fallback/bucket"
	"keyward.dev/controlplane/internal/sigv4test"
)

var _ fallback.Place = (*bucket.Bucket)(nil)

const (
	access = "access-1"
	secret = "secret-1"
	region = "eu-1"
)

// store is as much of an S3-compatible store as bundles need.
type store struct {
	mu      sync.Mutex
	objects map[string][]byte
	denied  int
}

// ServeHTTP implements http.Handler.
func (s *store) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	body, _ := io.ReadAll(r.Body)
	if err := (sigv4test.Signer{Access: access, Secret: secret, Region: region, Service: "s3"}).Verify(r, body); err != nil {
		s.denied++
		fail(w, http.StatusForbidden, "SignatureDoesNotMatch", err.Error())
		return
	}
	switch object, ok := s.objects[r.URL.Path]; {
	case r.Method == http.MethodPut:
		s.objects[r.URL.Path] = body
	case r.Method != http.MethodGet:
		fail(w, http.StatusMethodNotAllowed, "MethodNotAllowed", r.Method)
	case !ok:
		fail(w, http.StatusNotFound, "NoSuchKey", "nothing there")
	default:
		_, _ = w.Write(object)
	}
}

func fail(w http.ResponseWriter, status int, code, message string) {
	w.Header().Set("Content-Type", "application/xml")
	w.WriteHeader(status)
	_, _ = fmt.Fprintf(w, "<Error><Code>%s</Code><Message>%s</Message></Error>", code, message)
}

func TestBundlesComeBackFromABucket(t *testing.T) {
	t.Parallel()
	for name, serve := range map[string]func(http.Handler) *httptest.Server{"https": httptest.NewTLSServer, "http": httptest.NewServer} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := &store{objects: map[string][]byte{}}
			server := serve(s)
			defer server.Close()
			comesBack(t, s, server)
		})
	}
}

func comesBack(t *testing.T, s *store, server *httptest.Server) {
	t.Helper()
	at, err := bucket.ParseLocation(server.URL + "/bundles/keyward/eu/")
	if err != nil {
		t.Fatal(err)
	}
	cfg := bucket.Config{Location: at, Region: region, AccessKey: access, SecretKey: secret, Client: server.Client()}
	b := bucket.New(cfg)
	if _, err := b.Read(t.Context(), "a@b c.bundle"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Read() of nothing = %v, want fs.ErrNotExist", err)
	}
	want := bytes.Repeat([]byte("x"), 300<<10)
	if err := b.Replace(t.Context(), "a@b c.bundle", func(w io.Writer) error { _, err := w.Write(want); return err }); err != nil {
		t.Fatal(err)
	}
	if got, err := b.Read(t.Context(), "a@b c.bundle"); err != nil || !bytes.Equal(got, want) {
		t.Errorf("Read() = %d bytes, %v", len(got), err)
	}
	if s.objects["/bundles/keyward/eu/a@b c.bundle"] == nil || s.denied > 0 {
		t.Errorf("%d objects, %d requests were denied", len(s.objects), s.denied)
	}
	broken := errors.New("broken")
	if err := b.Replace(t.Context(), "a@b c.bundle", func(io.Writer) error { return broken }); !errors.Is(err, broken) {
		t.Errorf("Replace() = %v, want the error of what writes", err)
	}
	if got, err := b.Read(t.Context(), "a@b c.bundle"); err != nil || !bytes.Equal(got, want) {
		t.Errorf("after a write that failed: %d bytes, %v", len(got), err)
	}
	cfg.SecretKey = "wrong-secret"
	if _, err := bucket.New(cfg).Read(t.Context(), "a@b c.bundle"); err == nil || errors.Is(err, fs.ErrNotExist) || strings.Contains(err.Error(), "wrong-secret") {
		t.Errorf("Read() with a wrong key = %v", err)
	}
}

func TestParseLocation(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]bucket.Location{
		"https://s3.example.com/bundles":          {Endpoint: "https://s3.example.com", Bucket: "bundles"},
		"https://s3.example.com:9000/bundles/a/b": {Endpoint: "https://s3.example.com:9000", Bucket: "bundles", Prefix: "a/b"},
		"http://127.0.0.1:9000/bundles/":          {Endpoint: "http://127.0.0.1:9000", Bucket: "bundles"},
	} {
		got, err := bucket.ParseLocation(text)
		if diff := cmp.Diff(want, got); diff != "" || err != nil {
			t.Errorf("ParseLocation(%s): %v (-want +got):\n%s", text, err, diff)
		}
	}
	for _, text := range []string{"", "bundles", "http://s3.example.com/bundles", "https://s3.example.com", "https://s3.example.com/", "https://a:b@s3.example.com/x", "s3://bundles", "https://s3.example.com/x?y"} {
		if got, err := bucket.ParseLocation(text); err == nil {
			t.Errorf("ParseLocation(%q) = %v, want an error", text, got)
		}
	}
}
