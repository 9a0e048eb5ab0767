// Package secretsource reads what references in the configuration mean, `{scheme://provider/path#field}`, and keeps it as sealed
// system records, from which gateways take it. Providers are set up by the operator, for named groups and from whatever the
// control plane can reach, or made by tenants in their group, with credentials of their own and from where package egress lets
// them. A value that was read is kept while its source does not answer, up to a bound; then the record holds nothing and what
// needs it is closed. A background job calls Run, and a commit that brings a reference or a provider wakes Serve.
//
// Tenants choose paths, so each source has a root that a path cannot leave, and answers only the groups that it is for. A value
// stands in no error, log or metric; references do.
package secretsource
