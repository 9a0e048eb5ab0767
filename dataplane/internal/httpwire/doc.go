// Package httpwire parses and writes HTTP/1.1 messages by RFC 9110 and RFC 9112, in place and without allocating.
//
// Framing is a security boundary: whatever two readers could understand differently is refused, never repaired. Both
// Content-Length and Transfer-Encoding, repeated, signed or listed lengths, line folding, bare CR or LF, space before the
// colon, names that are no tokens, junk in chunk sizes, a repeated Host, an absolute-form target that disagrees with Host:
// all are errors after which the connection must be closed. Responses are read as strictly as requests.
//
// The package knows no sockets: it is given the bytes that have arrived and says how many it used, and appends to what is
// to be sent. The server, the upstream client and the policy tests call it.
package httpwire
