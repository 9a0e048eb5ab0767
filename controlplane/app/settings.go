package app

import (
	"flag"
	"fmt"
	"net"
	"net/netip"
	"os"
	"time"

	"keyward.dev/shared/settings"
	"keyward.dev/shared/telemetry"
)

// Settings are those of `serve`.
type Settings struct {
	Database     Database
	KEK          KEK
	Log          telemetry.LogOptions
	AdminListen  string
	AdminCert    string
	AdminKey     string
	SyncListen   string
	SyncNames    []string
	StatusListen string
	TrustDomain  string
	Replica      string
	CertTTL      time.Duration
	RenewGrace   time.Duration
	StreamMaxAge time.Duration
	FullSets     int
	Retention    Retention
	Keyrings     Keyrings
	Bundles      Bundles
	Secrets      Secrets
	Tickets      Tickets
	Tenants      Tenants
	K8s          K8s
}

// K8s says which service accounts of a cluster may join as gateways.
type K8s struct {
	Issuer   string
	JWKSFile string
	JWKSURL  string
	JWKSCA   string
	Audience string
	Allow    []string
}

// Flags declares the settings.
func (s *Settings) Flags(fs *flag.FlagSet) {
	s.Database.Flags(fs)
	s.KEK.Flags(fs)
	s.Log.Flags(fs)
	fs.StringVar(&s.AdminListen, "admin-listen", "127.0.0.1:7443", "`address` of the admin API, gRPC and REST, over TLS")
	fs.StringVar(&s.AdminCert, "admin-tls-cert", "", "`file` with the admin API's certificate chain (PEM); without it the internal CA issues one")
	fs.StringVar(&s.AdminKey, "admin-tls-key", "", "`file` with its private key (PEM)")
	fs.StringVar(&s.SyncListen, "sync-listen", "0.0.0.0:7444", "`address` where gateways enrol and stream")
	settings.ListVar(fs, &s.SyncNames, "sync-names", []string{"localhost", "127.0.0.1", "::1"}, "`names` and addresses by which gateways reach it, for its certificate")
	fs.StringVar(&s.StatusListen, "status-listen", "127.0.0.1:7445", "`address` of /livez, /readyz and /metrics")
	fs.StringVar(&s.TrustDomain, "trust-domain", "keyward.local", "SPIFFE trust `domain` of this installation; cannot change later")
	fs.StringVar(&s.Replica, "replica", defaultReplica(), "`name` of this replica, unique among those that run")
	fs.DurationVar(&s.CertTTL, "certificate-ttl", 24*time.Hour, "life of a gateway's certificate; renewed at two thirds")
	fs.DurationVar(&s.RenewGrace, "renew-grace", 30*24*time.Hour, "how long after its end a certificate can still be renewed")
	fs.DurationVar(&s.StreamMaxAge, "stream-max-age", time.Hour, "after which gateways are asked to reconnect, so that replicas share them; a tenth more or less")
	fs.IntVar(&s.FullSets, "full-sets", 128, "how many gateways are sent their whole configuration at once; others wait for their turn")
	s.Retention.Flags(fs)
	s.Keyrings.Flags(fs)
	s.Bundles.Flags(fs)
	s.Secrets.Flags(fs)
	s.Tickets.Flags(fs)
	s.Tenants.Flags(fs)
	fs.StringVar(&s.K8s.Issuer, "k8s-issuer", "", "issuer of the service-account tokens that gateways may join with; empty: none may")
	fs.StringVar(&s.K8s.JWKSFile, "k8s-jwks-file", "", "`file` with the issuer's keys (JWKS)")
	fs.StringVar(&s.K8s.JWKSURL, "k8s-jwks-url", "", "`URL` of the issuer's keys, https")
	fs.StringVar(&s.K8s.JWKSCA, "k8s-jwks-ca", "", "`file` with the CA of that URL (PEM); empty: the system's")
	fs.StringVar(&s.K8s.Audience, "k8s-audience", "keyward", "audience the tokens must have")
	settings.ListVar(fs, &s.K8s.Allow, "k8s-allow", nil, "which accounts join which group: `group=namespace/serviceaccount`")
}

// Check names everything that is wrong.
func (s *Settings) Check() error {
	var faults settings.Faults
	s.Database.Check(&faults)
	s.KEK.Check(&faults)
	for name, addr := range map[string]string{"admin-listen": s.AdminListen, "sync-listen": s.SyncListen, "status-listen": s.StatusListen} {
		if _, _, err := net.SplitHostPort(addr); err != nil {
			faults.Add(name, err)
		}
	}
	if (s.AdminCert == "") != (s.AdminKey == "") {
		faults.Addf("admin-tls-cert", "goes with --admin-tls-key")
	}
	if s.CertTTL < 10*time.Second || s.CertTTL > 90*24*time.Hour {
		faults.Addf("certificate-ttl", "must be between 10s and 2160h")
	}
	if s.RenewGrace < 0 {
		faults.Addf("renew-grace", "must not be negative")
	}
	if s.StreamMaxAge < time.Second {
		faults.Addf("stream-max-age", "must be at least 1s")
	}
	if s.FullSets < 1 || s.FullSets > 100000 {
		faults.Addf("full-sets", "must be between 1 and 100000")
	}
	s.Retention.check(&faults)
	s.Keyrings.check(&faults)
	s.Bundles.check(&faults)
	s.Secrets.check(&faults)
	s.Tickets.check(&faults)
	s.Tenants.check(&faults)
	s.K8s.check(&faults)
	return faults.Err()
}

func (k *K8s) check(faults *settings.Faults) {
	if k.Issuer == "" {
		return
	}
	if (k.JWKSFile == "") == (k.JWKSURL == "") {
		faults.Addf("k8s-issuer", "needs either --k8s-jwks-file or --k8s-jwks-url")
	}
	if len(k.Allow) == 0 {
		faults.Addf("k8s-allow", "is needed with --k8s-issuer: nobody could join")
	}
}

// adminNames are the names and addresses for a certificate of the admin API that the internal CA issues.
func (s *Settings) adminNames() []string {
	names := []string{"localhost", "127.0.0.1", "::1"}
	if host, _, err := net.SplitHostPort(s.AdminListen); err == nil && host != "" {
		if addr, err := netip.ParseAddr(host); err != nil || !addr.IsUnspecified() {
			names = append(names, host)
		}
	}
	if host, err := os.Hostname(); err == nil {
		names = append(names, host)
	}
	return names
}

func defaultReplica() string {
	host, err := os.Hostname()
	if err != nil {
		host = "replica"
	}
	return fmt.Sprintf("%s-%d", host, os.Getpid())
}
