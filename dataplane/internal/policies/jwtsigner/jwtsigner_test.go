package jwtsigner_test

import (
	"testing"

	"keyward.dev/dataplane/internal/policies"
	"keyward.dev/dataplane/internal/policy/policytest"
)

func TestCases(t *testing.T) { policytest.Run(t, "testdata/*.txtar", policies.All()) }
