package conformance_test

// Why net/http's engine does otherwise in some trials. It is the fallback and the oracle, and as kind as its library: that
// reads responses more kindly than RFC 9112 wants, but what it passes on is well-formed, which is held here, too.
const (
	mended     = "net/http's transport mends what it reads of the upstream; the client gets a well-formed response"
	preferred  = "net/http's transport lets the coding win over the length; the client gets a response without the length"
	old        = "net/http's transport takes a coding in HTTP/1.0 for a part of the content and reads to the end of the connection"
	unrepeated = "net/http's transport repeats no request whose body it cannot get again"
)

// differences are the trials in which an engine does otherwise, by table and name. A trial that goes well takes its line off
// the list.
var differences = map[string]map[string]string{
	"keyward": {},
	"net/http": {
		"connections/a PUT on a connection that was closed":             unrepeated,
		"response framing/a coding and a length":                        preferred,
		"response framing/a coding in an HTTP/1.0 response":             old,
		"response framing/a length and a coding":                        preferred,
		"response syntax/HTTP/2.0":                                      mended,
		"response syntax/a NUL in the reason":                           mended,
		"response syntax/a bare CR in the reason":                       mended,
		"response syntax/a bare LF after a response field":              mended,
		"response syntax/a bare LF ends a response head":                mended,
		"response syntax/a folded response field":                       mended,
		"response syntax/a folded response length":                      mended,
		"response syntax/a space before a response colon":               mended,
		"response syntax/a space before the colon of a response length": mended,
		"response syntax/a space in a response name":                    mended,
		"response syntax/bare LFs everywhere in a response":             mended,
		"response syntax/two spaces":                                    mended,
		"responses/a malformed interim response":                        mended,
	},
}
