// Package credentialstore follows folders of Vault with pairs of tokens, and keeps keyed hashes of these as sealed system records,
// from which gateways know callers. What is new or gone counts with the next reading; what was read counts on while Vault does
// not answer, up to a bound; then nothing is known of the store, and its routes answer 503. A background job calls Run, and a
// commit that brings a store wakes Serve. How folders are read, and whose, is the business of package secretsource.
//
// Tokens stand in no record, error, log or metric, nor do whole names of entries, which may be tokens.
package credentialstore
