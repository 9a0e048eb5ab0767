package accesslog

import (
	"net/netip"
	"strconv"
	"strings"
	"time"

	"keyward.dev/dataplane/internal/exchange"
)

const redacted = `"[redacted]"`

// member is a member of a line.
type member uint8

const (
	memberTime member = iota
	memberID
	memberInstance
	memberTraceID
	memberClientIP
	memberPeer
	memberScheme
	memberProtocol
	memberMethod
	memberHost
	memberPath
	memberStatus
	memberBytesIn
	memberBytesOut
	memberDuration
	memberUpstream
	memberRoute
	memberService
	memberConsumer
	memberCredential
	memberUserAgent
	memberCode
	memberPolicy
	memberBinding
	memberWouldRefuse
	memberHeaders
	memberAborted
)

// keys are what stands before a member's value. Time is always first. The names are stable.
var keys = [...]string{
	memberTime: `{"time":`, memberID: `,"id":`, memberInstance: `,"instance":`, memberTraceID: `,"trace_id":`,
	memberClientIP: `,"client_ip":`, memberPeer: `,"peer":`, memberScheme: `,"scheme":`, memberProtocol: `,"protocol":`,
	memberMethod: `,"method":`, memberHost: `,"host":`, memberPath: `,"path":`, memberStatus: `,"status":`,
	memberBytesIn: `,"bytes_in":`, memberBytesOut: `,"bytes_out":`, memberDuration: `,"duration_us":`,
	memberUpstream: `,"upstream_us":`, memberRoute: `,"route":`, memberService: `,"service":`, memberConsumer: `,"consumer":`,
	memberCredential: `,"credential":`, memberUserAgent: `,"user_agent":`, memberCode: `,"code":`, memberPolicy: `,"policy":`,
	memberBinding: `,"binding":`, memberWouldRefuse: `,"would_refuse":`, memberHeaders: `,"headers":`, memberAborted: `,"aborted":`,
}

// memberName is the name in a key.
func memberName(key string) string { return key[len(`,"`) : len(key)-len(`":`)] }

// line is a line in the making.
type line struct {
	b     []byte
	view  *view
	clock *clock
	key   *hashKey
}

// Append appends the line of an exchange, for those who need one without a log.
func Append(b []byte, x *exchange.Exchange, o Outcome) []byte {
	v := newView(o.Settings)
	w := line{b: b, view: &v, clock: new(clock), key: new(hashKey)}
	w.exchange(x, &o)
	return w.b
}

func (w *line) exchange(x *exchange.Exchange, o *Outcome) {
	w.ids(x)
	w.request(x)
	w.numbers(x, o)
	w.text(memberRoute, x.Route.Name)
	w.text(memberService, x.Route.Service)
	if p := x.Principal; p != nil {
		w.text(memberConsumer, p.Consumer)
		w.text(memberCredential, p.Credential)
	}
	w.bytes(memberUserAgent, x.Request.Header.Get("User-Agent"))
	w.text(memberCode, o.Code)
	if by := x.StoppedBy; by != nil {
		w.text(memberPolicy, by.Type)
		if w.begin(memberBinding) {
			w.binding(by)
		}
	}
	w.reports(x.Reports)
	w.headers(x, o)
	if o.Aborted && w.begin(memberAborted) {
		w.b = append(w.b, "true"...)
	}
	w.b = append(w.b, "}\n"...)
}

// begin appends the key of a member and says whether its value may follow. If not, there is one already.
func (w *line) begin(m member) bool {
	w.b = append(w.b, keys[m]...)
	if w.view.hidden>>m&1 == 0 {
		return true
	}
	w.b = append(w.b, redacted...)
	return false
}

// text appends a member unless it is empty.
func (w *line) text(m member, v string) {
	if v != "" && w.begin(m) {
		w.b = quote(w.b, v)
	}
}

func (w *line) bytes(m member, v []byte) {
	if len(v) > 0 && w.begin(m) {
		w.b = quote(w.b, v)
	}
}

func (w *line) number(m member, v int64) {
	if w.begin(m) {
		w.b = strconv.AppendInt(w.b, v, 10)
	}
}

// ids appends when it was and what others know it by. A request id that a trusted peer chose need not be the exchange's
// own, which refusals show as their instance.
func (w *line) ids(x *exchange.Exchange) {
	if w.begin(memberTime) {
		w.b = w.clock.append(append(w.b, '"'), x.Timings.Received)
		w.b = append(w.b, '"')
	}
	switch t := &x.Trace; {
	case t.RequestID == nil:
		w.id(memberID, x)
	case t.Foreign:
		w.bytes(memberID, t.RequestID)
		w.id(memberInstance, x)
	default:
		w.bytes(memberID, t.RequestID)
	}
	w.bytes(memberTraceID, x.Trace.ID())
}

func (w *line) id(m member, x *exchange.Exchange) {
	if w.begin(m) {
		w.b = append(x.ID().Append(append(w.b, '"')), '"')
	}
}

