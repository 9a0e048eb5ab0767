// Package sigv4test checks the signatures of requests to AWS for stand-ins of its services, from the description of
// Signature Version 4 and without Amazon's code. Only tests use it.
package sigv4test

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"strings"
)

// Signer is who has to have signed, and for what.
type Signer struct{ Access, Secret, Region, Service string }

// Verify says what is wrong with the signature of a request.
func (s Signer) Verify(r *http.Request, body []byte) error {
	fields := map[string]string{}
	rest, ok := strings.CutPrefix(r.Header.Get("Authorization"), "AWS4-HMAC-SHA256 ")
	for part := range strings.SplitSeq(rest, ",") {
		name, value, _ := strings.Cut(strings.TrimSpace(part), "=")
		fields[name] = value
	}
	date := r.Header.Get("X-Amz-Date")
	if !ok || len(date) < 8 {
		return errors.New("no signature of version 4")
	}
	scope := date[:8] + "/" + s.Region + "/" + s.Service + "/aws4_request"
	if fields["Credential"] != s.Access+"/"+scope {
		return fmt.Errorf("credential is %s", fields["Credential"])
	}
	sum := sha256.Sum256(body)
	payload := r.Header.Get("X-Amz-Content-Sha256")
	if payload == "" { // only S3 repeats it in a header
		payload = hex.EncodeToString(sum[:])
	}
	// Over TLS the body may be left to TLS.
	if payload != hex.EncodeToString(sum[:]) && (payload != "UNSIGNED-PAYLOAD" || r.TLS == nil) {
		return errors.New("the body is not the one that was signed")
	}
	canonical := sha256.Sum256([]byte(canonical(r, fields["SignedHeaders"], payload)))
	text := fmt.Sprintf("AWS4-HMAC-SHA256\n%s\n%s\n%x", date, scope, canonical)
	key := []byte("AWS4" + s.Secret)
	for _, part := range []string{date[:8], s.Region, s.Service, "aws4_request", text} {
		key = mac(key, part)
	}
	if hex.EncodeToString(key) != fields["Signature"] {
		return errors.New("the signature is another")
	}
	return nil
}

func canonical(r *http.Request, signed, payload string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n%s\n%s\n", r.Method, r.URL.EscapedPath(), r.URL.RawQuery)
	for name := range strings.SplitSeq(signed, ";") {
		value := strings.Join(r.Header.Values(name), ",")
		switch name {
		case "host":
			value = r.Host
		case "content-length":
			value = fmt.Sprint(r.ContentLength)
		}
		fmt.Fprintf(&b, "%s:%s\n", name, strings.TrimSpace(value))
	}
	fmt.Fprintf(&b, "\n%s\n%s", signed, payload)
	return b.String()
}

func mac(key []byte, text string) []byte {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(text))
	return h.Sum(nil)
}
