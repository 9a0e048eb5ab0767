// Package awskms is a key-encryption key that never leaves AWS KMS: a symmetric key there encrypts and decrypts keyrings
// for whoever its policy lets. Credentials are those of the process: its environment, web identity, container or instance
// role. It passes the conformance tests against a stand-in, and has not been tried against the real service.
package awskms

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"strconv"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"keyward.dev/controlplane/internal/kek"
)

var _ kek.Wrapper = (*Key)(nil)

// timeout bounds an operation with its retries.
const timeout = 10 * time.Second

// contextName is the name of the one entry of the encryption context. It is stored with every ciphertext: never change it.
const contextName = "keyward"

// Config says which key.
type Config struct {
	// ARN is that of a key: an alias may point elsewhere tomorrow.
	ARN string
	// Endpoint is another URL of the service, e.g. in a VPC; empty: the region's own.
	Endpoint string
	// Client makes the requests; nil: one that trusts the system's authorities.
	Client *http.Client
}

// Key is a key of KMS.
type Key struct {
	cfg    Config
	region string

	mu     sync.Mutex
	client *kms.Client // guarded by mu
}

// New names a key. Credentials are looked for when it is used.
func New(cfg Config) (*Key, error) {
	region, ok := regionOf(cfg.ARN)
	if !ok {
		return nil, errors.New("not the ARN of a key: arn:aws:kms:REGION:ACCOUNT:key/ID")
	}
	return &Key{cfg: cfg, region: region}, nil
}

// service answers the client, which remembers credentials and renews them.
func (k *Key) service(ctx context.Context) (*kms.Client, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.client != nil {
		return k.client, nil
	}
	options := []func(*config.LoadOptions) error{config.WithRegion(k.region)}
	if k.cfg.Client != nil {
		options = append(options, config.WithHTTPClient(k.cfg.Client))
	}
	loaded, err := config.LoadDefaultConfig(ctx, options...)
	if err != nil {
		return nil, fmt.Errorf("find AWS credentials: %w", err)
	}
	k.client = kms.NewFromConfig(loaded, func(o *kms.Options) {
		if k.cfg.Endpoint != "" {
			o.BaseEndpoint = aws.String(k.cfg.Endpoint)
		}
	})
	return k.client, nil
}

func regionOf(arn string) (string, bool) {
	m := regexp.MustCompile(`^arn:aws[a-z-]*:kms:([a-z0-9-]+):[0-9]{12}:key/[A-Za-z0-9-]+$`).FindStringSubmatch(arn)
	if m == nil {
		return "", false
	}
	return m[1], true
}

// ID names the key. It stays the same when KMS rotates its material.
func (k *Key) ID() string { return "awskms:" + k.cfg.ARN }

// Wrap has KMS encrypt.
func (k *Key) Wrap(ctx context.Context, wrapContext, plaintext []byte) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	wrapped, err := k.encrypt(ctx, wrapContext, plaintext)
	if err != nil {
		return nil, fmt.Errorf("wrap with %s: %w: %w", k.ID(), kek.ErrUnavailable, err)
	}
	return wrapped, nil
}

// Unwrap has KMS decrypt, with this key and no other that the credentials could use.
func (k *Key) Unwrap(ctx context.Context, wrapContext, wrapped []byte) ([]byte, error) {
	if len(wrapped) == 0 { // which the library would not send
		return nil, fmt.Errorf("unwrap with %s: %w: malformed", k.ID(), kek.ErrRefused)
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	plaintext, err := k.decrypt(ctx, wrapContext, wrapped)
	if err != nil {
		return nil, fmt.Errorf("unwrap with %s: %w: %w", k.ID(), meaning(err), err)
	}
	return plaintext, nil
}

func (k *Key) encrypt(ctx context.Context, wrapContext, plaintext []byte) ([]byte, error) {
	client, err := k.service(ctx)
	if err != nil {
		return nil, err
	}
	out, err := client.Encrypt(ctx, &kms.EncryptInput{
		KeyId: &k.cfg.ARN, Plaintext: plaintext, EncryptionContext: encryptionContext(wrapContext),
	})
	if err != nil {
		return nil, err
	}
	if len(out.CiphertextBlob) == 0 {
		return nil, errors.New("the answer has no ciphertext")
	}
	return out.CiphertextBlob, nil
}

func (k *Key) decrypt(ctx context.Context, wrapContext, wrapped []byte) ([]byte, error) {
	client, err := k.service(ctx)
	if err != nil {
		return nil, err
	}
	out, err := client.Decrypt(ctx, &kms.DecryptInput{
		KeyId: &k.cfg.ARN, CiphertextBlob: wrapped, EncryptionContext: encryptionContext(wrapContext),
	})
	if err != nil {
		return nil, err
	}
	return out.Plaintext, nil
}

// encryptionContext is readable, because it stands in the service's own audit trail.
func encryptionContext(wrapContext []byte) map[string]string {
	return map[string]string{contextName: strconv.QuoteToASCII(string(wrapContext))}
}

// meaning says whether trying again may help: not if the service had a look at the ciphertext and it was not right.
func meaning(err error) error {
	if _, ok := errors.AsType[*types.InvalidCiphertextException](err); ok {
		return kek.ErrRefused
	}
	if _, ok := errors.AsType[*types.IncorrectKeyException](err); ok {
		return kek.ErrRefused
	}
	return kek.ErrUnavailable
}
