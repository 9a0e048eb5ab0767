package failure_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"keyward.dev/controlplane/cmd/keyward/internal/failure"
	"keyward.dev/controlplane/internal/adminapi/grpcstatus"
	"keyward.dev/shared/problem"
)

func TestReport(t *testing.T) {
	t.Parallel()
	server := func(code problem.Code, detail string, vs ...problem.Violation) error {
		p := problem.New(code, detail)
		p.Violations = vs
		return fmt.Errorf("apply x.yaml: %w", grpcstatus.FromProblem(p))
	}
	for name, c := range map[string]struct {
		err  error
		code int
		text string
	}{
		"nothing":      {nil, 0, ""},
		"plain":        {errors.New("read x: no such file"), 1, "keyward: read x: no such file\n"},
		"said already": {failure.Exit(7), 7, ""},
		"usage":        {failure.Usagef("what is %q", "x"), 2, "keyward: what is \"x\"\n"},
		"hint":         {failure.Hint(errors.New("no"), "do %s", "this"), 1, "keyward: no\nhint: do this\n"},
		"interrupted":  {fmt.Errorf("wait: %w", context.Canceled), 1, "keyward: interrupted\n"},
		"not found":    {server(problem.NotFound, "there is no route x"), 3, "keyward: apply x.yaml: there is no route x\n"},
		"conflict":     {server(problem.Conflict, "x is used by y"), 4, "keyward: apply x.yaml: x is used by y\n"},
		"precondition": {
			server(problem.PreconditionFailed, "etag differs"), 4,
			"keyward: apply x.yaml: etag differs\nhint: somebody else changed it meanwhile: look at it again (keyward get), then repeat\n",
		},
		"violations": {
			server(problem.Invalid, "2 violations", problem.Violation{Path: "a[0].b", Reason: "must be c", Line: 3, Column: 5}, problem.Violation{Reason: "d"}), 1,
			"keyward: apply x.yaml: 2 violations\n  a[0].b (line 3, column 5): must be c\n  d\n",
		},
		"one violation is not told twice": {
			server(problem.Invalid, "a: must be c", problem.Violation{Path: "a", Reason: "must be c"}), 1,
			"keyward: apply x.yaml: a: must be c\n",
		},
		"no authority": {
			status.Error(codes.Unavailable, "connection error: tls: failed to verify certificate: x509: certificate signed by unknown authority"), 1,
			"keyward: connection error: tls: failed to verify certificate: x509: certificate signed by unknown authority\n" +
				"hint: set KEYWARD_CACERT, or give --cacert, with the file of the authority that signed the control plane's certificate\n",
		},
		"nobody listens": {
			status.Error(codes.Unavailable, "connection error: dial tcp 127.0.0.1:1: connect: connection refused"), 1,
			"keyward: connection error: dial tcp 127.0.0.1:1: connect: connection refused\n" +
				"hint: is the control plane running, and is KEYWARD_ADDR (or --addr) its address?\n",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var b bytes.Buffer
			if code := failure.Report(&b, c.err); code != c.code || b.String() != c.text {
				t.Errorf("Report() = %d, %q; want %d, %q", code, b.String(), c.code, c.text)
			}
		})
	}
}
