package awskms_test

import (
	"crypto/aes"
	"crypto/cipher"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"keyward.dev/controlplane/internal/kek"
	"keyward.dev/controlplane/internal/kek/awskms"
	"keyward.dev/controlplane/internal/kek/kektest"
	"keyward.dev/controlplane/internal/sigv4test"
)

const (
	access = "AKIDEXAMPLE"
	secret = "an-example-of-a-secret-key"
	region = "eu-central-1"
)

// service is as much of KMS as wrapping needs, with a key of its own for each ARN.
type service struct {
	mu     sync.Mutex
	denied int
	fail   string // answered instead, if not empty
}

type request struct {
	KeyID             string `json:"KeyId"`
	Plaintext         []byte
	CiphertextBlob    []byte
	EncryptionContext map[string]string
}

// ServeHTTP implements http.Handler.
func (s *service) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	body, _ := io.ReadAll(r.Body)
	signer := sigv4test.Signer{Access: access, Secret: secret, Region: region, Service: "kms"}
	if err := signer.Verify(r, body); err != nil {
		s.denied++
		fail(w, "InvalidSignatureException", err.Error())
		return
	}
	if s.fail != "" {
		fail(w, s.fail, "as the test wants it")
		return
	}
	var in request
	if err := json.Unmarshal(body, &in); err != nil || in.EncryptionContext["keyward"] == "" {
		fail(w, "ValidationException", "no encryption context")
		return
	}
	aead, additional := keyOf(in)
	answer := map[string]any{"KeyId": in.KeyID}
	switch _, operation, _ := strings.Cut(r.Header.Get("X-Amz-Target"), "."); operation {
	case "Encrypt":
		// As the real one does it, the ciphertext begins with which key it is of.
		answer["CiphertextBlob"] = aead.Seal([]byte(in.KeyID), nil, in.Plaintext, additional)
	case "Decrypt":
		sealed, ok := strings.CutPrefix(string(in.CiphertextBlob), in.KeyID)
		if !ok {
			fail(w, "IncorrectKeyException", "another key's")
			return
		}
		plaintext, err := aead.Open(nil, nil, []byte(sealed), additional)
		if err != nil {
			fail(w, "InvalidCiphertextException", "")
			return
		}
		answer["Plaintext"] = plaintext
	default:
		fail(w, "UnknownOperationException", operation)
		return
	}
	w.Header().Set("Content-Type", "application/x-amz-json-1.1")
	_ = json.NewEncoder(w).Encode(answer)
}

func keyOf(in request) (cipher.AEAD, []byte) {
	block, _ := aes.NewCipher([]byte(in.KeyID[len(in.KeyID)-32:])) // its size is right
	aead, _ := cipher.NewGCMWithRandomNonce(block)
	additional, _ := json.Marshal(in.EncryptionContext) // sorted
	return aead, additional
}

func fail(w http.ResponseWriter, code, message string) {
	w.Header().Set("Content-Type", "application/x-amz-json-1.1")
	w.WriteHeader(http.StatusBadRequest)
	_, _ = fmt.Fprintf(w, `{"__type":%q,"message":%q}`, code, message)
}

func arn(n int) string {
	return fmt.Sprintf("arn:aws:kms:%s:111122223333:key/1234abcd-12ab-34cd-56ef-%012d", region, n)
}

// credentials is not for parallel tests: they come from the environment of the process.
func credentials(t *testing.T, access, secret string) {
	t.Helper()
	for name, value := range map[string]string{
		"AWS_ACCESS_KEY_ID": access, "AWS_SECRET_ACCESS_KEY": secret, "AWS_SESSION_TOKEN": "", "AWS_PROFILE": "",
		"AWS_CONFIG_FILE": "/nonexistent", "AWS_SHARED_CREDENTIALS_FILE": "/nonexistent", "AWS_EC2_METADATA_DISABLED": "true",
		"AWS_MAX_ATTEMPTS": "1", "AWS_CA_BUNDLE": "",
	} {
		t.Setenv(name, value)
	}
}

func key(t *testing.T, server *httptest.Server, n int) *awskms.Key {
	t.Helper()
	k, err := awskms.New(awskms.Config{ARN: arn(n), Endpoint: server.URL, Client: server.Client()})
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func TestConformance(t *testing.T) {
	credentials(t, access, secret)
	s := &service{}
	server := httptest.NewTLSServer(s)
	defer server.Close()
	n := 0
	kektest.Run(t, func(t *testing.T) kek.Wrapper {
		n++
		return key(t, server, n)
	})
	if s.denied > 0 {
		t.Errorf("%d signatures were wrong", s.denied)
	}
}

func TestWhatMayPassIsNotTakenForDamage(t *testing.T) {
	credentials(t, access, secret)
	s := &service{}
	server := httptest.NewTLSServer(s)
	defer server.Close()
	k := key(t, server, 1)
	wrapped, err := k.Wrap(t.Context(), []byte("context"), []byte("secret"))
	if err != nil {
		t.Fatal(err)
	}
	check := func(name string, k *awskms.Key) {
		t.Helper()
		_, errWrap := k.Wrap(t.Context(), []byte("context"), []byte("secret"))
		_, errUnwrap := k.Unwrap(t.Context(), []byte("context"), wrapped)
		for _, err := range []error{errWrap, errUnwrap} {
			if !errors.Is(err, kek.ErrUnavailable) || errors.Is(err, kek.ErrRefused) {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
	for _, code := range []string{"AccessDeniedException", "NotFoundException", "DisabledException", "KMSInvalidStateException", "ThrottlingException"} {
		s.fail = code
		check(code, k)
	}
	s.fail = ""
	credentials(t, access, "another secret")
	check("wrong credentials", key(t, server, 1))
	if s.denied == 0 {
		t.Error("the stand-in took a wrong signature")
	}
	credentials(t, "", "")
	check("no credentials", key(t, server, 1))
	server.Close()
	check("nobody there", k)
}

func TestOnlyKeysAreNamed(t *testing.T) {
	t.Parallel()
	for _, arn := range []string{
		"", "1234abcd-12ab-34cd-56ef-1234567890ab", "arn:aws:kms:eu-central-1:111122223333:alias/keyward",
		"arn:aws:s3:::bucket", "arn:aws:kms:eu-central-1:111122223333:key/", arn(1) + "\n",
	} {
		if _, err := awskms.New(awskms.Config{ARN: arn}); err == nil {
			t.Errorf("%q was taken", arn)
		}
	}
	for _, arn := range []string{arn(1), "arn:aws-cn:kms:cn-north-1:111122223333:key/mrk-1234abcd12ab34cd56ef1234567890ab"} {
		if k, err := awskms.New(awskms.Config{ARN: arn}); err != nil || k.ID() != "awskms:"+arn {
			t.Errorf("%s: %v", arn, err)
		}
	}
}
