// Package exchange is one request on its way through a gateway: what was received, who calls, what will be answered.
//
// The server fills an Exchange from whatever wire it speaks, policies read and change it, the upstream package forwards
// what is left of it, and the access log prints it. An Exchange is pooled: every byte slice in it is valid until Reset
// and points into the read buffer or into the exchange's own arena. Code that keeps bytes longer copies them.
//
// The package knows no sockets, no net/http and no configuration; nothing in it allocates once an exchange is warm.
package exchange
