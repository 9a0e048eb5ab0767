// Package certstatus fetches what others say of certificates, and keeps it as sealed system records, from which gateways take
// it: revocation lists that CA certificates name. What was fetched is checked before it is kept, and what was kept before
// stays when nothing better comes. A background job calls Run; any replica may, and several at once.
//
// Tenants choose the addresses, so they are called through package outbound, nothing is kept but what their own authorities have
// signed, and errors are told the operator alone.
package certstatus
