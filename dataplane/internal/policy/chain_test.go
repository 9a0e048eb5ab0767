package policy_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"keyward.dev/dataplane/internal/exchange"
	"keyward.dev/dataplane/internal/policy"
)

// step is a policy that logs its calls and does what the test says.
type step struct {
	name     string
	log      *[]string
	request  func(x *exchange.Exchange) policy.Verdict
	response func(x *exchange.Exchange)
	body     func(x *exchange.Exchange) policy.Verdict
}

func (s *step) Request(x *exchange.Exchange) policy.Verdict {
	*s.log = append(*s.log, "request "+s.name)
	if s.request == nil {
		return policy.Next
	}
	return s.request(x)
}

func (s *step) Response(x *exchange.Exchange) {
	*s.log = append(*s.log, "response "+s.name)
	if s.response != nil {
		s.response(x)
	}
}

func (s *step) Body(x *exchange.Exchange, _ []byte, _ bool) policy.Verdict {
	*s.log = append(*s.log, "body "+s.name)
	if s.body == nil {
		return policy.Next
	}
	return s.body(x)
}

type recorder struct{ events []string }

func (r *recorder) Reported(_ *exchange.Exchange, by *policy.Identity, f *exchange.Refusal) {
	r.events = append(r.events, "reported "+by.Name+" "+f.Code())
}

func (r *recorder) Panicked(_ *exchange.Exchange, by *policy.Identity, _ any) {
	r.events = append(r.events, "panicked "+by.Name)
}

var refused = exchange.NewRefusal(403, "forbidden", "no")

func refuse(x *exchange.Exchange) policy.Verdict {
	x.Refuse(refused)
	return policy.Stop
}

func link(s *step) policy.Link {
	return policy.Link{Binding: policy.Identity{Type: "step", Name: s.name}, Policy: s}
}

func TestResponsesRunInReverseForWhatRan(t *testing.T) {
	t.Parallel()
	var log []string
	s := func(name string) *step { return &step{name: name, log: &log} }
	b := s("c")
	b.request = refuse
	route := policy.NewRoute([]policy.Link{link(s("a")), link(s("b"))}, nil, nil)
	overlay := policy.NewOverlay([]policy.Link{link(b), link(s("d"))}, nil)
	x := &exchange.Exchange{}
	if v := route.Request(x); v != policy.Next {
		t.Fatalf("route.Request() = %v, want Next", v)
	}
	if v := overlay.Request(x); v != policy.Stop {
		t.Fatalf("overlay.Request() = %v, want Stop", v)
	}
	policy.Unwind(x)
	want := []string{"request a", "request b", "request c", "response c", "response b", "response a"}
	if diff := cmp.Diff(want, log); diff != "" {
		t.Errorf("calls (-want +got):\n%s", diff)
	}
	if x.StoppedBy == nil || x.StoppedBy.Name != "c" || x.Response.Status != 403 {
		t.Errorf("stopped by %v with %d, want c with 403", x.StoppedBy, x.Response.Status)
	}
}

func TestReportModeChangesNothing(t *testing.T) {
	t.Parallel()
	var log []string
	meddler := &step{name: "m", log: &log}
	meddler.request = func(x *exchange.Exchange) policy.Verdict {
		x.Request.Header.Del("A")
		x.Response.Header.Add(exchange.Field("X", "1"))
		x.Principal = &exchange.Principal{}
		return refuse(x)
	}
	l := link(meddler)
	l.Report = true
	after := &step{name: "after", log: &log}
	m := &recorder{}
	c := policy.NewOverlay([]policy.Link{l, link(after)}, m)
	x := &exchange.Exchange{}
	x.Request.Header.Add(exchange.Field("A", "1"))
	if v := c.Request(x); v != policy.Next {
		t.Fatalf("Request() = %v, want Next", v)
	}
	c.Body(x, []byte("x"), true)
	policy.Unwind(x)
	if !x.Request.Header.Has("A") || len(x.Response.Header) != 0 || x.Principal != nil || x.Refusal() != nil || x.Response.Status != 0 {
		t.Errorf("the exchange was changed: %+v", x)
	}
	if diff := cmp.Diff([]string{"request m", "request after", "body after", "response after"}, log); diff != "" {
		t.Errorf("calls (-want +got):\n%s", diff)
	}
	if len(x.Reports) != 1 || x.Reports[0].By.Name != "m" || x.Reports[0].Refusal != refused {
		t.Errorf("Reports = %+v, want m's refusal", x.Reports)
	}
	if diff := cmp.Diff([]string{"reported m forbidden"}, m.events); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
}

