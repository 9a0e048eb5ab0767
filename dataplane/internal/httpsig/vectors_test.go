package httpsig_test

import (
	"crypto"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"keyward.dev/dataplane/internal/exchange"
	"keyward.dev/dataplane/internal/httpsig"
)

// heap is memory as tests have it.
type heap struct{}

func (heap) Alloc(n int) []byte { return make([]byte, 0, n) }

// request is a message from its lines; the first is the request line without a version.
func request(t testing.TB, lines ...string) *httpsig.Message {
	t.Helper()
	method, target, ok := strings.Cut(lines[0], " ")
	if !ok {
		t.Fatalf("%q is no request line", lines[0])
	}
	m := &httpsig.Message{Method: []byte(method), Target: []byte(target), Scheme: "https", Proto: 11}
	for _, l := range lines[1:] {
		name, value, _ := strings.Cut(l, ":")
		f := exchange.Field(name, strings.TrimSpace(value))
		m.Header.Add(f)
		if strings.EqualFold(name, "Host") {
			m.Authority = f.Value
		}
	}
	return m
}

func parsed(t testing.TB, text string) crypto.PublicKey {
	t.Helper()
	der, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		t.Fatal(err)
	}
	if p, err := x509.ParsePKIXPublicKey(der); err == nil {
		return p
	}
	p, err := x509.ParsePKCS1PublicKey(der)
	if err != nil {
		t.Fatalf("%s: %v", pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}), err)
	}
	return p
}

