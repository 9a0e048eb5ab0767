package conformance_test

import (
	"fmt"
	"slices"
	"strings"

	"keyward.dev/e2e/harness"
)

// schemeIgnored is refused, or a plain request: what a scheme says must not get into a message.
func schemeIgnored(o *frameOutcome) error {
	if refusedFrames(o) == nil {
		return nil
	}
	return passesFrames(`GET /x ""`, withheld("X-A"))(o)
}

// authorityWins is refused, or a request for the authority (RFC 9113, 8.3.1).
func authorityWins(o *frameOutcome) error {
	if refusedFrames(o) == nil {
		return nil
	}
	return passesFrames(`GET /x ""`, forwarded("Host", "h.test"))(o)
}

// refusedOrNot501 is refused, also with 501.
func refusedOrNot501(o *frameOutcome) error {
	if o.Status == 501 {
		return (&outcome{seen: o.seen}).nothingWhole()
	}
	return refusedFrames(o)
}

// withoutFrameTrailer is refused, or passed on without the trailer field.
func withoutFrameTrailer(name string) func(o *frameOutcome) error {
	return func(o *frameOutcome) error {
		for _, s := range o.seen {
			if slices.ContainsFunc(s.Trailer, func(f harness.Field) bool { return strings.EqualFold(f.Name, name) }) {
				return fmt.Errorf("the upstream got the trailer %s", name)
			}
		}
		if refusedFrames(o) == nil {
			return nil
		}
		return passesFrames(`POST /x "hello"`)(o)
	}
}

func hasField(name, value string) func(o *frameOutcome) error {
	return func(o *frameOutcome) error {
		if h2Whole(o) != nil || !slices.Contains(o.Fields, harness.Field{Name: name, Value: value}) {
			return fmt.Errorf("no whole answer with %s: %s", name, value)
		}
		return nil
	}
}

func lacksFields(names ...string) func(o *frameOutcome) error {
	return func(o *frameOutcome) error {
		for _, f := range o.Fields {
			if slices.Contains(names, f.Name) {
				return fmt.Errorf("the client got %s: %s", f.Name, f.Value)
			}
		}
		return h2Whole(o)
	}
}

func h2Whole(o *frameOutcome) error {
	if o.Status != 200 || o.Body != "ok" || !o.Ended {
		return fmt.Errorf("answered %d %q, ended %v, want a whole 200 with ok", o.Status, o.Body, o.Ended)
	}
	return nil
}

func h2Trailer(o *frameOutcome) error {
	if !slices.Contains(o.Trailer, harness.Field{Name: "x-t", Value: "v"}) {
		return fmt.Errorf("the trailer is %q", o.Trailer)
	}
	return h2Whole(o)
}

func h2Interim(o *frameOutcome) error {
	if !slices.Equal(o.Interim, []int{103}) {
		return fmt.Errorf("interim answers %v, want 103", o.Interim)
	}
	return h2Whole(o)
}

func h2BadGateway(o *frameOutcome) error {
	if o.Status != 502 || !o.Ended {
		return fmt.Errorf("answered %d, want 502", o.Status)
	}
	return nil
}

// h2Broken is a 502, or a stream that is reset: no end that could be taken for the message's.
func h2Broken(o *frameOutcome) error {
	if h2BadGateway(o) == nil || o.Reset && !o.Ended {
		return nil
	}
	return fmt.Errorf("answered %d %q, ended %v, reset %v", o.Status, o.Body, o.Ended, o.Reset)
}
