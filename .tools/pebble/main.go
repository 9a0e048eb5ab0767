// Pebble is the ACME authority that tests have certificates issued by: the parts of letsencrypt/pebble, with the real protocol and
// real validation, and a DNS server for which every name is on loopback. It is for tests only: it keeps everything in memory,
// and nobody else believes what it issues.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/letsencrypt/pebble/v2/ca"
	"github.com/letsencrypt/pebble/v2/db"
	"github.com/letsencrypt/pebble/v2/va"
	"github.com/letsencrypt/pebble/v2/wfe"
	"github.com/miekg/dns"
)

// options say what kind of authority it is.
type options struct {
	certificate, key, external, blocked string
	httpPort, tlsPort                   int
	validity                            time.Duration
}

func main() {
	var o options
	flag.StringVar(&o.certificate, "tls-cert", "", "certificate to serve TLS with")
	flag.StringVar(&o.key, "tls-key", "", "its key")
	flag.IntVar(&o.httpPort, "http-port", 80, "where http-01 is looked at")
	flag.IntVar(&o.tlsPort, "tls-port", 443, "where tls-alpn-01 is looked at")
	flag.DurationVar(&o.validity, "validity", 90*24*time.Hour, "how long certificates are valid")
	flag.StringVar(&o.external, "external-account", "", "ID:KEY of an external account, without which nobody gets an account")
	flag.StringVar(&o.blocked, "blocked", "", "name for which nothing is issued")
	flag.Parse()
	if err := run(o); err != nil {
		fmt.Fprintln(os.Stderr, "pebble:", err)
		os.Exit(1)
	}
}

func run(o options) error {
	names, err := resolver()
	if err != nil {
		return fmt.Errorf("serve DNS: %w", err)
	}
	logger := log.New(os.Stderr, "", log.LstdFlags)
	store := db.NewMemoryStore()
	if id, key, ok := strings.Cut(o.external, ":"); ok {
		if err := store.AddExternalAccountKeyByID(id, key); err != nil {
			return fmt.Errorf("add external account: %w", err)
		}
	}
	if o.blocked != "" {
		if err := store.AddBlockedDomain(o.blocked); err != nil {
			return fmt.Errorf("block a name: %w", err)
		}
	}
	profiles := map[string]ca.Profile{"default": {Description: "of tests", ValidityPeriod: uint64(o.validity.Seconds())}}
	authority := ca.New(logger, store, "", "ecdsa", 0, 1, profiles)
	validator := va.New(logger, o.httpPort, o.tlsPort, false, names, store)
	front := wfe.New(logger, store, validator, authority, []string{"pebble.test"}, false, o.external != "", 1, 1)
	mux := http.NewServeMux()
	mux.Handle("/", front.Handler())
	mux.HandleFunc("GET /root", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write(authority.GetRootCert(0).PEM()) // the test would see that it is not whole
	})
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	// The line that says where: whoever started this waits for it.
	if err := json.NewEncoder(os.Stdout).Encode(map[string]string{
		"directory": "https://" + listener.Addr().String() + wfe.DirectoryPath, "root": "https://" + listener.Addr().String() + "/root",
	}); err != nil {
		return err
	}
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second, ErrorLog: log.New(io.Discard, "", 0)}
	return server.ServeTLS(listener, o.certificate, o.key)
}

// resolver serves DNS, over TCP, by which the validator asks, and answers where.
func resolver() (string, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	server := &dns.Server{Listener: listener, Handler: dns.HandlerFunc(answer)}
	go func() { log.Fatal("pebble: serve DNS: ", server.ActivateAndServe()) }()
	return listener.Addr().String(), nil
}

// answer says of every name that it is at 127.0.0.1, and nothing else.
func answer(w dns.ResponseWriter, q *dns.Msg) {
	reply := new(dns.Msg).SetReply(q)
	for _, question := range q.Question {
		if question.Qtype == dns.TypeA {
			reply.Answer = append(reply.Answer, &dns.A{
				Hdr: dns.RR_Header{Name: question.Name, Rrtype: dns.TypeA, Class: dns.ClassINET}, A: net.IPv4(127, 0, 0, 1),
			})
		}
	}
	_ = w.WriteMsg(reply) // who asked asks again
}
