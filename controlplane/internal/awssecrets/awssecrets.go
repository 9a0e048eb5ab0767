// Package awssecrets reads from AWS Secrets Manager, either with credentials that it is given, or with those of the process: its
// environment, web identity, container or instance role. With given ones it looks nowhere else. It has been tried against a
// stand-in that checks signatures, and not against the real service. Package secretsource calls it.
package awssecrets

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/smithy-go"

	"keyward.dev/shared/settings"
)

// What can go wrong, apart from each other. Errors wrap one of them, and repeat nothing of what the service
// says.
var (
	// ErrDown says that the service did not answer, has too much to do, or that there are no credentials.
	ErrDown = errors.New("AWS Secrets Manager does not answer")
	// ErrNotFound says that there is no such secret.
	ErrNotFound = errors.New("AWS Secrets Manager has nothing there")
	// ErrRefused says that it does not let it be read.
	ErrRefused = errors.New("AWS Secrets Manager refuses it")
)

// Static are credentials that are given.
type Static struct {
	AccessKeyID     string
	SecretAccessKey settings.Secret
	SessionToken    settings.Secret
}

// Config says which service, and who asks.
type Config struct {
	Region string
	// Endpoint is another URL of the service; empty: the region's own.
	Endpoint string
	// Static credentials; nil: those of the process.
	Static *Static
	// HTTP makes the requests; nil: a client that trusts the system's authorities.
	HTTP *http.Client
}

// Client is safe for concurrent use.
type Client struct {
	cfg Config

	mu     sync.Mutex
	client *secretsmanager.Client // guarded by mu
}

// New makes a client; nothing is asked yet.
func New(cfg Config) *Client { return &Client{cfg: cfg} }

// Read answers the current version of a secret; only of those that are text.
func (c *Client) Read(ctx context.Context, id string) (string, error) {
	client, err := c.service(ctx)
	if err != nil {
		return "", fmt.Errorf("%w: %w", ErrDown, err)
	}
	out, err := client.GetSecretValue(ctx, &secretsmanager.GetSecretValueInput{SecretId: &id})
	if err != nil {
		return "", told(err)
	}
	if out.SecretString == nil {
		return "", fmt.Errorf("%w: it is not a text", ErrNotFound)
	}
	return *out.SecretString, nil
}

// service answers the client, which remembers credentials and renews them.
func (c *Client) service(ctx context.Context) (*secretsmanager.Client, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.client != nil {
		return c.client, nil
	}
	loaded := aws.Config{Region: c.cfg.Region}
	if s := c.cfg.Static; s != nil {
		loaded.Credentials = credentials.NewStaticCredentialsProvider(s.AccessKeyID, s.SecretAccessKey.Reveal(), s.SessionToken.Reveal())
	} else {
		var err error
		if loaded, err = config.LoadDefaultConfig(ctx, config.WithRegion(c.cfg.Region)); err != nil {
			return nil, fmt.Errorf("find AWS credentials: %w", err)
		}
	}
	c.client = secretsmanager.NewFromConfig(loaded, func(o *secretsmanager.Options) {
		o.RetryMaxAttempts = 2
		if c.cfg.HTTP != nil {
			o.HTTPClient = c.cfg.HTTP
		}
		if c.cfg.Endpoint != "" {
			o.BaseEndpoint = aws.String(c.cfg.Endpoint)
		}
	})
	return c.client, nil
}

// told names an error. What the service says beyond a code could repeat what it was sent.
func told(err error) error {
	answer, ok := errors.AsType[smithy.APIError](err)
	if !ok {
		return fmt.Errorf("%w: %w", ErrDown, err)
	}
	kind := ErrRefused
	status := 0
	if failed, ok := errors.AsType[*awshttp.ResponseError](err); ok {
		status = failed.HTTPStatusCode()
	}
	switch code := answer.ErrorCode(); {
	case code == "ResourceNotFoundException":
		return ErrNotFound
	case status >= 500, status == http.StatusTooManyRequests, code == "ThrottlingException", code == "InternalServiceError":
		kind = ErrDown
	}
	return fmt.Errorf("%w (status %d)", kind, status)
}