func TestReportModeReportsABodyOnce(t *testing.T) {
	t.Parallel()
	var log []string
	s := &step{name: "b", log: &log, body: refuse}
	l := link(s)
	l.Report = true
	c := policy.NewOverlay([]policy.Link{l}, nil)
	x := &exchange.Exchange{}
	c.Request(x)
	for range 3 {
		if v := c.Body(x, []byte("x"), false); v != policy.Next {
			t.Fatalf("Body() = %v, want Next", v)
		}
	}
	if len(x.Reports) != 1 {
		t.Errorf("%d reports, want 1", len(x.Reports))
	}
}

func TestAPanicIsA500AndCounted(t *testing.T) {
	t.Parallel()
	boom := func(*exchange.Exchange) policy.Verdict { panic("boom") }
	tests := []struct {
		name   string
		step   step
		report bool
	}{
		{"in Request", step{request: boom}, false},
		{"in Request of a report", step{request: boom}, true},
		{"in Body", step{body: boom}, false},
		{"in Response", step{response: func(*exchange.Exchange) { panic("boom") }}, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var log []string
			tt.step.name, tt.step.log = "p", &log
			m := &recorder{}
			first := &step{name: "first", log: &log}
			l := link(&tt.step)
			l.Report = tt.report
			c := policy.NewOverlay([]policy.Link{link(first), l}, m)
			x := &exchange.Exchange{}
			v := c.Request(x)
			if v == policy.Next {
				v = c.Body(x, nil, true)
			}
			if v == policy.Next && tt.step.response == nil {
				t.Error("the exchange went on")
			}
			policy.Unwind(x)
			if x.Response.Status != 500 || !strings.Contains(string(x.Response.Body), `"code":"internal"`) {
				t.Errorf("answer %d %s, want a 500 problem", x.Response.Status, x.Response.Body)
			}
			if diff := cmp.Diff([]string{"panicked p"}, m.events); diff != "" {
				t.Errorf("events (-want +got):\n%s", diff)
			}
			if log[len(log)-1] != "response first" {
				t.Errorf("calls = %q, want the other response policies to run", log)
			}
		})
	}
}

func TestStopWithoutARefusalIsA500(t *testing.T) {
	t.Parallel()
	var log []string
	s := &step{name: "s", log: &log, request: func(*exchange.Exchange) policy.Verdict { return policy.Stop }}
	x := &exchange.Exchange{}
	if v := policy.NewOverlay([]policy.Link{link(s)}, nil).Request(x); v != policy.Stop || x.Response.Status != 500 {
		t.Errorf("Request() = %v with %d, want Stop with 500", v, x.Response.Status)
	}
}

func TestBodyStopsTheExchange(t *testing.T) {
	t.Parallel()
	var log []string
	c := policy.NewRoute([]policy.Link{link(&step{name: "s", log: &log, body: refuse})}, nil, nil)
	x := &exchange.Exchange{}
	c.Request(x)
	if v := c.Body(x, []byte("x"), false); v != policy.Stop || x.Response.Status != 403 || x.StoppedBy.Name != "s" {
		t.Errorf("Body() = %v, answer %d, want Stop and 403", v, x.Response.Status)
	}
}

func TestSlotsAreEachLinksOwn(t *testing.T) {
	t.Parallel()
	var log []string
	count := func(x *exchange.Exchange) policy.Verdict {
		x.Slot().N++
		return policy.Next
	}
	var seen []int64
	links := func() []policy.Link {
		var out []policy.Link
		for range 12 {
			out = append(out, link(&step{log: &log, request: count, response: func(x *exchange.Exchange) { seen = append(seen, x.Slot().N) }}))
		}
		return out
	}
	route, overlay := policy.NewRoute(links(), nil, nil), policy.NewOverlay(links(), nil)
	x := &exchange.Exchange{}
	for range 2 {
		x.Reset()
		seen = nil
		route.Request(x)
		overlay.Request(x)
		policy.Unwind(x)
		for _, n := range seen {
			if n != 1 {
				t.Fatalf("slots = %v, want 1 everywhere", seen)
			}
		}
	}
}
