package hostsvc_test

import (
	"fmt"
	"testing"
	"time"

	"keyward.dev/dataplane/internal/hostsvc"
)

func proof(v *hostsvc.Verified, parts ...string) *hostsvc.Proof {
	var p hostsvc.Proof
	var all [][]byte
	for _, s := range parts {
		all = append(all, []byte(s))
	}
	v.Proof(&p, all...)
	return &p
}

func TestVerified(t *testing.T) {
	t.Parallel()
	now := time.Now()
	v := hostsvc.NewVerified(0)
	v.Put(proof(v, "hash", "password"), now.Add(time.Minute))
	tests := []struct {
		name  string
		parts []string
		after time.Duration
		want  bool
	}{
		{"the same", []string{"hash", "password"}, 0, true},
		{"just before its end", []string{"hash", "password"}, time.Minute - 1, true},
		{"at its end", []string{"hash", "password"}, time.Minute, false},
		{"another password", []string{"hash", "passwore"}, 0, false},
		{"a changed credential", []string{"hasi", "password"}, 0, false},
		{"parts cut elsewhere", []string{"hashp", "assword"}, 0, false},
		{"one part", []string{"hashpassword"}, 0, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if got := v.Has(proof(v, tt.parts...), now.Add(tt.after)); got != tt.want {
				t.Errorf("Has = %v, want %v", got, tt.want)
			}
		})
	}
	if other := hostsvc.NewVerified(0); *proof(other, "a") == *proof(v, "a") {
		t.Error("two processes have one key")
	}
}

func TestVerifiedIsBounded(t *testing.T) {
	t.Parallel()
	now := time.Now()
	v := hostsvc.NewVerified(512)
	for i := range 100_000 {
		v.Put(proof(v, fmt.Sprint(i)), now.Add(time.Duration(i+1)*time.Second))
	}
	held := 0
	for i := range 100_000 {
		if v.Has(proof(v, fmt.Sprint(i)), now) {
			held++
		}
	}
	if held == 0 || held > 512 {
		t.Errorf("%d proofs are held", held)
	}
	v.Put(proof(v, "99999"), now.Add(time.Second))
	if v.Has(proof(v, "99999"), now.Add(2*time.Second)) {
		t.Error("what was put again is held for as long as before")
	}
}
