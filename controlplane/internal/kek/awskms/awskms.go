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
	arn    string
	client *kms.Client
}

// New finds the credentials' sources; the service is not asked yet.
func New(ctx context.Context, cfg Config) (*Key, error) {
	region, ok := regionOf(cfg.ARN)
	if !ok {
		return nil, errors.New("not the ARN of a key: arn:aws:kms:REGION:ACCOUNT:key/ID")
	}
	options := []func(*config.LoadOptions) error{config.WithRegion(region)}
	if cfg.Client != nil {
		options = append(options, config.WithHTTPClient(cfg.Client))
	}
	loaded, err := config.LoadDefaultConfig(ctx, options...)
	if err != nil {
		return nil, fmt.Errorf("find AWS credentials: %w", err)
	}
	client := kms.NewFromConfig(loaded, func(o *kms.Options) {
		if cfg.Endpoint != "" {
			o.BaseEndpoint = aws.String(cfg.Endpoint)
		}
	})
	return &Key{arn: cfg.ARN, client: client}, nil
}

func regionOf(arn string) (string, bool) {
	m := regexp.MustCompile(`^arn:aws[a-z-]*:kms:([a-z0-9-]+):[0-9]{12}:key/[A-Za-z0-9-]+$`).FindStringSubmatch(arn)
	if m == nil {
		return "", false
	}
	return m[1], true
}

// ID names the key. It stays the same when KMS rotates its material.
func (k *Key) ID() string { return "awskms:" + k.arn }

// Wrap has KMS encrypt.
func (k *Key) Wrap(ctx context.Context, wrapContext, plaintext []byte) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	out, err := k.client.Encrypt(ctx, &kms.EncryptInput{
		KeyId: &k.arn, Plaintext: plaintext, EncryptionContext: encryptionContext(wrapContext),
	})
	if err == nil && len(out.CiphertextBlob) == 0 {
		err = errors.New("the answer has no ciphertext")
	}
	if err != nil {
		return nil, fmt.Errorf("wrap with %s: %w: %w", k.ID(), kek.ErrUnavailable, err)
	}
	return out.CiphertextBlob, nil
}

// Unwrap has KMS decrypt, with this key and no other that the credentials could use.
func (k *Key) Unwrap(ctx context.Context, wrapContext, wrapped []byte) ([]byte, error) {
	if len(wrapped) == 0 { // which the library would not send
		return nil, fmt.Errorf("unwrap with %s: %w: malformed", k.ID(), kek.ErrRefused)
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	out, err := k.client.Decrypt(ctx, &kms.DecryptInput{
		KeyId: &k.arn, CiphertextBlob: wrapped, EncryptionContext: encryptionContext(wrapContext),
	})
	if err != nil {
		return nil, fmt.Errorf("unwrap with %s: %w: %w", k.ID(), meaning(err), err)
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
