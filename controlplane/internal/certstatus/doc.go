// Package certstatus fetches what others say of certificates, and keeps it as sealed system records, from which gateways take
// it: revocation lists that CA certificates name, and answers of responders that are sent with certificates (stapled). What was
// fetched is checked before it is kept, and what was kept before stays when nothing better comes. A background job calls Run;
// any replica may, and several at once.
//
// Tenants choose the addresses, so they are called through package egress, nothing is kept but what their authorities, or the
// issuers of their certificates, have signed, and errors are told the operator alone.
package certstatus