func (w *line) request(x *exchange.Exchange) {
	q := &x.Request
	w.addresses(q.ClientIP, q.RemoteAddr.Addr())
	w.text(memberScheme, q.Scheme)
	w.text(memberProtocol, Protocol(q.Proto))
	w.bytes(memberMethod, q.Method)
	w.bytes(memberHost, q.Host)
	w.bytes(memberPath, q.Path)
}

// addresses appends the client's and the peer's, in the same form: behind no proxy they are one.
func (w *line) addresses(client, peer netip.Addr) {
	from, to := 0, 0
	if client.IsValid() && w.begin(memberClientIP) {
		from = len(w.b)
		w.b = append(appendAddress(append(w.b, '"'), client, w.view.form, w.key), '"')
		to = len(w.b)
	}
	switch {
	case !peer.IsValid() || !w.begin(memberPeer):
	case to > from && peer == client:
		w.b = append(w.b, w.b[from:to]...)
	default:
		w.b = append(appendAddress(append(w.b, '"'), peer, w.view.form, w.key), '"')
	}
}

func (w *line) numbers(x *exchange.Exchange, o *Outcome) {
	w.number(memberStatus, int64(o.Status))
	w.number(memberBytesIn, o.BytesIn)
	w.number(memberBytesOut, o.BytesOut)
	t := &x.Timings
	w.number(memberDuration, since(t.Received, t.Done))
	if !t.UpstreamStarted.IsZero() {
		w.number(memberUpstream, since(t.UpstreamStarted, t.UpstreamHead))
	}
}

func since(from, to time.Time) int64 {
	if from.IsZero() || to.IsZero() {
		return 0
	}
	return to.Sub(from).Microseconds()
}

// binding appends which binding it was: kind and name of its owner, and its own name.
func (w *line) binding(by *exchange.PolicyRef) {
	b := append(escape(append(w.b, '"'), by.OwnerKind), '/')
	b = append(escape(b, by.OwnerName), '/')
	w.b = append(escape(b, by.Name), '"')
}

// reports lists what bindings in report mode would have refused.
func (w *line) reports(list []exchange.Report) {
	if len(list) == 0 || !w.begin(memberWouldRefuse) {
		return
	}
	for i, r := range list {
		if i == 0 {
			w.b = append(w.b, '[')
		} else {
			w.b = append(w.b, ',')
		}
		w.b = append(w.b, `{"policy":`...)
		w.b = quote(w.b, r.By.Type)
		w.b = append(w.b, `,"binding":`...)
		w.binding(r.By)
		w.b = append(w.b, `,"status":`...)
		w.b = append(strconv.AppendInt(w.b, int64(r.Refusal.Status()), 10), '}')
	}
	w.b = append(w.b, ']')
}

// headers appends the fields that the settings name. Without a route nobody knows which of them carry credentials, so
// that none is shown.
func (w *line) headers(x *exchange.Exchange, o *Outcome) {
	if len(w.view.fields) == 0 || o.Route == nil || o.Route.Chain == nil {
		return
	}
	began := false
	for i := range w.view.fields {
		f := &w.view.fields[i]
		if !x.Request.Header.Has(f.name) || names(o.Route.Chain.CredentialFields(), f.name) ||
			strings.EqualFold(x.Minted, f.name) {
			continue
		}
		switch {
		case began:
			w.b = append(w.b, ',')
		case !w.begin(memberHeaders):
			return
		default:
			w.b, began = append(w.b, '{'), true
		}
		w.b = append(w.b, f.key...)
		w.field(x.Request.Header, f.name)
	}
	if began {
		w.b = append(w.b, '}')
	}
}

// names says whether a field is in a list of names.
func names(list []string, field string) bool {
	for _, n := range list {
		if exchange.EqualFold([]byte(field), n) {
			return true
		}
	}
	return false
}

// field appends the values of all fields of a name as one string, as RFC 9110 section 5.3 combines them.
func (w *line) field(h exchange.Headers, name string) {
	b, left := append(w.b, '"'), maxText
	for i := h.Index(name, 0); i >= 0 && left > 0; i = h.Index(name, i+1) {
		v := h[i].Value
		if left < maxText {
			b = append(b, ", "...)
		}
		v = v[:min(len(v), left)]
		b = escape(b, v)
		left -= len(v) + 1
	}
	w.b = append(b, '"')
}

// Protocol names a version of HTTP; empty for what is none.
func Protocol(p int) string {
	switch p {
	case 10:
		return "HTTP/1.0"
	case 11:
		return "HTTP/1.1"
	case 20:
		return "HTTP/2"
	}
	return ""
}

// clock formats times, a second only once.
type clock struct {
	second int64
	text   []byte // of that second, up to its fraction
}

func (c *clock) append(b []byte, t time.Time) []byte {
	if s := t.Unix(); s != c.second || c.text == nil {
		c.second, c.text = s, t.UTC().AppendFormat(c.text[:0], "2006-01-02T15:04:05.")
	}
	ms := t.Nanosecond() / 1e6
	b = append(b, c.text...)
	return append(b, byte('0'+ms/100), byte('0'+ms/10%10), byte('0'+ms%10), 'Z')
}
