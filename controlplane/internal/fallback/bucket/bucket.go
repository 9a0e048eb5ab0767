// Package bucket keeps fallback bundles in a bucket of an S3-compatible store. It decides nothing about what is written; that
// is its caller, package fallback.
package bucket

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"path"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"keyward.dev/shared/bundle"
)

// timeout bounds one request.
const timeout = 5 * time.Minute

// Config says which bucket.
type Config struct {
	Location Location
	Region   string
	// AccessKey and SecretKey are the credentials.
	AccessKey, SecretKey string
	// Client makes the requests; nil: one that trusts the system's authorities.
	Client *http.Client
}

// Location is where in a store bundles are.
type Location struct{ Endpoint, Bucket, Prefix string }

// ParseLocation reads https://host/bucket or https://host/bucket/prefix. Plain HTTP is for this machine only: who is on the way
// could not read or forge a bundle, but keep one back.
func ParseLocation(text string) (Location, error) {
	u, err := url.Parse(text)
	if err != nil || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return Location{}, errors.New("is not of the form https://host/bucket/prefix")
	}
	if u.Scheme != "https" && (u.Scheme != "http" || !loopback(u.Hostname())) {
		return Location{}, errors.New("is not https")
	}
	name, prefix, _ := strings.Cut(strings.Trim(path.Clean(u.Path), "/"), "/")
	if name == "" || name == "." {
		return Location{}, errors.New("names no bucket")
	}
	return Location{Endpoint: u.Scheme + "://" + u.Host, Bucket: name, Prefix: prefix}, nil
}

func loopback(host string) bool {
	addr, err := netip.ParseAddr(host)
	return host == "localhost" || (err == nil && addr.IsLoopback())
}

// Bucket is a place for bundles.
type Bucket struct {
	at     Location
	client *s3.Client
}

// New returns a bucket. It connects to nothing.
func New(cfg Config) *Bucket {
	client := cfg.Client
	if client == nil {
		client = &http.Client{Timeout: timeout, Transport: &http.Transport{
			Proxy: http.ProxyFromEnvironment, DialContext: (&net.Dialer{Timeout: 10 * time.Second}).DialContext,
			TLSHandshakeTimeout: 10 * time.Second, IdleConnTimeout: time.Minute,
		}}
	}
	return &Bucket{at: cfg.Location, client: s3.New(s3.Options{
		Region: cfg.Region, BaseEndpoint: aws.String(cfg.Location.Endpoint), HTTPClient: client,
		Credentials: credentials.NewStaticCredentialsProvider(cfg.AccessKey, cfg.SecretKey, ""),
		// What every compatible store understands: the bucket in the path, and no checksums beyond the signature's.
		UsePathStyle:               true,
		RequestChecksumCalculation: aws.RequestChecksumCalculationWhenRequired,
		ResponseChecksumValidation: aws.ResponseChecksumValidationWhenRequired,
	})}
}

func (b *Bucket) key(name string) *string { return aws.String(path.Join(b.at.Prefix, name)) }

// Read returns an object; fs.ErrNotExist if there is none.
func (b *Bucket) Read(ctx context.Context, name string) ([]byte, error) {
	out, err := b.client.GetObject(ctx, &s3.GetObjectInput{Bucket: aws.String(b.at.Bucket), Key: b.key(name)})
	if _, absent := errors.AsType[*types.NoSuchKey](err); absent {
		return nil, fs.ErrNotExist
	}
	if err != nil {
		return nil, fmt.Errorf("read from bucket: %w", err)
	}
	defer out.Body.Close()
	file, err := io.ReadAll(io.LimitReader(out.Body, bundle.MaxSize))
	if err != nil {
		return nil, fmt.Errorf("read from bucket: %w", err)
	}
	return file, nil
}

// Replace puts an object. The store takes it whole or not at all; its length has to be known before, so it is made in memory.
func (b *Bucket) Replace(ctx context.Context, name string, write func(io.Writer) error) error {
	var file bytes.Buffer
	if err := write(&file); err != nil {
		return err
	}
	_, err := b.client.PutObject(ctx, &s3.PutObjectInput{
		Bucket: aws.String(b.at.Bucket), Key: b.key(name), Body: bytes.NewReader(file.Bytes()), ContentType: aws.String("application/octet-stream"),
	})
	if err != nil {
		return fmt.Errorf("write to bucket: %w", err)
	}
	return nil
}
