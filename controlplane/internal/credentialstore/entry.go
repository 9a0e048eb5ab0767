package credentialstore

import (
	"encoding/json"
	"errors"
	"math"
	"strconv"
	"time"

	configv1 "keyward.dev/proto/gen/keyward/config/v1"

	"keyward.dev/controlplane/internal/secretsource"
	"keyward.dev/shared/check"
	"keyward.dev/shared/check/tokenpair"
)

// pair is what an entry says.
type pair struct {
	access, secret string
	// named is the consumer, in the words of the entry.
	named   string
	expires time.Time // zero: never
}

// Why an entry cannot be used. None of them repeats anything of it.
var (
	errName      = errors.New("its name has characters other than letters, digits and . _ @ : + = , -")
	errTooMany   = errors.New("the store has more entries than are read")
	errAccess    = errors.New("its access_token is not 1 to 512 visible ASCII characters")
	errSecret    = errors.New("it has no secret_token of 1 to 512 visible ASCII characters")
	errConsumer  = errors.New("it names no consumer")
	errTTL       = errors.New("its ttl is not a number of seconds")
	errBeginning = errors.New("it has a ttl and no created_at from which it would count")
)

// parse reads an entry. Its name is its access token if it does not say another one.
func parse(name string, e secretsource.Entry, rules *configv1.CredentialStore) (pair, error) {
	p := pair{access: name}
	if v := e.Data["access_token"]; v != nil {
		p.access, _ = v.(string)
	}
	if !tokenpair.Token(p.access) {
		return pair{}, errAccess
	}
	if p.secret, _ = e.Data["secret_token"].(string); !tokenpair.Token(p.secret) {
		return pair{}, errSecret
	}
	if reason := check.Key(p.secret, rules.GetAllowWeak()); reason != "" {
		return pair{}, errors.New("its secret_token " + reason)
	}
	if p.named = consumer(e.Data["consumer"], rules.GetConsumerBy()); p.named == "" {
		return pair{}, errConsumer
	}
	var err error
	p.expires, err = end(e)
	return p, err
}

// maxNamed bounds how a consumer is named; no consumer has a longer name.
const maxNamed = 512

// consumer is how an entry names its consumer: as text, or as an object, which may be written as text of JSON.
func consumer(v any, by configv1.StoredConsumer) string {
	if text, ok := v.(string); ok {
		var object map[string]any
		if json.Unmarshal([]byte(text), &object) != nil {
			return bounded(text)
		}
		v = object
	}
	object, _ := v.(map[string]any)
	if text, ok := object[member(by)].(string); ok {
		return bounded(text)
	}
	text, _ := object["id"].(string)
	return bounded(text)
}

func bounded(text string) string {
	if len(text) > maxNamed {
		return ""
	}
	return text
}

// end is when an entry ends: with its time to live, or when Vault deletes it.
func end(e secretsource.Entry) (time.Time, error) {
	ttl, ok := seconds(e.Data["ttl"])
	if !ok {
		return time.Time{}, errTTL
	}
	ends := e.Ends
	if ttl == 0 {
		return ends, nil
	}
	from, ok := seconds(e.Data["created_at"])
	begun := time.Unix(from, 0)
	switch {
	case !ok:
		return time.Time{}, errBeginning
	case from == 0 && e.Created.IsZero():
		return time.Time{}, errBeginning
	case from == 0:
		begun = e.Created
	}
	if over := begun.Add(time.Duration(ttl) * time.Second); ends.IsZero() || over.Before(ends) {
		ends = over
	}
	return ends.UTC(), nil
}

// maxSeconds is some 285 years, of a time to live as of a moment: more does not fit into a duration.
const maxSeconds = 9_000_000_000

// seconds reads a number of seconds, which may be written as text, and with a fraction; 0 stands for none.
func seconds(v any) (n int64, ok bool) {
	text, isText := v.(string)
	switch v := v.(type) {
	case nil:
		return 0, true
	case json.Number:
		text, isText = v.String(), true
	}
	if !isText || text == "" {
		return 0, isText
	}
	f, err := strconv.ParseFloat(text, 64)
	if err != nil || math.IsNaN(f) || f < 0 || f > maxSeconds {
		return 0, false
	}
	return int64(f), true
}
