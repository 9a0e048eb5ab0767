package secretsource

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"regexp"

	"keyward.dev/controlplane/internal/awssecrets"
	"keyward.dev/controlplane/internal/secretplace"
	"keyward.dev/controlplane/internal/vaultclient/vaulturi"
	"keyward.dev/shared/secret"
)

// manager is AWS Secrets Manager of a region, or those of its secrets whose names begin in some way.
type manager struct {
	client *awssecrets.Client
	prefix string
}

var regionForm = regexp.MustCompile(`^[a-z]{2}(-[a-z]+)+-[0-9]{1,2}$`)

// newManager reads what the operator's setting says of it. Credentials are those of the process.
func newManager(region string, parameters vaulturi.Values) (*manager, error) {
	if !regionForm.MatchString(region) {
		return nil, errors.New("needs a region: aws:eu-central-1")
	}
	cfg := awssecrets.Config{Region: region, Endpoint: parameters.Take("endpoint")}
	if cfg.Endpoint != "" && !safe(cfg.Endpoint) {
		return nil, errors.New("endpoint must be of the form https://HOST:PORT")
	}
	return &manager{client: awssecrets.New(cfg), prefix: parameters.Take("prefix")}, nil
}

// safe reports whether nobody on the way reads what is said with a URL.
func safe(endpoint string) bool {
	u, err := url.Parse(endpoint)
	if err != nil || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return false
	}
	addr, err := netip.ParseAddr(u.Hostname())
	return u.Scheme == "https" || u.Scheme == "http" && err == nil && addr.IsLoopback()
}

func (m *manager) check(r secret.Reference) string { return secretplace.Manager(m.prefix, r) }

func (m *manager) read(ctx context.Context, q question) (string, error) {
	data, err := q.read(func() (map[string]any, error) {
		text, err := m.client.Read(ctx, q.reference.Path)
		return map[string]any{whole: text}, err
	})
	text, _ := data[whole].(string)
	switch {
	case errors.Is(err, awssecrets.ErrNotFound):
		return "", errNothing
	case errors.Is(err, awssecrets.ErrDown):
		return "", fmt.Errorf("%w: %w", errDown, err)
	case err != nil:
		return "", err
	case q.reference.Field == "":
		return text, nil
	}
	return member(text, q.reference.Field)
}

// whole is as what the text of a secret is remembered.
const whole = ""

// member takes a field out of a JSON object. Its errors repeat nothing of the object.
func member(text, field string) (string, error) {
	var fields map[string]json.RawMessage
	if json.Unmarshal([]byte(text), &fields) != nil {
		return "", errNoObject
	}
	raw, ok := fields[field]
	if !ok || string(raw) == "null" {
		return "", errNothing
	}
	var value string
	if json.Unmarshal(raw, &value) != nil {
		return "", errNoText
	}
	return value, nil
}
