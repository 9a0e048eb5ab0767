// Package issuance has ACME authorities (RFC 8555) issue the certificates of the configuration that say so, and issue them anew in
// time. What was issued is a sealed system record, written through the ordinary write path, from which every gateway takes it;
// so is what any gateway of the group answers an authority with while an order is under way. Accounts lie sealed in a table of
// their own, because gateways have no use for them.
//
// A background job calls Run, and a commit that is about certificates of this kind wakes Serve, which does the work. Of all
// replicas one works on a group at a time, which a lock of the database holds. How often an authority is asked is bounded: what
// failed is tried again later and later, and no sooner than the authority says.
//
// Users choose the authorities, so only public addresses are dialled, and what the operator allows beside them. Keys stand in no
// error, log, metric or answer; what an authority said does.
package issuance
