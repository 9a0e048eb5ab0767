package policy

import (
	"errors"

	policyv1 "keyward.dev/proto/gen/keyward/policy/v1"
)

// Strict says whether a policy lets nobody pass while the store that it shares with other gateways does not answer; else each
// gateway goes by what it knows itself.
func Strict(on policyv1.OnStoreError) (bool, error) {
	switch on {
	case policyv1.OnStoreError_ON_STORE_ERROR_UNSPECIFIED, policyv1.OnStoreError_ON_STORE_ERROR_LOCAL:
		return false, nil
	case policyv1.OnStoreError_ON_STORE_ERROR_DENY:
		return true, nil
	}
	return false, errors.New("on_store_error has a value that is not known")
}
