// Package secretsource reads what references in the configuration mean, `{scheme://provider/path#field}`, from providers that
// the operator has set up for named groups, and keeps it as sealed system records, from which gateways take it. A value that
// was read is kept while its source does not answer, up to a bound; then the record holds nothing and what needs it is closed.
// A background job calls Run, and a commit that brings a reference wakes Serve.
//
// Tenants choose paths, so each source has a root that a path cannot leave, and answers only the groups that it is for. A value
// stands in no error, log or metric; references do.
package secretsource
