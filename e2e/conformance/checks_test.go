package conformance_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"keyward.dev/e2e/harness"
)

// get is a GET of /x with field lines; post a POST with a body.
func get(fields string) string { return head("GET /x HTTP/1.1", fields) }

func post(fields, body string) string { return head("POST /x HTTP/1.1", fields) + body }

func head(line, fields string) string { return line + "\r\nHost: a.test\r\n" + fields + "\r\n" }

// smuggled stands where a reader that reads differently would find a second request.
const smuggled = "GET /smuggled HTTP/1.1\r\nHost: a.test\r\n\r\n"

// and is all of the checks.
func and(checks ...check) check {
	return func(o *outcome) error {
		var errs []error
		for _, c := range checks {
			errs = append(errs, c(o))
		}
		return errors.Join(errs...)
	}
}

// refused is one answer with one of the statuses (400 without any) that announces the end of the connection, which ends;
// and nothing that the upstream could take for a request.
func refused(statuses ...int) check {
	if len(statuses) == 0 {
		statuses = []int{400}
	}
	return func(o *outcome) error {
		if err := o.refusal(statuses); err != nil {
			return err
		}
		return o.nothingWhole()
	}
}

func (o *outcome) refusal(statuses []int) error {
	switch {
	case o.lossy && len(o.answers) == 0 && o.closed:
		return nil
	case len(o.answers) != 1:
		return fmt.Errorf("%d answers, want one refusal", len(o.answers))
	case !slices.Contains(statuses, o.answers[0].Status()):
		return fmt.Errorf("answered %q, want %v", o.answers[0].Line, statuses)
	case o.broken != nil:
		return fmt.Errorf("after the refusal: %w", o.broken)
	case !o.answers[0].Closes():
		return errors.New("the refusal does not announce the end of the connection")
	case !o.closed:
		return errors.New("the connection goes on")
	}
	return nil
}

// nothingWhole holds that the upstream got nothing but what was cut off.
func (o *outcome) nothingWhole() error {
	for _, s := range o.seen {
		if !s.Cut() {
			return fmt.Errorf("the upstream got %v, error %v", s, s.Err) //nolint:errorlint // often there is none
		}
	}
	return nil
}

// passes is an answer 200 to every request, each of which reached the upstream like this: method, target, quoted body.
func passes(seen ...string) check {
	return and(reaches(seen...), func(o *outcome) error {
		if len(o.answers) != len(seen) || o.broken != nil {
			return fmt.Errorf("%d answers%s, want %d", len(o.answers), o.ending(), len(seen))
		}
		for i, a := range o.answers {
			if a.Status() != 200 {
				return fmt.Errorf("answer %d is %q", i+1, a.Line)
			}
		}
		return nil
	})
}

// reaches is what the upstream got, well-formed and whole.
func reaches(seen ...string) check {
	return func(o *outcome) error {
		got := make([]string, 0, len(o.seen))
		for _, s := range o.seen {
			switch {
			case s.Cut(): // what a trial before this one began
			case s.Err != nil:
				return fmt.Errorf("the upstream got something malformed: %w", s.Err)
			default:
				got = append(got, s.String())
			}
		}
		if !slices.Equal(got, seen) {
			return fmt.Errorf("the upstream got %q, want %q", got, seen)
		}
		return nil
	}
}

// served is passes for the plain GET.
func served() check { return passes(`GET /x ""`) }

// answered is one answer with one of the statuses, on a connection that goes on or is announced to end.
func answered(statuses ...int) check {
	return func(o *outcome) error {
		if len(o.answers) != 1 || o.broken != nil || !slices.Contains(statuses, o.answers[0].Status()) {
			return fmt.Errorf("%d answers%s, want one with %v", len(o.answers), o.ending(), statuses)
		}
		return nil
	}
}

// goesOn is a client connection that takes the next request.
func goesOn(o *outcome) error {
	if o.closed {
		return errors.New("the connection has ended")
	}
	return nil
}

// ends is a client connection that was announced to end, and did.
func ends(o *outcome) error {
	if n := len(o.answers); !o.closed || !o.lossy && (n == 0 || !o.answers[n-1].Closes()) {
		return errors.New("the connection was not announced to end, or goes on")
	}
	return nil
}

// forwarded is a field of the first request as the upstream got it: these values and no others, in this order.
func forwarded(name string, values ...string) check {
	return func(o *outcome) error {
		if len(o.seen) == 0 {
			return errors.New("nothing reached the upstream")
		}
		if got := o.seen[0].Values(name); !slices.Equal(got, values) {
			return fmt.Errorf("the upstream got %s %q, want %q", name, got, values)
		}
		return nil
	}
}

// withheld are fields that the upstream must not get.
func withheld(names ...string) check {
	return func(o *outcome) error {
		for _, s := range o.seen {
			for _, name := range names {
				if s.Has(name) {
					return fmt.Errorf("the upstream got %s %q", name, s.Values(name))
				}
			}
		}
		return nil
	}
}

