package syncserver_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/testing/protocmp"

	syncv1 "keyward.dev/proto/gen/keyward/sync/v1"
	"keyward.dev/shared/mtls"
)

// What a gateway says of credentials is said of those of its own group, which is that of its certificate.
func TestUsesOfCredentialsAreTheGroupsOfTheCertificate(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{inMemory: true})
	defer w.stop()
	for _, group := range []string{"a", "b"} {
		report, err := syncv1.NewSyncServiceClient(w.connect(mtls.ClientTLS(w.config(w.enrol(group).cert)))).Report(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		uses := []*syncv1.CredentialUse{{Uid: make([]byte, 16), SecondsAgo: 7}}
		for _, r := range []*syncv1.ReportRequest{{Responses: map[string]uint64{"2xx": 1}}, {CredentialUses: uses}} { // as an older gateway, and as one of now
			if err := report.Send(r); err != nil {
				t.Fatal(err)
			}
			got := <-w.used
			if diff := cmp.Diff(r.GetCredentialUses(), got.uses, protocmp.Transform()); got.group != group || diff != "" {
				t.Errorf("of group %s, want %s (-want +got):\n%s", got.group, group, diff)
			}
		}
	}
}
