package arch_test

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// outside is what a pure package must not touch itself; what it calls through an interface is not its business.
var outside = []string{
	"net", "net/http/...", "os/...", "database/...", "google.golang.org/grpc/...", "github.com/jackc/pgx/v5/...",
}

// importRule forbids packages to import others directly.
type importRule struct {
	name   string
	who    []string
	except []string // of who
	not    []string
	reason string
}

var importRules = []importRule{
	{
		name: "control plane knows no data plane", who: []string{"controlplane/..."}, not: []string{"keyward.dev/dataplane/..."},
		reason: "the planes are built, released and scaled apart; what both need is in shared or proto",
	},
	{
		name: "data plane knows no control plane", who: []string{"dataplane/..."},
		not:    []string{"keyward.dev/controlplane/...", "keyward.dev/migrations/..."},
		reason: "the planes are built, released and scaled apart; what both need is in shared or proto",
	},
	{
		name: "proto imports nothing of ours", who: []string{"proto/..."},
		not:    []string{"keyward.dev/shared/...", "keyward.dev/controlplane/...", "keyward.dev/dataplane/...", "keyward.dev/migrations/..."},
		reason: "it is the contract: everything depends on it",
	},
	{
		name: "shared knows neither plane", who: []string{"shared/..."},
		not:    []string{"keyward.dev/controlplane/...", "keyward.dev/dataplane/...", "keyward.dev/migrations/..."},
		reason: "what only one plane needs belongs into that plane",
	},
	{
		name: "end-to-end tests drive processes", who: []string{"e2e/..."},
		not:    []string{"keyward.dev/controlplane/...", "keyward.dev/dataplane/..."},
		reason: "a test that links the product tests something else than what is shipped",
	},
	{
		name: "pure packages", reason: "they decide, others do: decisions without I/O can be tested and fuzzed exhaustively",
		who: []string{
			"controlplane/internal/keyring/...", "controlplane/internal/admission/...",
			"dataplane/internal/state/...", "dataplane/internal/compile/...", "dataplane/internal/router/...",
			"dataplane/internal/httpwire/...", "dataplane/internal/policy/...", "dataplane/internal/trace/...",
			"dataplane/internal/token/...", "dataplane/internal/httpsig/...", "dataplane/internal/lastuse/...",
			"shared/check/...", "shared/digest/...", "shared/sealedset/...", "shared/bundle/...",
		},
		except: []string{"dataplane/internal/policy/policytest/...", "dataplane/internal/state/statetest/..."},
		not:    outside,
	},
	{
		name: "no net/http in the gateway", who: []string{"dataplane/..."}, not: []string{"net/http/..."},
		except: []string{
			"dataplane/internal/server/...", "dataplane/internal/upstream/...", "dataplane/internal/hostsvc/...",
			"dataplane/internal/status/...",        // its own listener, never a client's request
			"dataplane/internal/fallback",          // fetches a file at a start, before there are requests
			"dataplane/internal/policy/policytest", // plays a host of keys in tests
		},
		reason: "policies and the chain work on the exchange; the HTTP engine must be exchangeable in one place",
	},
	{
		name: "only the store speaks SQL", who: []string{"controlplane/..."},
		except: []string{
			"controlplane/internal/store/...",
			"controlplane/internal/jobs", // hands the store's pool to the job queue, which has tables of its own
		},
		not:    []string{"github.com/jackc/pgx/v5/...", "database/sql/..."},
		reason: "locking order and sealing are kept in one place",
	},
	{
		name: "only jobs knows the job queue", who: []string{"controlplane/..."},
		except: []string{"controlplane/internal/jobs"},
		not:    []string{"github.com/riverqueue/river/..."},
		reason: "what is put into the queue is stored in the clear; in one place it is plain that it is only names",
	},
	{
		name: "only vaultclient knows Vault's library", who: []string{"controlplane/...", "dataplane/...", "shared/..."},
		except: []string{"controlplane/internal/vaultclient"},
		not:    []string{"github.com/hashicorp/vault/..."},
		reason: "the library follows the environment and leaves TLS to it; in one place that is undone and tested",
	},
	{
		name: "only issuance speaks ACME", who: []string{"controlplane/...", "dataplane/...", "shared/..."},
		except: []string{"controlplane/internal/issuance"},
		not:    []string{"github.com/mholt/acmez/v3/..."},
		reason: "users choose whom it talks to: which addresses are dialled and what is repeated of answers is decided in one place",
	},
	{
		name: "only hostsvc speaks LDAP", who: []string{"controlplane/...", "dataplane/...", "shared/..."},
		except: []string{"dataplane/internal/hostsvc"},
		not:    []string{"github.com/go-ldap/ldap/v3/..."},
		reason: "the library waits for ever, reads what it is sent and begins TLS loosely; in one place that is bounded and tested",
	},
	{
		name: "only hostsvc speaks Redis", who: []string{"controlplane/...", "dataplane/...", "shared/..."},
		except: []string{"dataplane/internal/hostsvc"},
		not:    []string{"github.com/redis/..."},
		reason: "the library asks again by itself and waits as long as it likes; in one place that is bounded and tested",
	},
	{
		name: "AWS is spoken to in three places", who: []string{"controlplane/...", "dataplane/...", "shared/..."},
		except: []string{
			"controlplane/internal/kek/awskms", "controlplane/internal/fallback/bucket",
			"controlplane/internal/awssecrets", // which also takes credentials that it is given
		},
		not:    []string{"github.com/aws/..."},
		reason: "its credentials are the process's own: who may use them stays easy to see",
	},
	{
		name: "protovalidate runs at admission only", who: []string{"controlplane/...", "dataplane/...", "shared/..."},
		except: []string{"controlplane/internal/admission/..."},
		not:    []string{"buf.build/go/protovalidate/..."},
		reason: "the rules are compiled once, and every gateway without it starts faster and is smaller",
	},
	{
		name: "expressions are compiled in one place", who: []string{"controlplane/...", "dataplane/...", "shared/..."},
		except: []string{
			"shared/check/expression",
			"dataplane/internal/policies/authorize", // gives expressions what they see
		},
		not:    []string{"cel.dev/..."},
		reason: "what expressions may see, do and cost is decided and tested once",
	},
	{
		name: "admin API does not encrypt", who: []string{"controlplane/internal/adminapi/..."},
		not:    []string{"keyward.dev/controlplane/internal/keyring/...", "crypto/aes", "crypto/cipher"},
		reason: "it decodes, calls the write path and renders; a second place that seals would be a second place to get it wrong",
	},
	{
		name: "testing stays in tests", who: []string{"controlplane/...", "dataplane/...", "shared/..."},
		except: []string{
			"shared/testkit", "shared/testkit/certtest", "shared/testkit/pgtest", "shared/testkit/vaulttest", "shared/testkit/ldaptest", "shared/testkit/redistest", "shared/testkit/daemon", "shared/testkit/acmetest", "shared/mtls/mtlstest",
			"controlplane/internal/kek/kektest",
			"controlplane/internal/store/storetest", "controlplane/internal/fanout/fanouttest",
			"dataplane/internal/policy/policytest", "dataplane/internal/state/statetest", "dataplane/internal/token/tokentest",
		},
		not:    []string{"testing/...", "keyward.dev/shared/testkit", "keyward.dev/shared/testkit/pgtest", "keyward.dev/shared/testkit/vaulttest", "keyward.dev/shared/testkit/ldaptest", "keyward.dev/shared/testkit/redistest", "keyward.dev/shared/testkit/daemon", "keyward.dev/shared/testkit/acmetest"},
		reason: "a product that links the testing package takes its flags and its weight along",
	},
}

