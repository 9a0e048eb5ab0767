package proxybench

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Load is what a loader saw.
type Load struct {
	Requests int64
	Rate     float64 // requests a second
	P50, P99 time.Duration
	// Failed says what was not a 2xx or 3xx answer; empty if all were.
	Failed string
}

var (
	wrkRequests = regexp.MustCompile(`(?m)^\s*(\d+) requests in `)
	wrkRate     = regexp.MustCompile(`(?m)^Requests/sec:\s+([\d.]+)`)
	wrkQuantile = regexp.MustCompile(`(?m)^\s+(50|99)%\s+([\d.]+)(us|ms|s|m|h)\s*$`)
	wrkErrors   = regexp.MustCompile(`(?m)^\s*(Socket errors: .*|Non-2xx or 3xx responses: \d+)\s*$`)
)

// ParseWrk reads what wrk printed; it was run with --latency.
func ParseWrk(output string) (Load, error) {
	var l Load
	var err error
	if l.Requests, err = integer(wrkRequests, output); err != nil {
		return l, fmt.Errorf("wrk: requests: %w", err)
	}
	if l.Rate, err = number(wrkRate, output); err != nil {
		return l, fmt.Errorf("wrk: rate: %w", err)
	}
	for _, m := range wrkQuantile.FindAllStringSubmatch(output, -1) {
		d, err := time.ParseDuration(m[2] + m[3])
		if err != nil {
			return l, fmt.Errorf("wrk: latency: %w", err)
		}
		if m[1] == "50" {
			l.P50 = d
		} else {
			l.P99 = d
		}
	}
	for _, m := range wrkErrors.FindAllStringSubmatch(output, -1) {
		l.Failed = strings.TrimPrefix(l.Failed+"; "+m[1], "; ")
	}
	return l, nil
}

var (
	h2Rate     = regexp.MustCompile(`(?m)^finished in [^,]+, ([\d.]+) req/s`)
	h2Done     = regexp.MustCompile(`(?m)^requests: .* (\d+) succeeded, `)
	h2Failures = regexp.MustCompile(`(?m)^requests: .* succeeded, (\d+ failed, \d+ errored, \d+ timeout)`)
)

// ParseH2load reads what h2load printed. It knows no quantiles: those are in its log, see H2loadQuantiles.
func ParseH2load(output string) (Load, error) {
	var l Load
	var err error
	if l.Rate, err = number(h2Rate, output); err != nil {
		return l, fmt.Errorf("h2load: rate: %w", err)
	}
	if l.Requests, err = integer(h2Done, output); err != nil {
		return l, fmt.Errorf("h2load: requests: %w", err)
	}
	if m := h2Failures.FindStringSubmatch(output); m != nil && m[1] != "0 failed, 0 errored, 0 timeout" {
		l.Failed = m[1]
	}
	return l, nil
}

// H2loadQuantiles reads h2load's log: a line with start, status and duration in microseconds for each request.
func H2loadQuantiles(log io.Reader) (p50, p99 time.Duration, err error) {
	var took []int64
	lines := bufio.NewScanner(log)
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		if len(fields) < 3 {
			continue // it was stopped while it wrote
		}
		us, err := strconv.ParseInt(fields[2], 10, 64)
		if err != nil {
			return 0, 0, fmt.Errorf("h2load: log: %w", err)
		}
		took = append(took, us)
	}
	if err := lines.Err(); err != nil {
		return 0, 0, fmt.Errorf("h2load: log: %w", err)
	}
	if len(took) == 0 {
		return 0, 0, errors.New("h2load: log is empty")
	}
	slices.Sort(took)
	at := func(percent int) time.Duration {
		return time.Duration(took[(len(took)-1)*percent/100]) * time.Microsecond
	}
	return at(50), at(99), nil
}

var stubStatus = regexp.MustCompile(`(?m)^\s*\d+ \d+ (\d+)\s*$`)

// ParseStubStatus reads how many requests nginx has had.
func ParseStubStatus(page string) (int64, error) {
	n, err := integer(stubStatus, page)
	if err != nil {
		return 0, fmt.Errorf("stub_status: %w", err)
	}
	return n, nil
}

// Metric reads the sum of all series of a metric from a page in Prometheus' text format.
func Metric(page, name string) (float64, error) {
	sum, found := 0.0, false
	for line := range strings.Lines(page) {
		rest, ok := strings.CutPrefix(line, name)
		if !ok || (rest[0] != ' ' && rest[0] != '{') {
			continue
		}
		fields := strings.Fields(rest[strings.LastIndexByte(rest, '}')+1:])
		if len(fields) == 0 {
			continue
		}
		v, err := strconv.ParseFloat(fields[0], 64)
		if err != nil {
			return 0, fmt.Errorf("metric %s: %w", name, err)
		}
		sum, found = sum+v, true
	}
	if !found {
		return 0, fmt.Errorf("no metric %s", name)
	}
	return sum, nil
}

var errAbsent = errors.New("not in the output")

func number(in *regexp.Regexp, text string) (float64, error) {
	m := in.FindStringSubmatch(text)
	if m == nil {
		return 0, errAbsent
	}
	return strconv.ParseFloat(m[1], 64)
}

func integer(in *regexp.Regexp, text string) (int64, error) {
	m := in.FindStringSubmatch(text)
	if m == nil {
		return 0, errAbsent
	}
	return strconv.ParseInt(m[1], 10, 64)
}
