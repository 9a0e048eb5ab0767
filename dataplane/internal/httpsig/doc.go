// Package httpsig reads the signatures that requests carry and says over which bytes they were made: HTTP Message Signatures
// (RFC 9421), and the drafts before them that are in wide use (draft-cavage-http-signatures-12, with the Authorization scheme
// hmac that some gateways have made of it). Keys verify these bytes; the digests of RFC 9530 and RFC 3230 bind a body to them.
//
// It works on the request as it was received and decides nothing: which components have to be covered, how old a signature may
// be and whose key it is are the policy's to ask. It knows no network, no clock and no configuration. What is not understood is
// an error, never passed over: a component that is left out of the bytes would be one that anybody may change.
//
//	var p httpsig.Inputs
//	err := p.Begin(&m, x)           // m is the request, x gives memory that lasts as long as it
//	for p.Next(&s) { … }            // each signature of RFC 9421; ParseCavage reads the one of the drafts
//	err = p.Value(&s)               // its bytes
//	base, err := s.Base(&m, x)
//	ok := key.Verify(base, s.Value)
package httpsig