// relayed is a field of the last answer: these values and no others, in this order.
func relayed(name string, values ...string) check {
	return func(o *outcome) error {
		if len(o.answers) == 0 {
			return errors.New("no answer")
		}
		if got := o.answers[len(o.answers)-1].Values(name); !slices.Equal(got, values) {
			return fmt.Errorf("the client got %s %q, want %q", name, got, values)
		}
		return nil
	}
}

// line is the status and body of the last answer, which is whole.
func line(status int, body string) check {
	return func(o *outcome) error {
		if n := len(o.answers); n == 0 || o.broken != nil || o.answers[n-1].Status() != status || o.answers[n-1].Body != body {
			return fmt.Errorf("want a whole %d with body %.200q%s", status, body, o.ending())
		}
		return nil
	}
}

// badGateway is a 502 of the gateway's own instead of an answer that is not to be passed on.
func badGateway(o *outcome) error {
	if len(o.answers) != 1 || o.answers[0].Status() != 502 || o.broken != nil || o.answers[0].Get("Server") == "evil" {
		return fmt.Errorf("%d answers%s, want a 502", len(o.answers), o.ending())
	}
	return nil
}

// cutOff is an answer that the client cannot take for whole: a 502, one that breaks off, or only the end of the connection.
func cutOff(o *outcome) error {
	if badGateway(o) == nil || len(o.answers) == 0 && o.closed {
		return nil
	}
	if len(o.answers) > 1 || o.broken == nil || !o.closed {
		return fmt.Errorf("%d answers%s, want one that breaks off", len(o.answers), o.ending())
	}
	return nil
}

// oneAnswer is that nothing but one answer came, whatever it says.
func oneAnswer(o *outcome) error {
	if len(o.answers) != 1 {
		return fmt.Errorf("%d answers, want one", len(o.answers))
	}
	return nil
}

// times is how often the upstream got the request.
func times(n int) check {
	return func(o *outcome) error {
		if len(o.seen) != n {
			return fmt.Errorf("the upstream got %d requests, want %d", len(o.seen), n)
		}
		return nil
	}
}

// ok is an answer of an upstream, with field lines.
func ok(fields string) string { return "HTTP/1.1 200 OK\r\n" + fields + "Content-Length: 2\r\n\r\nok" }

func many(n int, format string) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, format, i)
	}
	return b.String()
}

// noInterim is that no interim answer came.
func noInterim(o *outcome) error {
	if len(o.interim) > 0 {
		return fmt.Errorf("%d interim answers", len(o.interim))
	}
	return nil
}

// statuses are those of the answers, in their order.
func statuses(want ...int) check {
	return func(o *outcome) error {
		got := make([]int, 0, len(o.answers))
		for _, a := range o.answers {
			got = append(got, a.Status())
		}
		if n := len(want) - 1; o.lossy && o.closed && want[n] >= 400 && slices.Equal(got, want[:n]) {
			return nil // the refusal is lost
		}
		if !slices.Equal(got, want) || o.broken != nil {
			return fmt.Errorf("answered %v%s, want %v", got, o.ending(), want)
		}
		return nil
	}
}

// nothingServed is that nothing reached the upstream whole and no answer says that it did.
func nothingServed(o *outcome) error {
	for _, a := range o.answers {
		if a.Status() < 400 {
			return fmt.Errorf("answered %q", a.Line)
		}
	}
	if !o.closed {
		return errors.New("the connection goes on")
	}
	return o.nothingWhole()
}

// reachesWhole is a request with the body hello that reached the upstream, whatever was answered: the client may be taken
// for gone.
func reachesWhole(o *outcome) error {
	for _, s := range o.seen {
		if s.Err != nil || s.String() != `POST /x "hello"` {
			return fmt.Errorf("the upstream got %v, error %v", s, s.Err) //nolint:errorlint // often there is none
		}
	}
	return nil
}

// trailer is a field of the first request's trailer as the upstream got it.
func trailer(name, value string) check {
	return func(o *outcome) error {
		if len(o.seen) > 0 && slices.Contains(o.seen[0].Trailer, harness.Field{Name: name, Value: value}) {
			return nil
		}
		return fmt.Errorf("the upstream did not get the trailer %s: %s", name, value)
	}
}

// withoutTrailer is a request that was refused, or passed without the field; what follows it is then a request of its own.
func withoutTrailer(name string) check {
	return func(o *outcome) error {
		for _, s := range o.seen {
			if slices.ContainsFunc(s.Trailer, func(f harness.Field) bool { return strings.EqualFold(f.Name, name) }) {
				return fmt.Errorf("the upstream got the trailer %s", name)
			}
		}
		if refused()(o) == nil {
			return nil
		}
		return and(reaches(`POST /x "hello"`, `GET /smuggled ""`), statuses(200, 200))(o)
	}
}

// overwhelmed is a refusal of more than the gateway wishes to read. The client may still be sending when the connection
// ends, so that the answer may be lost.
func overwhelmed(statuses ...int) check {
	return func(o *outcome) error {
		if len(o.answers) > 1 || len(o.answers) == 1 && !slices.Contains(statuses, o.answers[0].Status()) || len(o.answers) == 0 && !o.closed {
			return fmt.Errorf("%d answers%s, want one with %v or the end of the connection", len(o.answers), o.ending(), statuses)
		}
		return o.nothingWhole()
	}
}
