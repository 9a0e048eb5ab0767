package trace_test

import (
	"encoding/hex"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"keyward.dev/dataplane/internal/exchange"
	"keyward.dev/dataplane/internal/trace"
)

const (
	traceID = "4bf92f3577b34da6a3ce929d0e0e4736"
	parent  = "00-" + traceID + "-00f067aa0ba902b7-01"
)

// request makes an exchange from lines "Name: value".
func request(lines ...string) *exchange.Exchange {
	x := &exchange.Exchange{}
	for _, l := range lines {
		name, value, _ := strings.Cut(l, ": ")
		x.Request.Header.Add(exchange.Field(name, value))
	}
	return x
}

func values(h exchange.Headers, name string) []string {
	var out []string
	for v := range h.Values(name) {
		out = append(out, string(v))
	}
	return out
}

func TestATraceIsContinuedOnlyFromAValidParent(t *testing.T) {
	t.Parallel()
	const span = "-00f067aa0ba902b7-01"
	tests := []struct {
		name  string
		lines []string
		flags string // of the continued trace; empty: a new one is started
	}{
		{"sampled", []string{"traceparent: " + parent}, "01"},
		{"not sampled", []string{"Traceparent: 00-" + traceID + "-00f067aa0ba902b7-00"}, "00"},
		{"random", []string{"TRACEPARENT: 00-" + traceID + "-00f067aa0ba902b7-03"}, "03"},
		{"reserved flags are cleared", []string{"traceparent: 00-" + traceID + "-00f067aa0ba902b7-fd"}, "01"},
		{"a later version", []string{"traceparent: cc-" + traceID + span}, "01"},
		{"a later version with more", []string{"traceparent: cc-" + traceID + span + "-what-will-be"}, "01"},

		{"none", nil, ""},
		{"empty", []string{"traceparent: "}, ""},
		{"two", []string{"traceparent: " + parent, "traceparent: " + parent}, ""},
		{"version ff", []string{"traceparent: ff-" + traceID + span}, ""},
		{"version not hex", []string{"traceparent: 0g-" + traceID + span}, ""},
		{"version 00 with more", []string{"traceparent: " + parent + "-x"}, ""},
		{"a later version with more, not set apart", []string{"traceparent: cc-" + traceID + span + "x"}, ""},
		{"too short", []string{"traceparent: " + parent[:54]}, ""},
		{"upper case", []string{"traceparent: " + strings.ToUpper(parent)}, ""},
		{"no trace", []string{"traceparent: 00-" + strings.Repeat("0", 32) + span}, ""},
		{"no parent", []string{"traceparent: 00-" + traceID + "-0000000000000000-01"}, ""},
		{"trace not hex", []string{"traceparent: 00-" + strings.Repeat("x", 32) + span}, ""},
		{"parent not hex", []string{"traceparent: 00-" + traceID + "-00f067aa0ba902b.-01"}, ""},
		{"flags not hex", []string{"traceparent: 00-" + traceID + "-00f067aa0ba902b7-0."}, ""},
		{"other separators", []string{"traceparent: " + strings.ReplaceAll(parent, "-", "_")}, ""},
		{"space before it", []string{"traceparent:  " + parent}, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			x := request(tt.lines...)
			trace.Propagate(x, false)
			got := values(x.Request.Header, "traceparent")
			if len(got) != 1 || got[0] != string(x.Trace.Parent) || len(got[0]) != len(parent) || got[0][:3] != "00-" {
				t.Fatalf("traceparent is %q, the exchange has %q", got, x.Trace.Parent)
			}
			if id := string(x.Trace.ID()); id != got[0][3:35] || (id == traceID) != (tt.flags != "") || id == strings.Repeat("0", 32) {
				t.Errorf("trace id %q in %q", id, got[0])
			}
			if span := got[0][36:52]; span == "00f067aa0ba902b7" || span == strings.Repeat("0", 16) {
				t.Errorf("parent id %q is not the gateway's own", span)
			}
			if want := max(tt.flags, "00"); got[0][53:] != want {
				t.Errorf("flags %q, want %q", got[0][53:], want)
			}
		})
	}
}

