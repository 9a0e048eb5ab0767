package credentialstore

import (
	configv1 "keyward.dev/proto/gen/keyward/config/v1"

	"keyward.dev/controlplane/internal/claims"
	"keyward.dev/controlplane/internal/snapshot"
	"keyward.dev/shared/catalog"
)

// member is the field of an object that names a consumer.
func member(by configv1.StoredConsumer) string {
	switch by {
	case configv1.StoredConsumer_STORED_CONSUMER_USERNAME:
		return "username"
	case configv1.StoredConsumer_STORED_CONSUMER_CUSTOM_ID:
		return "custom_id"
	default:
		return "name"
	}
}

// resolve answers the name of the consumer whom entries of a store name so, empty if there is none. One that is known by its own
// name need not be there yet: gateways find it when it is.
func resolve(view *snapshot.View, by configv1.StoredConsumer, named string) string {
	claim := ""
	switch by {
	case configv1.StoredConsumer_STORED_CONSUMER_USERNAME:
		claim = claims.Username(named)
	case configv1.StoredConsumer_STORED_CONSUMER_CUSTOM_ID:
		claim = claims.CustomID(named)
	default:
		if catalog.ValidName(named) {
			return named
		}
		return ""
	}
	ref, _ := view.Claimant(claim)
	return ref.Name
}
