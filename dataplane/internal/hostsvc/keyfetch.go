package hostsvc

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"keyward.dev/shared/check/jwk"
	"keyward.dev/shared/check/strictjson"
)

// maxRedirects is how often a server may send us on, on itself.
const maxRedirects = 3

var errNotFound = errors.New("the server has nothing there (404)")

// keyFetcher fetches sets of keys over HTTP within the egress rules that are in force at the time. It goes through no proxy,
// verifies TLS by the authorities of the source or the roots of the machine, and follows nobody to another host.
type keyFetcher struct {
	rules func() *EgressRules
}

// fetch gets a set, and before that, if need be, where it is.
func (f *keyFetcher) fetch(ctx context.Context, s KeySource) (Fetched, error) {
	rules := f.rules()
	if rules == nil {
		return Fetched{}, errors.New("fetch keys: no configuration says yet which addresses may be dialled")
	}
	roots, err := rootsOf(s.Authorities)
	if err != nil {
		return Fetched{}, fmt.Errorf("fetch keys: %w", err)
	}
	client := &http.Client{
		Transport: &http.Transport{
			DialContext: NewDialer(rules, s.Timeout).DialContext, DisableKeepAlives: true, DisableCompression: true, MaxResponseHeaderBytes: 16 << 10,
			TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots},
		},
		CheckRedirect: sameHost,
	}
	where := s.URL
	if where == "" {
		if where, err = discover(ctx, client, s.Issuer); err != nil {
			return Fetched{}, fmt.Errorf("discover keys: %w", err)
		}
	}
	got, err := get(ctx, client, where)
	if err != nil {
		return Fetched{}, fmt.Errorf("fetch keys: %w", err)
	}
	return got, nil
}

// rootsOf returns who vouches for servers, nil for the roots of the machine.
func rootsOf(authorities string) (*x509.CertPool, error) {
	if authorities == "" {
		return nil, nil //nolint:nilnil // as the standard library means it
	}
	list, err := x509.ParseCertificates([]byte(authorities))
	if err != nil {
		return nil, fmt.Errorf("read authorities: %w", err)
	}
	pool := x509.NewCertPool()
	for _, c := range list {
		pool.AddCert(c)
	}
	return pool, nil
}

func sameHost(next *http.Request, before []*http.Request) error {
	first := before[0].URL
	if len(before) > maxRedirects || next.URL.Host != first.Host || next.URL.Scheme != first.Scheme {
		return http.ErrUseLastResponse
	}
	return nil
}

// discover returns where the keys of an issuer are, by what it says of itself: OpenID Connect Discovery 1.0 section 4, and if
// there is nothing, RFC 8414 section 3.
func discover(ctx context.Context, client *http.Client, issuer string) (string, error) {
	u, err := url.Parse(issuer)
	if err != nil || u.Host == "" {
		return "", errors.New("the issuer is not a URL")
	}
	path := strings.TrimSuffix(u.EscapedPath(), "/")
	base := u.Scheme + "://" + u.Host
	got, err := get(ctx, client, base+path+"/.well-known/openid-configuration")
	if errors.Is(err, errNotFound) {
		got, err = get(ctx, client, base+"/.well-known/oauth-authorization-server"+path)
	}
	if err != nil {
		return "", err
	}
	metadata, err := strictjson.Object(got.Body)
	if err != nil {
		return "", fmt.Errorf("the metadata %w", err)
	}
	if says, _ := metadata["issuer"].(string); says != issuer {
		return "", errors.New("the metadata is that of another issuer")
	}
	where, _ := metadata["jwks_uri"].(string)
	if k, err := url.Parse(where); err != nil || k.Host == "" || k.Scheme != "https" && (k.Scheme != "http" || !loopback(k.Hostname()) || u.Scheme != "http") {
		return "", errors.New("the metadata does not say where the keys are, by an https URL")
	}
	return where, nil
}

func loopback(host string) bool {
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}

func get(ctx context.Context, client *http.Client, where string) (Fetched, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, where, http.NoBody)
	if err != nil {
		return Fetched{}, fmt.Errorf("make request: %w", err)
	}
	req.Header.Set("Accept", "application/jwk-set+json, application/json")
	resp, err := client.Do(req)
	if err != nil {
		return Fetched{}, fmt.Errorf("ask: %w", err)
	}
	defer func() { _ = resp.Body.Close() }()
	switch {
	case resp.StatusCode == http.StatusNotFound:
		return Fetched{}, errNotFound
	case resp.StatusCode != http.StatusOK:
		return Fetched{}, fmt.Errorf("the server answers %d", resp.StatusCode)
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, jwk.MaxSet+1))
	if err != nil {
		return Fetched{}, fmt.Errorf("read answer: %w", err)
	}
	if len(body) > jwk.MaxSet {
		return Fetched{}, fmt.Errorf("the answer has more than %d bytes", jwk.MaxSet)
	}
	return Fetched{Body: body, MaxAge: maxAge(resp.Header)}, nil
}

// maxAge reads for how long an answer may be kept (RFC 9111 section 5.2.2). One that may not be kept at all is for a moment.
func maxAge(h http.Header) time.Duration {
	for d := range strings.SplitSeq(strings.ToLower(strings.Join(h.Values("Cache-Control"), ",")), ",") {
		name, value, _ := strings.Cut(strings.TrimSpace(d), "=")
		switch name {
		case "no-store", "no-cache":
			return time.Nanosecond
		case "max-age":
			const most = 365 * 24 * 3600
			if n, err := strconv.ParseInt(strings.Trim(value, `"`), 10, 64); err == nil && n >= 0 {
				return max(time.Duration(min(n, most))*time.Second, time.Nanosecond)
			}
		}
	}
	return 0
}
