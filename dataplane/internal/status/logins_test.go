package status_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"keyward.dev/dataplane/internal/accesslog"
	"keyward.dev/dataplane/internal/exchange"
	"keyward.dev/dataplane/internal/hostsvc"
)

// authentication is how the services do in the tests.
func authentication() hostsvc.Stats {
	return hostsvc.Stats{
		Keys:    hostsvc.KeyStats{Fetched: 1, Failed: 2, Found: 3, Absent: 4, Later: 5, Unsure: 6, Fresh: 7, Stale: 8, Missing: 9, Oldest: time.Unix(1000, 0)},
		Tokens:  hostsvc.TokenStats{Hits: 10, Misses: 11, Bytes: 12},
		Replays: hostsvc.UseStats{Entries: 13, Full: 14}, Proofs: hostsvc.UseStats{Entries: 15, Full: 16}, OneTime: hostsvc.UseStats{Entries: 17, Full: 18},
		Counters: 19,
	}
}

func authenticationSeries() map[string]string {
	return map[string]string{
		"keyward_gateway_key_fetches_total,result=ok":            "1",
		"keyward_gateway_key_fetches_total,result=failed":        "2",
		"keyward_gateway_unknown_keys_total,answer=found":        "3",
		"keyward_gateway_unknown_keys_total,answer=absent":       "4",
		"keyward_gateway_unknown_keys_total,answer=later":        "5",
		"keyward_gateway_unknown_keys_total,answer=unsure":       "6",
		"keyward_gateway_key_sets,state=fresh":                   "7",
		"keyward_gateway_key_sets,state=stale":                   "8",
		"keyward_gateway_key_sets,state=missing":                 "9",
		"keyward_gateway_key_set_oldest_timestamp_seconds":       "1000",
		"keyward_gateway_token_lookups_total,result=hit":         "10",
		"keyward_gateway_token_lookups_total,result=miss":        "11",
		"keyward_gateway_token_cache_bytes":                      "12",
		"keyward_gateway_single_use_entries,table=signatures":    "13",
		"keyward_gateway_single_use_full_total,table=signatures": "14",
		"keyward_gateway_single_use_entries,table=proofs":        "15",
		"keyward_gateway_single_use_full_total,table=proofs":     "16",
		"keyward_gateway_single_use_entries,table=tokens":        "17",
		"keyward_gateway_single_use_full_total,table=tokens":     "18",
		"keyward_gateway_guess_counters":                         "19",
	}
}

// TestLogins has requests that authentication has let in, or not.
func TestLogins(t *testing.T) {
	t.Parallel()
	s, _, reg, _ := fixture()
	observe := func(by string, r *exchange.Refusal, who *exchange.Principal, proofs ...string) {
		x := lasted("r", 0)
		x.Principal = who
		for _, how := range proofs {
			x.Proofs = append(x.Proofs, &exchange.Principal{How: how})
		}
		if r != nil {
			x.StoppedBy = &exchange.PolicyRef{Type: by}
			x.Refuse(r)
		}
		s.Observe(x, accesslog.Outcome{Status: 200})
	}
	who := &exchange.Principal{How: "key-auth"}
	no := exchange.NewRefusal(401, "unauthenticated", "No.")
	observe("", nil, who, "key-auth")
	observe("", nil, who, "key-auth", "jwt-auth")
	observe("acl", exchange.NewRefusal(403, "forbidden", "No."), who, "key-auth")
	observe("key-auth", no, nil)
	observe("key-auth", no.Absent(), nil)
	observe("jwt-auth", exchange.NewRefusal(429, "too_many", "No."), nil)
	observe("jwt-auth", exchange.NewRefusal(503, "unavailable", "No."), nil)
	observe("ip-restriction", no, nil)
	observe("", nil, &exchange.Principal{How: "anonymous"})
	observe("", nil, nil)
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]float64{}
	for _, f := range families {
		if f.GetName() != "keyward_gateway_logins_total" {
			continue
		}
		for _, m := range f.GetMetric() {
			got[m.GetLabel()[1].GetValue()+" "+m.GetLabel()[0].GetValue()] = m.GetCounter().GetValue()
		}
	}
	want := map[string]float64{
		"key-auth accepted": 3, "jwt-auth accepted": 1, "key-auth refused": 1, "key-auth missing": 1, "jwt-auth limited": 1, "jwt-auth unavailable": 1,
		"anonymous accepted": 1,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("logins (-want +got):\n%s", diff)
	}
}
