package mtls_test

import (
	"strings"
	"testing"

	"keyward.dev/shared/mtls"
)

func TestParseID(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, raw string
		want      mtls.ID
		wantErr   bool
	}{
		{name: "gateway", raw: "spiffe://kw.local/group/pay/gateway/g1", want: mtls.ID{TrustDomain: "kw.local", Group: "pay", Gateway: "g1"}},
		{name: "control plane", raw: "spiffe://kw.local/controlplane/r-1", want: mtls.ID{TrustDomain: "kw.local", ControlPlane: "r-1"}},
		{name: "group with at sign", raw: "spiffe://kw/group/a@b/gateway/g", want: mtls.ID{TrustDomain: "kw", Group: "a@b", Gateway: "g"}},
		{name: "other scheme", raw: "https://kw.local/controlplane/r", wantErr: true},
		{name: "upper-case domain", raw: "spiffe://KW.local/controlplane/r", wantErr: true},
		{name: "no domain", raw: "spiffe:///controlplane/r", wantErr: true},
		{name: "port", raw: "spiffe://kw:1/controlplane/r", wantErr: true},
		{name: "user info", raw: "spiffe://x@kw/controlplane/r", wantErr: true},
		{name: "empty group", raw: "spiffe://kw/group//gateway/g", wantErr: true},
		{name: "empty gateway", raw: "spiffe://kw/group/a/gateway/", wantErr: true},
		{name: "empty replica", raw: "spiffe://kw/controlplane/", wantErr: true},
		{name: "dots", raw: "spiffe://kw/group/../gateway/g", wantErr: true},
		{name: "escape", raw: "spiffe://kw/group/a%2Fb/gateway/g", wantErr: true},
		{name: "longer", raw: "spiffe://kw/group/a/gateway/g/x", wantErr: true},
		{name: "query", raw: "spiffe://kw/controlplane/r?x", wantErr: true},
		{name: "too long", raw: "spiffe://kw/controlplane/" + strings.Repeat("r", 3000), wantErr: true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got, err := mtls.ParseID(tt.raw)
			if (err != nil) != tt.wantErr {
				t.Fatalf("ParseID(%q) error = %v, want error %v", tt.raw, err, tt.wantErr)
			}
			if got != tt.want {
				t.Errorf("ParseID(%q) = %+v, want %+v", tt.raw, got, tt.want)
			}
		})
	}
}

func FuzzParseID(f *testing.F) {
	for _, s := range []string{"spiffe://kw/group/a/gateway/g", "spiffe://kw/controlplane/r", "spiffe://", "spiffe://kw/group/a@b/gateway/x.y"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		id, err := mtls.ParseID(raw)
		if err != nil {
			if id != (mtls.ID{}) {
				t.Fatalf("ParseID(%q) = %+v with an error", raw, id)
			}
			return
		}
		if id.String() != raw {
			t.Errorf("ParseID(%q).String() = %q: an identity has one spelling", raw, id.String())
		}
		if got := id.URL().String(); got != raw {
			t.Errorf("ParseID(%q).URL() = %q", raw, got)
		}
		if id.IsGateway() == (id.ControlPlane != "") {
			t.Errorf("ParseID(%q) = %+v: both or neither", raw, id)
		}
	})
}