func TestStateGoesWithTheTrace(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("k", 256) + "=" + strings.Repeat("v", 256)
	members := func(n int) string { return strings.TrimSuffix(strings.Repeat("a=1,", n), ",") }
	for _, tt := range []struct {
		name  string
		lines []string
		want  []string
	}{
		{"one", []string{"tracestate: rojo=00f067,congo@x=t61 rcWk"}, []string{"rojo=00f067,congo@x=t61 rcWk"}},
		{"several fields", []string{"tracestate: a=1", "X: y", "Tracestate: ", "tracestate: b=2,\tc=3"}, []string{"a=1,b=2,\tc=3"}},
		{"empty members", []string{"tracestate: ,a=1, ,"}, []string{",a=1, ,"}},
		{"longest", []string{"tracestate: " + long}, []string{long}},
		{"most", []string{"tracestate: " + members(30), "tracestate: " + members(2)}, []string{members(32)}},
		{"0x key", []string{"tracestate: 0x=1"}, []string{"0x=1"}},

		{"empty", []string{"tracestate: "}, nil},
		{"too many", []string{"tracestate: " + members(30), "tracestate: " + members(3)}, nil},
		{"key too long", []string{"tracestate: k" + long}, nil},
		{"value too long", []string{"tracestate: " + long + "v"}, nil},
		{"no key", []string{"tracestate: =1"}, nil},
		{"no value", []string{"tracestate: a=1", "tracestate: b="}, nil},
		{"no equals sign", []string{"tracestate: a"}, nil},
		{"upper case key", []string{"tracestate: A=1"}, nil},
		{"key begins with a sign", []string{"tracestate: @a=1"}, nil},
		{"space in key", []string{"tracestate: a =1"}, nil},
		{"equals sign in value", []string{"tracestate: a=1=2"}, nil},
		{"not printable", []string{"tracestate: a=\x7f"}, nil},
		{"not ASCII", []string{"tracestate: a=ä"}, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			x := request(append([]string{"traceparent: " + parent}, tt.lines...)...)
			trace.Propagate(x, false)
			if diff := cmp.Diff(tt.want, values(x.Request.Header, "tracestate")); diff != "" {
				t.Errorf("tracestate (-want +got):\n%s", diff)
			}
			if string(x.Trace.ID()) != traceID {
				t.Errorf("trace id %q, want %q whatever the state is", x.Trace.ID(), traceID)
			}
			alone := request(tt.lines...)
			trace.Propagate(alone, false)
			if got := values(alone.Request.Header, "tracestate"); got != nil {
				t.Errorf("tracestate %q without a trace to continue", got)
			}
		})
	}
}

func TestRequestIDIsTakenOnlyFromTrustedPeers(t *testing.T) {
	t.Parallel()
	const uuid = "c2d7f0a4-6b1e-4d55-9f5d-0123456789ab"
	field := func(v string) []string { return []string{"x-request-id: " + v} }
	for _, tt := range []struct {
		name    string
		lines   []string
		trusted bool
		want    string // empty: the exchange's own
	}{
		{"trusted", field("abc/123"), true, "abc/123"},
		{"trusted, in our form", field(uuid), true, uuid},
		{"trusted, almost in our form", field(strings.ToUpper(uuid)), true, strings.ToUpper(uuid)},
		{"trusted, the longest", field(strings.Repeat("~", 128)), true, strings.Repeat("~", 128)},
		{"trusted, too long", field(strings.Repeat("a", 129)), true, ""},
		{"trusted, empty", field(""), true, ""},
		{"trusted, with a space", field("a b"), true, ""},
		{"trusted, not ASCII", field("ä"), true, ""},
		{"trusted, with a control character", field("a\x01"), true, ""},
		{"trusted, two", append(field("a"), field("a")...), true, ""},
		{"trusted, none", nil, true, ""},
		{"anybody", field("abc"), false, ""},
		{"anybody, two", append(field("a"), field("b")...), false, ""},
		{"anybody, in our form", field(uuid), false, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			x := request(tt.lines...)
			trace.Propagate(x, tt.trusted)
			want := tt.want
			if want == "" {
				want = x.ID().String()
			}
			if got := values(x.Request.Header, "X-Request-Id"); len(got) != 1 || got[0] != want || string(x.Trace.RequestID) != want {
				t.Errorf("X-Request-Id is %q, the exchange has %q, want %q", got, x.Trace.RequestID, want)
			}
			if own := x.ID().String() == want; own == x.Trace.Foreign {
				t.Errorf("Foreign = %v with id %s and request id %s", x.Trace.Foreign, x.ID(), want)
			}
			x.Response.Header.Add(exchange.Field("X-Request-ID", "the upstream's"))
			trace.Respond(x)
			if got := values(x.Response.Header, "X-Request-Id"); len(got) != 1 || got[0] != want {
				t.Errorf("the response has X-Request-Id %q, want %q", got, want)
			}
		})
	}
}