func TestImportRules(t *testing.T) {
	t.Parallel()
	for _, rule := range importRules {
		t.Run(rule.name, func(t *testing.T) {
			t.Parallel()
			mustExist(t, rule.who)
			mustExist(t, rule.except)
			for _, p := range packages(t) {
				if !matchesAny(rule.who, p.path()) || matchesAny(rule.except, p.path()) {
					continue
				}
				for _, imported := range p.Imports {
					if matchesAny(rule.not, imported) {
						t.Errorf("%s imports %s: %s", p.path(), imported, rule.reason)
					}
				}
			}
		})
	}
}

// TestPlanesDoNotMeetInTests closes the gap the rules above leave: they are about what is shipped.
func TestPlanesDoNotMeetInTests(t *testing.T) {
	t.Parallel()
	for _, p := range packages(t) {
		module, _, _ := strings.Cut(p.path(), "/")
		for _, imported := range slices.Concat(p.TestImports, p.XTestImports) {
			other, ours := strings.CutPrefix(imported, modulePrefix)
			plane, _, _ := strings.Cut(other, "/")
			if ours && plane != module && (plane == "controlplane" || plane == "dataplane") {
				t.Errorf("the tests of %s import %s: tests that need both planes are end-to-end tests", p.path(), imported)
			}
		}
	}
}

func TestPoliciesKnowNoOtherPolicy(t *testing.T) {
	t.Parallel()
	const folder = "dataplane/internal/policies"
	mustExist(t, []string{folder})
	found := 0
	for _, p := range packages(t) {
		if !strings.HasPrefix(p.path(), folder+"/") {
			continue
		}
		found++
		for _, imported := range slices.Concat(p.Imports, p.TestImports, p.XTestImports) {
			other := strings.TrimPrefix(imported, modulePrefix)
			if strings.HasPrefix(other, folder) && !strings.HasPrefix(p.path(), other) && !strings.HasPrefix(other, p.path()+"/") {
				t.Errorf("%s imports %s: a policy is one folder, removed or changed without a look at the others", p.path(), other)
			}
		}
	}
	if found == 0 {
		t.Error("no policy folders found")
	}
}

// TestGatewayLinksOnlyWhatItNeeds looks at everything behind the imports, too.
func TestGatewayLinksOnlyWhatItNeeds(t *testing.T) {
	t.Parallel()
	dependencies, err := list(filepath.Join(root(t), "dataplane"), "-deps", "./cmd/keyward-dataplane")
	if err != nil {
		t.Fatal(err)
	}
	// database/sql itself is linked by the metrics library's collectors; without a driver it is only weight.
	for unwanted, reason := range map[string]string{
		"github.com/jackc/pgx/v5/...":                           "gateways have no database",
		"github.com/hashicorp/vault/api/...":                    "secrets are resolved by the control plane and streamed",
		"buf.build/go/protovalidate/...":                        "what was admitted is not validated again",
		"github.com/google/cel-go/...":                          "the expression engine is linked once, under the name it has now",
		"github.com/spf13/cobra/...":                            "the gateway has one command",
		"go.yaml.in/yaml/v4/...":                                "gateways read no documents; version 3 is the expression engine's, for files that it is not given",
		"testing":                                               "tests are not shipped",
		"keyward.dev/shared/testkit/...":                        "tests are not shipped",
		"keyward.dev/shared/catalog/...":                        "gateways get messages, not users' documents",
		"github.com/grpc-ecosystem/grpc-gateway/v2/runtime/...": "gateways serve no admin API",
	} {
		for _, p := range dependencies {
			if matches(unwanted, p.ImportPath) {
				t.Errorf("keyward-dataplane links %s: %s", p.ImportPath, reason)
			}
		}
	}
}
