// Package redisstore says where a store of the configuration is and how it is reached. Compile calls it; connections are hostsvc's.
// It is pure.
package redisstore

import (
	"cmp"
	"crypto/x509"
	"errors"
	"fmt"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"keyward.dev/dataplane/internal/hostsvc"
	configv1 "keyward.dev/proto/gen/keyward/config/v1"
	"keyward.dev/shared/check"
)

// Server is where a store is. Its password stands in it in the clear; believe answers the authorities of a name.
func Server(m *configv1.RedisStore, believe func(name string) ([]*x509.Certificate, error)) (hostsvc.RedisServer, error) {
	s := hostsvc.RedisServer{
		Name: m.GetName(), Addresses: m.GetAddresses(), Username: m.GetUsername(), Password: m.GetPassword().GetPlaintext(), Database: int(m.GetDatabase()),
		DialTimeout: duration(m.GetTimeouts().GetDial(), 500*time.Millisecond), Timeout: duration(m.GetTimeouts().GetOperation(), 50*time.Millisecond),
		MaxConnections: int(cmp.Or(m.GetPool().GetMaxConnections(), 32)), IdleTimeout: duration(m.GetPool().GetIdleTimeout(), time.Minute),
	}
	if vs := check.Resource(m); len(vs) > 0 {
		return s, errors.New(vs[0].Path + " " + vs[0].Reason)
	}
	n := m.GetSentinel()
	s.Master, s.SentinelUsername, s.SentinelPassword = n.GetMaster(), n.GetUsername(), n.GetPassword().GetPlaintext()
	if place := check.RedisPassword(m); place != "" {
		return s, fmt.Errorf("%s required with username", place)
	}
	if s.Username != "" && s.Password == "" || s.SentinelUsername != "" && s.SentinelPassword == "" {
		return s, errors.New("password is not known")
	}
	switch m.GetMode() {
	case configv1.RedisMode_REDIS_MODE_UNSPECIFIED, configv1.RedisMode_REDIS_MODE_SINGLE, configv1.RedisMode_REDIS_MODE_SENTINEL:
	case configv1.RedisMode_REDIS_MODE_CLUSTER:
		s.Cluster = true
	default:
		return s, errors.New("mode has a value that is not known")
	}
	t := m.GetTls()
	s.Plain, s.Anywhere, s.ServerName = t != nil && t.Enabled != nil && !t.GetEnabled(), t.GetInsecurePlaintext(), t.GetServerName()
	for _, name := range t.GetCa() {
		list, err := believe(name)
		if err != nil {
			return s, fmt.Errorf("tls.ca: %w", err)
		}
		s.Authorities = append(s.Authorities, list...)
	}
	return s, nil
}

func duration(d *durationpb.Duration, otherwise time.Duration) time.Duration {
	if d == nil {
		return otherwise
	}
	return d.AsDuration()
}
