// Vault is the server that tests run against: the core of HashiCorp Vault 1.13 with the engines and ways to log in that
// Keyward uses, and files as storage. It starts uninitialised or sealed like any Vault; the tests do the rest over its API.
// It is for tests only: memory is not locked and there is no user interface, plugin process or audit device.
package main

import (
	"flag"
	"fmt"
	"net"
	"net/http"
	"os"
	"time"

	log "github.com/hashicorp/go-hclog"
	k8s "github.com/hashicorp/vault-plugin-auth-kubernetes"
	kv "github.com/hashicorp/vault-plugin-secrets-kv"
	"github.com/hashicorp/vault/builtin/credential/approle"
	"github.com/hashicorp/vault/builtin/logical/database"
	"github.com/hashicorp/vault/builtin/logical/pki"
	"github.com/hashicorp/vault/builtin/logical/transit"
	vaulthttp "github.com/hashicorp/vault/http"
	"github.com/hashicorp/vault/internalshared/configutil"
	"github.com/hashicorp/vault/plugins/database/postgresql"
	"github.com/hashicorp/vault/sdk/helper/consts"
	"github.com/hashicorp/vault/sdk/logical"
	"github.com/hashicorp/vault/sdk/physical/file"
	"github.com/hashicorp/vault/vault"
)

func main() {
	listen := flag.String("listen", "127.0.0.1:0", "address to serve")
	data := flag.String("data", "", "directory of the storage")
	certificate := flag.String("tls-cert", "", "certificate to serve TLS with")
	key := flag.String("tls-key", "", "its key")
	flag.Parse()
	if err := run(*listen, *data, *certificate, *key); err != nil {
		fmt.Fprintln(os.Stderr, "vault:", err)
		os.Exit(1)
	}
}

func run(listen, data, certificate, key string) error {
	listener, err := net.Listen("tcp", listen)
	if err != nil {
		return err
	}
	scheme := "http"
	if certificate != "" {
		scheme = "https"
	}
	core, err := newCore(data, scheme+"://"+listener.Addr().String())
	if err != nil {
		return fmt.Errorf("start the core: %w", err)
	}
	handler := vaulthttp.Handler.Handler(&vault.HandlerProperties{
		Core:           core,
		ListenerConfig: &configutil.Listener{Type: "tcp", Address: listener.Addr().String()},
	})
	server := &http.Server{Handler: handler, ReadHeaderTimeout: 10 * time.Second}
	// The line that says where: whoever started this waits for it.
	fmt.Println(scheme + "://" + listener.Addr().String())
	if certificate != "" {
		return server.ServeTLS(listener, certificate, key)
	}
	return server.Serve(listener)
}

func newCore(data, address string) (*vault.Core, error) {
	logger := log.New(&log.LoggerOptions{Level: log.Error, Output: os.Stderr})
	storage, err := file.NewFileBackend(map[string]string{"path": data}, logger)
	if err != nil {
		return nil, err
	}
	engines := map[string]logical.Factory{"kv": kv.Factory, "transit": transit.Factory, "pki": pki.Factory, "database": database.Factory}
	logins := map[string]logical.Factory{"approle": approle.Factory, "kubernetes": k8s.Factory}
	return vault.NewCore(&vault.CoreConfig{
		Physical:           storage,
		Logger:             logger,
		LogicalBackends:    engines,
		CredentialBackends: logins,
		BuiltinRegistry: builtins{
			consts.PluginTypeSecrets: factories(engines), consts.PluginTypeCredential: factories(logins),
			consts.PluginTypeDatabase: {"postgresql-database-plugin": postgresql.New},
		},
		DisableMlock: true,
		RedirectAddr: address,
	})
}

// builtins is the registry of plugins: what is linked in, and nothing else.
type builtins map[consts.PluginType]map[string]func() (any, error)

// factories are engines or ways to log in as plugins: each is made by its factory.
func factories(all map[string]logical.Factory) map[string]func() (any, error) {
	out := map[string]func() (any, error){}
	for name, factory := range all {
		out[name] = func() (any, error) { return factory, nil }
	}
	return out
}

func (b builtins) Contains(name string, kind consts.PluginType) bool {
	_, found := b[kind][name]
	return found
}

func (b builtins) Get(name string, kind consts.PluginType) (func() (any, error), bool) {
	make, found := b[kind][name]
	return make, found
}

func (b builtins) Keys(kind consts.PluginType) []string {
	var names []string
	for name := range b[kind] {
		names = append(names, name)
	}
	return names
}

func (b builtins) DeprecationStatus(name string, kind consts.PluginType) (consts.DeprecationStatus, bool) {
	return consts.Supported, b.Contains(name, kind)
}

func (b builtins) IsBuiltinEntPlugin(string, consts.PluginType) bool { return false }