func public(t testing.TB, a httpsig.Algorithm, text string) *httpsig.Key {
	t.Helper()
	k, err := httpsig.NewPublic(a, parsed(t, text))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func secret(t testing.TB, a httpsig.Algorithm, s []byte) *httpsig.Key {
	t.Helper()
	k, err := httpsig.NewSecret(a, s)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// The keys of RFC 9421 appendix B.1.
const (
	keyRSA     = "MIIBCgKCAQEAhAKYdtoeoy8zcAcR874L8cnZxKzAGwd7v36APp7Pv6Q2jdsPBRrwWEBnez6d0UDKDwGbc6nxfEXAy5mbhgajzrw3MOEt8uA5txSKobBpKDeBLOsdJKFqMGmXCQvEG7YemcxDTRPxAleIAgYYRjTSd/QBwVW9OwNFhekro3RtlinV0a75jfZgkne/YiktSvLG34lw2zqXBDTC5NHROUqGTlML4PlNZS5Ri2U4aCNx2rUPRcKIlE0PuKxI4T+HIaFpv8+rdV6eUgOrB2xeI1dSFFn/nnv5OoZJEIB+VmuKn3DCUcCZSFlQPSXSfBDiUGhwOw76WuSSsf1D4b/vLoJ10wIDAQAB"
	keyPSS     = "MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEAr4tmm3r20Wd/PbqvP1s2+QEtvpuRaV8Yq40gjUR8y2Rjxa6dpG2GXHbPfvMs8ct+Lh1GH45x28Rw3Ry53mm+oAXjyQ86OnDkZ5N8lYbggD4O3w6M6pAvLkhk95AndTrifbIFPNU8PPMO7OyrFAHqgDsznjPFmTOtCEcN2Z1FpWgchwuYLPL+Wokqltd11nqqzi+bJ9cvSKADYdUAAN5WUtzdpiy6LbTgSxP7ociU4Tn0g5I6aDZJ7A8Lzo0KSyZYoA485mqcO0GVAdVw9lq4aOT9v6d+nb4bnNkQVklLQ3fVAvJm+xdDOp9LCNCN48V2pnDOkFV6+U9nV5oyc6XI2wIDAQAB"
	keyP256    = "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEqIVYZVLCrPZHGHjP17CTW0/+D9Lfw0EkjqF7xB4FivAxzic30tMM4GF+hR6Dxh71Z50VGGdldkkDXZCnTNnoXQ=="
	keyEd25519 = "MCowBQYDK2VwAyEAJrQLj5P/89iXES9+vFgrIy29clF9CC/oPPsw3c5D0bs="
	keySecret  = "uzvJfB4u3N0Jy4T7NZ75MDVcr8zSTInedJtkgcu46YW4XByzNJjxBdtjUkdJPBtbmHhIDi6pcl8jsasjlTMtDQ=="
)

func sharedSecret(t testing.TB) []byte {
	t.Helper()
	s, err := base64.StdEncoding.DecodeString(keySecret)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

const requestDigest = "sha-512=:WZDPaVn/7XgHaAy8pmojAkGWoRx2UFChF41A2svX+TaPm+AbwAgBWnrIiYllu7BNNyealdVLvRwEmTHWXvJwew==:"

// requestB is the request of appendix B.2.
func requestB(t testing.TB, input, signature string) *httpsig.Message {
	t.Helper()
	return request(t, "POST /foo?param=Value&Pet=dog", "Host: example.com", "Date: Tue, 20 Apr 2021 02:07:55 GMT",
		"Content-Type: application/json", "Content-Digest: "+requestDigest, "Content-Length: 18",
		"Signature-Input: "+input, "Signature: "+signature)
}

type vector struct {
	name    string
	message *httpsig.Message
	label   string
	key     *httpsig.Key
	base    string // empty: not published
}

func vectors(t testing.TB) []vector {
	t.Helper()
	pss, p256 := public(t, httpsig.RSAPSSSHA512, keyPSS), public(t, httpsig.ECDSAP256SHA256, keyP256)
	return []vector{
		{
			name: "B.2.1 minimal", label: "sig-b21", key: pss,
			message: requestB(t, `sig-b21=();created=1618884473;keyid="test-key-rsa-pss";nonce="b3k2pp5k7z-50gnwp.yemd"`,
				`sig-b21=:d2pmTvmbncD3xQm8E9ZV2828BjQWGgiwAaw5bAkgibUopemLJcWDy/lkbbHAve4cRAtx31Iq786U7it++wgGxbtRxf8Udx7zFZsckzXaJMkA7ChG52eSkFxykJeNqsrWH5S+oxNFlD4dzVuwe8DhTSja8xxbR/Z2cOGdCbzR72rgFWhzx2VjBqJzsPLMIQKhO4DGezXehhWwE56YCE+O6c0mKZsfxVrogUvA4HELjVKWmAvtl6UnCh8jYzuVG5WSb/QEVPnP5TmcAnLH1g+s++v6d4s8m0gCw1fV5/SITLq9mhho8K3+7EPYTU8IU1bLhdxO5Nyt8C8ssinQ98Xw9Q==:`),
			base: `"@signature-params": ();created=1618884473;keyid="test-key-rsa-pss";nonce="b3k2pp5k7z-50gnwp.yemd"`,
		},
		{
			name: "B.2.2 selective", label: "sig-b22", key: pss,
			message: requestB(t, `sig-b22=("@authority" "content-digest" "@query-param";name="Pet");created=1618884473;keyid="test-key-rsa-pss";tag="header-example"`,
				`sig-b22=:LjbtqUbfmvjj5C5kr1Ugj4PmLYvx9wVjZvD9GsTT4F7GrcQEdJzgI9qHxICagShLRiLMlAJjtq6N4CDfKtjvuJyE5qH7KT8UCMkSowOB4+ECxCmT8rtAmj/0PIXxi0A0nxKyB09RNrCQibbUjsLS/2YyFYXEu4TRJQzRw1rLEuEfY17SARYhpTlaqwZVtR8NV7+4UKkjqpcAoFqWFQh62s7Cl+H2fjBSpqfZUJcsIk4N6wiKYd4je2U/lankenQ99PZfB4jY3I5rSV2DSBVkSFsURIjYErOs0tFTQosMTAoxk//0RoKUqiYY8Bh0aaUEb0rQl3/XaVe4bXTugEjHSw==:`),
			base: `"@authority": example.com
"content-digest": ` + requestDigest + `
"@query-param";name="Pet": dog
"@signature-params": ("@authority" "content-digest" "@query-param";name="Pet");created=1618884473;keyid="test-key-rsa-pss";tag="header-example"`,
		},
		{
			name: "B.2.3 full", label: "sig-b23", key: pss,
			message: requestB(t, `sig-b23=("date" "@method" "@path" "@query" "@authority" "content-type" "content-digest" "content-length");created=1618884473;keyid="test-key-rsa-pss"`,
				`sig-b23=:bbN8oArOxYoyylQQUU6QYwrTuaxLwjAC9fbY2F6SVWvh0yBiMIRGOnMYwZ/5MR6fb0Kh1rIRASVxFkeGt683+qRpRRU5p2voTp768ZrCUb38K0fUxN0O0iC59DzYx8DFll5GmydPxSmme9v6ULbMFkl+V5B1TP/yPViV7KsLNmvKiLJH1pFkh/aYA2HXXZzNBXmIkoQoLd7YfW91kE9o/CCoC1xMy7JA1ipwvKvfrs65ldmlu9bpG6A9BmzhuzF8Eim5f8ui9eH8LZH896+QIF61ka39VBrohr9iyMUJpvRX2Zbhl5ZJzSRxpJyoEZAFL2FUo5fTIztsDZKEgM4cUA==:`),
			base: `"date": Tue, 20 Apr 2021 02:07:55 GMT
"@method": POST
"@path": /foo
"@query": ?param=Value&Pet=dog
"@authority": example.com
"content-type": application/json
"content-digest": ` + requestDigest + `
"content-length": 18
"@signature-params": ("date" "@method" "@path" "@query" "@authority" "content-type" "content-digest" "content-length");created=1618884473;keyid="test-key-rsa-pss"`,
		},
		{
			name: "B.2.5 shared secret", label: "sig-b25", key: secret(t, httpsig.HMACSHA256, sharedSecret(t)),
			message: requestB(t, `sig-b25=("date" "@authority" "content-type");created=1618884473;keyid="test-shared-secret"`,
				`sig-b25=:pxcQw6G3AjtMBQjwo8XzkZf/bws5LelbaMk5rGIGtE8=:`),
			base: `"date": Tue, 20 Apr 2021 02:07:55 GMT
"@authority": example.com
"content-type": application/json
"@signature-params": ("date" "@authority" "content-type");created=1618884473;keyid="test-shared-secret"`,
		},
		{
			name: "B.2.6 ed25519", label: "sig-b26", key: public(t, httpsig.Ed25519, keyEd25519),
			message: requestB(t, `sig-b26=("date" "@method" "@path" "@authority" "content-type" "content-length");created=1618884473;keyid="test-key-ed25519"`,
				`sig-b26=:wqcAqbmYJ2ji2glfAMaRy4gruYYnx2nEFN2HN6jrnDnQCK1u02Gb04v9EDgwUPiu4A0w6vuQv5lIp5WPpBKRCw==:`),
			base: `"date": Tue, 20 Apr 2021 02:07:55 GMT
"@method": POST
"@path": /foo
"@authority": example.com
"content-type": application/json
"content-length": 18
"@signature-params": ("date" "@method" "@path" "@authority" "content-type" "content-length");created=1618884473;keyid="test-key-ed25519"`,
		},
		{
			name: "3.2 example", label: "sig1", key: pss,
			message: requestB(t, `sig1=("@method" "@authority" "@path" "content-digest" "content-length" "content-type");created=1618884473;keyid="test-key-rsa-pss"`,
				`sig1=:HIbjHC5rS0BYaa9v4QfD4193TORw7u9edguPh0AW3dMq9WImrlFrCGUDih47vAxi4L2YRZ3XMJc1uOKk/J0ZmZ+wcta4nKIgBkKq0rM9hs3CQyxXGxHLMCy8uqK488o+9jrptQ+xFPHK7a9sRL1IXNaagCNN3ZxJsYapFj+JXbmaI5rtAdSfSvzPuBCh+ARHBmWuNo1UzVVdHXrl8ePL4cccqlazIJdC4QEjrF+Sn4IxBQzTZsL9y9TP5FsZYzHvDqbInkTNigBcE9cKOYNFCn4D/WM7F6TNuZO9EgtzepLWcjTymlHzK7aXq6Am6sfOrpIC49yXjj3ae6HRalVc/g==:`),
		},
		{name: "4.3 proxy", label: "proxy_sig", key: public(t, httpsig.RSAPKCS1SHA256, keyRSA), message: proxied(t, "origin.host.internal.example")},
		{name: "4.3 client", label: "sig1", key: p256, message: proxied(t, "example.com")},
		{
			name: "B.3 TLS-terminating proxy", label: "ttrp", key: p256,
			message: request(t, "POST /foo?param=Value&Pet=dog", "Host: service.internal.example", "Date: Tue, 20 Apr 2021 02:07:55 GMT",
				"Content-Type: application/json", "Content-Length: 18",
				"Client-Cert: :MIIBqDCCAU6gAwIBAgIBBzAKBggqhkjOPQQDAjA6MRswGQYDVQQKDBJMZXQncyBBdXRoZW50aWNhdGUxGzAZBgNVBAMMEkxBIEludGVybWVkaWF0ZSBDQTAeFw0yMDAxMTQyMjU1MzNaFw0yMTAxMjMyMjU1MzNaMA0xCzAJBgNVBAMMAkJDMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE8YnXXfaUgmnMtOXU/IncWalRhebrXmckC8vdgJ1p5Be5F/3YC8OthxM4+k1M6aEAEFcGzkJiNy6J84y7uzo9M6NyMHAwCQYDVR0TBAIwADAfBgNVHSMEGDAWgBRm3WjLa38lbEYCuiCPct0ZaSED2DAOBgNVHQ8BAf8EBAMCBsAwEwYDVR0lBAwwCgYIKwYBBQUHAwIwHQYDVR0RAQH/BBMwEYEPYmRjQGV4YW1wbGUuY29tMAoGCCqGSM49BAMCA0gAMEUCIBHda/r1vaL6G3VliL4/Di6YK0Q6bMjeSkC3dFCOOB8TAiEAx/kHSB4urmiZ0NX5r5XarmPk0wmuydBVoU4hBVZ1yhk=:",
				`Signature-Input: ttrp=("@path" "@query" "@method" "@authority" "client-cert");created=1618884473;keyid="test-key-ecc-p256"`,
				"Signature: ttrp=:xVMHVpawaAC/0SbHrKRs9i8I3eOs5RtTMGCWXm/9nvZzoHsIg6Mce9315T6xoklyy0yzhD9ah4JHRwMLOgmizw==:"),
		},
		{name: "B.4 original", label: "transform", key: public(t, httpsig.Ed25519, keyEd25519), message: transformed(t, "GET /demo?name1=Value1&Name2=value2", "Date: Fri, 15 Jul 2022 14:24:55 GMT", "Accept: application/json", "Accept: */*")},
		{name: "B.4 fields and query added", label: "transform", key: public(t, httpsig.Ed25519, keyEd25519), message: transformed(t, "GET /demo?name1=Value1&Name2=value2&param=added", "Accept: application/json", "Accept: */*", "Accept-Language: en-US,en;q=0.5")},
		{name: "B.4 lines made one", label: "transform", key: public(t, httpsig.Ed25519, keyEd25519), message: transformed(t, "GET /demo?name1=Value1&Name2=value2", "Referer: https://developer.example.org/demo", "Accept: application/json, */*")},
	}
}

// proxied is the request of section 4.3 behind its proxy, with two signatures.
func proxied(t testing.TB, host string) *httpsig.Message {
	t.Helper()
	return request(t, "POST /foo?param=Value&Pet=dog", "Host: "+host, "Date: Tue, 20 Apr 2021 02:07:56 GMT",
		"Content-Type: application/json", "Content-Length: 18", "Forwarded: for=192.0.2.123;host=example.com;proto=https",
		"Content-Digest: "+requestDigest,
		`Signature-Input: sig1=("@method" "@authority" "@path" "content-digest" "content-type" "content-length");created=1618884475;keyid="test-key-ecc-p256", proxy_sig=("@method" "@authority" "@path" "content-digest" "content-type" "content-length" "forwarded");created=1618884480;keyid="test-key-rsa";alg="rsa-v1_5-sha256";expires=1618884540`,
		"Signature: sig1=:X5spyd6CFnAG5QnDyHfqoSNICd+BUP4LYMz2Q0JXlb//4Ijpzp+kve2w4NIyqeAuM7jTDX+sNalzA8ESSaHD3A==:, proxy_sig=:S6ZzPXSdAMOPjN/6KXfXWNO/f7V6cHm7BXYUh3YD/fRad4BCaRZxP+JH+8XY1I6+8Cy+CM5g92iHgxtRPz+MjniOaYmdkDcnL9cCpXJleXsOckpURl49GwiyUpZ10KHgOEe11sx3G2gxI8S0jnxQB+Pu68U9vVcasqOWAEObtNKKZd8tSFu7LB5YAv0RAGhB8tmpv7sFnIm9y+7X5kXQfi8NMaZaA8i2ZHwpBdg7a6CMfwnnrtflzvZdXAsD3LH2TwevU+/PBPv0B6NMNk93wUs/vfJvye+YuI87HU38lZHowtznbLVdp770I6VHR6WfgS9ddzirrswsE1w5o0LV/g==:")
}

func transformed(t testing.TB, line string, fields ...string) *httpsig.Message {
	t.Helper()
	lines := append([]string{line, "Host: example.org"}, fields...)
	return request(t, append(lines, `Signature-Input: transform=("@method" "@path" "@authority" "accept");created=1618884473;keyid="test-key-ed25519"`,
		"Signature: transform=:ZT1kooQsEHpZ0I1IjCqtQppOmIqlJPeo7DHR3SoMn0s5JZ1eRGS0A+vyYP9t/LXlh5QMFFQ6cpLt2m0pmj3NDA==:")...)
}

// labelled reads the signature of that label, with its value.
func labelled(m *httpsig.Message, label string) (*httpsig.Signature, error) {
	var p httpsig.Inputs
	if !p.Begin(m, heap{}) {
		return nil, httpsig.ErrAbsent
	}
	var s, found httpsig.Signature
	for p.Next(&s) {
		if string(s.Label) == label {
			found = s
		}
	}
	if p.Err() != nil {
		return nil, p.Err()
	}
	return &found, p.Value(&found)
}

func TestVectorsOfRFC9421(t *testing.T) {
	t.Parallel()
	for _, v := range vectors(t) {
		t.Run(v.name, func(t *testing.T) {
			t.Parallel()
			s, err := labelled(v.message, v.label)
			if err != nil {
				t.Fatal(err)
			}
			base, err := s.Base(v.message, heap{})
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(v.base, string(base)); v.base != "" && diff != "" {
				t.Errorf("base (-want +got):\n%s", diff)
			}
			if !v.key.Verify(base, s.Value) {
				t.Errorf("the signature does not verify over\n%s", base)
			}
			for i := range base { // whatever is changed, and wherever
				base[i] ^= 1
				if i%7 == 0 && v.key.Verify(base, s.Value) {
					t.Errorf("it verifies with another byte at %d", i)
				}
				base[i] ^= 1
			}
		})
	}
}

// What RFC 9421 appendix B.4 shows to break a signature, and section 4.3 by its proxy.
func TestChangedMessagesDoNotVerify(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name    string
		message *httpsig.Message
		label   string
		key     *httpsig.Key
	}{
		{"another method", transformed(t, "POST /demo?name1=Value1&Name2=value2", "Accept: application/json", "Accept: */*"), "transform", public(t, httpsig.Ed25519, keyEd25519)},
		{"lines in another order", transformed(t, "GET /demo?name1=Value1&Name2=value2", "Accept: */*", "Accept: application/json"), "transform", public(t, httpsig.Ed25519, keyEd25519)},
		{"another authority", proxied(t, "origin.host.internal.example"), "sig1", public(t, httpsig.ECDSAP256SHA256, keyP256)},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s, err := labelled(tt.message, tt.label)
			if err != nil {
				t.Fatal(err)
			}
			if base, err := s.Base(tt.message, heap{}); err != nil || tt.key.Verify(base, s.Value) {
				t.Errorf("it verifies over\n%s (%v)", base, err)
			}
		})
	}
}

