// Package fallback writes the fallback bundles of the groups and keeps their keys: a key per group, of which gateways get the
// private half, and one of the installation that signs. All lie sealed in the store; revoking a gateway makes its group's
// key anew. What a bundle looks like is shared/bundle. The wiring runs Writer as a background job, the admin API shows and
// rotates keys, the registry rotates them when it revokes.
package fallback