func TestRespondSaysNothingBeforePropagate(t *testing.T) {
	t.Parallel()
	x := request()
	trace.Respond(x)
	if len(x.Response.Header) != 0 {
		t.Errorf("response has %q", x.Response.Header)
	}
}

func TestPropagateDoesNotAllocate(t *testing.T) {
	x := request()
	fields := request("Host: a", "traceparent: "+parent, "tracestate: a=1", "tracestate: b=2", "X-Request-Id: a", "Accept: */*").Request.Header
	once := func() {
		x.Reset()
		x.Request.Header = append(x.Request.Header, fields...)
		trace.Propagate(x, false)
		trace.Respond(x)
	}
	once()
	if n := testing.AllocsPerRun(100, once); n != 0 {
		t.Errorf("Propagate and Respond allocate %v times", n)
	}
}

// FuzzPropagate asks that what is sent on is always well-formed, belongs to the trace that came if and only if that
// could be read, and is left as it is by the next gateway but for the parent.
func FuzzPropagate(f *testing.F) {
	f.Add(parent, "a=1,b=2", "abc", true)
	f.Add("cc-"+traceID+"-00f067aa0ba902b7-01-x", ",", "", false)
	f.Add("00-"+strings.Repeat("0", 32)+"-00f067aa0ba902b7-01", "a=", "ä", true)
	f.Fuzz(func(t *testing.T, in, state, id string, trusted bool) {
		came, ok := trace.Parse([]byte(in))
		x := request("traceparent: "+in, "tracestate: "+state, "x-request-id: "+id)
		trace.Propagate(x, trusted)
		sent, valid := trace.Parse(x.Request.Header.Get("traceparent"))
		if !valid || ok && (sent.Trace != came.Trace || sent.Flags != came.Flags) || sent.Span == came.Span {
			t.Errorf("%q is sent on as %q", in, x.Trace.Parent)
		}
		if hex.EncodeToString(sent.Trace[:]) != string(x.Trace.ID()) || ok != strings.Contains(in, string(x.Trace.ID())) {
			t.Errorf("trace id %q of %q", x.Trace.ID(), in)
		}
		if got := string(x.Trace.RequestID); got == "" || len(got) > 128 || strings.ContainsFunc(got, func(r rune) bool { return r <= ' ' || r > '~' }) {
			t.Errorf("request id is %q", got)
		}
		next := &exchange.Exchange{}
		next.Request.Header = append(next.Request.Header, x.Request.Header...)
		trace.Propagate(next, true)
		if diff := cmp.Diff(values(x.Request.Header, "tracestate"), values(next.Request.Header, "tracestate")); diff != "" ||
			string(next.Trace.ID()) != string(x.Trace.ID()) || string(next.Trace.RequestID) != string(x.Trace.RequestID) {
			t.Errorf("the next one sends %q\n%s", next.Request.Header, diff)
		}
	})
}

func BenchmarkPropagate(b *testing.B) {
	for _, bb := range []struct {
		name  string
		extra []string
	}{{"new", nil}, {"continued", []string{"traceparent: " + parent, "tracestate: rojo=00f067aa0ba902b7"}}} {
		b.Run(bb.name, func(b *testing.B) {
			x := request()
			fields := request(append([]string{"User-Agent: curl", "Accept: */*", "Accept-Encoding: gzip", "Content-Type: text/plain", "Accept-Language: en"}, bb.extra...)...).Request.Header
			b.ReportAllocs()
			for b.Loop() {
				x.Reset()
				x.Request.Header = append(x.Request.Header, fields...)
				trace.Propagate(x, false)
				trace.Respond(x)
			}
		})
	}
}