// keyDraft is that of draft-cavage-http-signatures-12 appendix C.
const keyDraft = "MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQDCFENGw33yGihy92pDjZQhl0C36rPJj+CvfSC8+q28hxA161QFNUd13wuCTUcq0Qd2qsBe/2hFyc2DCJJg0h1L78+6Z4UMR7EOcpfdUE9Hf3m/hs+FUR45uBJeDK1HSFHD8bHKD6kv8FPGfJTotc+2xjJwoYi+1hqp1fIekaxsyQIDAQAB"

func TestVectorsOfTheDraft(t *testing.T) {
	t.Parallel()
	key := public(t, httpsig.RSAPKCS1SHA256, keyDraft)
	tests := []struct{ name, parameters, base string }{
		{
			"C.1", `keyId="Test",algorithm="rsa-sha256",signature="SjWJWbWN7i0wzBvtPl8rbASWz5xQW6mcJmn+ibttBqtifLN7Sazz6m79cNfwwb8DMJ5cou1s7uEGKKCs+FLEEaDV5lp7q25WqS+lavg7T8hc0GppauB6hbgEKTwblDHYGEtbGmtdHgVCk9SuS13F0hZ8FD0k/5OxEPXe5WozsbM="`,
			"date: Sun, 05 Jan 2014 21:31:40 GMT",
		},
		{
			"C.2", `keyId="Test",algorithm="rsa-sha256",headers="(request-target) host date",signature="qdx+H7PHHDZgy4y/Ahn9Tny9V3GP6YgBPyUXMmoxWtLbHpUnXS2mg2+SbrQDMCJypxBLSPQR2aAjn7ndmw2iicw3HMbe8VfEdKFYRqzic+efkb3nndiv/x1xSHDJWeSWkx3ButlYSuBskLu6kd9Fswtemr3lgdDEmn04swr2Os0="`,
			"(request-target): post /foo?param=value&pet=dog\nhost: example.com\ndate: Sun, 05 Jan 2014 21:31:40 GMT",
		},
		{
			"C.3", `keyId="Test",algorithm="rsa-sha256",created=1402170695,expires=1402170699,headers="(request-target) host date content-type digest content-length",signature="vSdrb+dS3EceC9bcwHSo4MlyKS59iFIrhgYkz8+oVLEEzmYZZvRs8rgOp+63LEM3v+MFHB32NfpB2bEKBIvB1q52LaEUHFv120V01IL+TAD48XaERZFukWgHoBTLMhYS2Gb51gWxpeIq8knRmPnYePbF5MOkR0Zkly4zKH7s1dE="`,
			"",
		},
	}
	for _, tt := range tests {
		for _, field := range []string{"Authorization: Signature ", "Signature: "} {
			t.Run(tt.name+" "+field, func(t *testing.T) {
				t.Parallel()
				m := request(t, "POST /foo?param=value&pet=dog", "Host: example.com", "Date: Sun, 05 Jan 2014 21:31:40 GMT",
					"Content-Type: application/json", "Digest: SHA-256=X48E9qOokqqrvdts8nOJRJN3OWDUoyWxBf7kbu9DBPE=", "Content-Length: 18", field+tt.parameters)
				text, hmac, found := httpsig.Cavage(m)
				if found != 1 || hmac {
					t.Fatalf("Cavage() finds %d", found)
				}
				var s httpsig.Signature
				if err := httpsig.ParseCavage(text, hmac, &s, heap{}); err != nil {
					t.Fatal(err)
				}
				base, err := s.Base(m, heap{})
				if err != nil {
					t.Fatal(err)
				}
				if tt.base != "" && tt.base != string(base) {
					t.Errorf("base\n%s\nwant\n%s", base, tt.base)
				}
				if !key.Verify(base, s.Value) || !key.Algorithm().Admits(&s) {
					t.Errorf("the signature does not verify over\n%s", base)
				}
				if err := httpsig.LegacyDigest(m, []byte(`{"hello": "world"}`), heap{}); err != nil {
					t.Errorf("LegacyDigest() = %v", err)
				}
			})
		}
	}
}
