package httpsig_test

import (
	"errors"
	"testing"
	"time"

	"keyward.dev/dataplane/internal/httpsig"
)

const (
	body   = `{"hello": "world"}`
	sha256 = "X48E9qOokqqrvdts8nOJRJN3OWDUoyWxBf7kbu9DBPE="
)

func TestDigests(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, field, body string
		want              error
	}{
		{"RFC 9530 by SHA-512", "Content-Digest: " + requestDigest, body, nil},
		{"RFC 9530 by SHA-256", "Content-Digest: sha-256=:" + sha256 + ":", body, nil},
		{"RFC 9530 by both", "Content-Digest: sha-256=:" + sha256 + ":, " + requestDigest, body, nil},
		{"RFC 9530 beside one that nobody knows", "Content-Digest: md5=:AAAA:, sha-256=:" + sha256 + ":", body, nil},
		{"RFC 9530 of another body", "Content-Digest: sha-256=:" + sha256 + ":", body + " ", httpsig.ErrDigest},
		{"RFC 9530, one of two is wrong", "Content-Digest: sha-256=:AAAA:, " + requestDigest, body, httpsig.ErrDigest},
		{"RFC 9530 by nothing known", "Content-Digest: md5=:AAAA:", body, httpsig.ErrAbsent},
		{"RFC 9530 that is text", `Content-Digest: sha-256="` + sha256 + `"`, body, httpsig.ErrMalformed},
		{"RFC 9530 that is nothing", "Content-Digest:", body, httpsig.ErrMalformed},
		{"none", "X: y", body, httpsig.ErrAbsent},
	}
	legacy := []struct {
		name, field, body string
		want              error
	}{
		{"RFC 3230", "Digest: SHA-256=" + sha256, body, nil},
		{"RFC 3230 in lower case, beside another", "Digest: unixsum=1, sha-256=" + sha256, body, nil},
		{"RFC 3230 of another body", "Digest: SHA-256=" + sha256, "", httpsig.ErrDigest},
		{"RFC 3230 by nothing known", "Digest: MD5=AAAA", body, httpsig.ErrAbsent},
		{"RFC 3230 that is no Base64", "Digest: SHA-256=x", body, httpsig.ErrMalformed},
		{"RFC 3230 without", "X: y", body, httpsig.ErrAbsent},
	}
	for _, tt := range tests {
		if err := httpsig.ContentDigest(request(t, "POST /", tt.field), []byte(tt.body), heap{}); !errors.Is(err, tt.want) || tt.want == nil && err != nil {
			t.Errorf("%s: ContentDigest() = %v, want %v", tt.name, err, tt.want)
		}
	}
	for _, tt := range legacy {
		if err := httpsig.LegacyDigest(request(t, "POST /", tt.field), []byte(tt.body), heap{}); !errors.Is(err, tt.want) || tt.want == nil && err != nil {
			t.Errorf("%s: LegacyDigest() = %v, want %v", tt.name, err, tt.want)
		}
	}
}

func TestDates(t *testing.T) {
	t.Parallel()
	at := time.Date(2024, 2, 29, 23, 59, 59, 0, time.UTC)
	for range 4000 {
		text := at.Format("Mon, 02 Jan 2006 15:04:05 GMT")
		if got, ok := httpsig.ParseDate([]byte(text)); !ok || got.Unix != at.Unix() {
			t.Fatalf("ParseDate(%s) = %v, %v", text, got, ok)
		}
		at = at.Add(26*time.Hour + 7*time.Minute + 13*time.Second)
	}
	for _, bad := range []string{
		"", "Sun, 05 Jan 2014 21:31:40 UTC", "Sun, 05 Jan 2014 21:31:4", "Sun, 5 Jan 2014 21:31:40 GMT", "Mon, 05 Jan 2014 21:31:40 GMT",
		"Sun, 30 Feb 2014 21:31:40 GMT", "Sun, 05 Jan 2014 24:31:40 GMT", "Sun, 05 jan 2014 21:31:40 GMT", "Sun, 05 Jan 2014 21-31:40 GMT",
		"Sunday, 05-Jan-14 21:31:40 GMT", "Sun Jan  5 21:31:40 2014", "Sun, 05 Jan 2014 2a:31:40 GMT",
	} {
		if got, ok := httpsig.ParseDate([]byte(bad)); ok {
			t.Errorf("ParseDate(%q) = %v", bad, got)
		}
	}
}
