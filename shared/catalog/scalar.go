package catalog

import (
	"fmt"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	optionsv1 "keyward.dev/proto/gen/keyward/options/v1"
)

// scalar reads a single value of the field into its normal form. The reason is empty if it is good.
func (f *field) scalar(n *node) (protoreflect.Value, string) {
	if n.kind == kindList || n.kind == kindMap || n.kind == kindNull {
		return protoreflect.Value{}, f.expected(n)
	}
	switch f.what {
	case isString:
		return f.str(n)
	case isBool:
		return f.boolean(n)
	case isInt:
		return f.integer(n)
	case isEnum:
		return f.word(n)
	case isDuration:
		if !n.isString() {
			return protoreflect.Value{}, f.expected(n)
		}
		d, ok := parseDuration(n.text)
		if !ok {
			return protoreflect.Value{}, fmt.Sprintf("%s is not a duration; write it like 250ms, 60s, 5m or 1h30m", quote(n.text))
		}
		return protoreflect.ValueOfMessage(durationpb.New(d).ProtoReflect()), ""
	case isTimestamp:
		if !n.isString() {
			return protoreflect.Value{}, f.expected(n)
		}
		t, err := time.Parse(time.RFC3339Nano, n.text)
		if err != nil || !timestamppb.New(t).IsValid() {
			return protoreflect.Value{}, fmt.Sprintf("%s is not a time of RFC 3339 such as 2026-01-31T12:00:00Z", quote(n.text))
		}
		return protoreflect.ValueOfMessage(timestamppb.New(t).ProtoReflect()), ""
	default:
		return protoreflect.Value{}, f.expected(n)
	}
}

func (f *field) expected(n *node) string {
	return fmt.Sprintf("expected %s, found %s", f.what.expects(f.format), n.kind)
}

func (f *field) str(n *node) (protoreflect.Value, string) {
	// Versions look like numbers to YAML; their text is what was meant.
	version := f.format == optionsv1.Format_FORMAT_TLS_VERSION && (n.kind == kindFloat || n.kind == kindInt)
	if !n.isString() && !version {
		// A plain 123, true or 1e3 may or may not have been meant as text; guessing would lose what was written.
		return protoreflect.Value{}, fmt.Sprintf("expected a string, found %s; put it in quotes", n.kind)
	}
	text, reason := normalForm(f.format, n.text)
	return protoreflect.ValueOfString(text), reason
}

func (f *field) boolean(n *node) (protoreflect.Value, string) {
	if n.kind != kindBool || n.text != "true" && n.text != "false" {
		hint := ""
		if n.isString() {
			hint = "; write true or false, without quotes"
		}
		return protoreflect.Value{}, f.expected(n) + hint
	}
	return protoreflect.ValueOfBool(n.text == "true"), ""
}

func (f *field) integer(n *node) (protoreflect.Value, string) {
	if f.format == optionsv1.Format_FORMAT_PERCENT {
		return f.percent(n)
	}
	if f.format == optionsv1.Format_FORMAT_SIZE && n.isString() {
		size, ok := parseSize(n.text)
		if !ok {
			return protoreflect.Value{}, fmt.Sprintf("%s is not a size; write it like 64KiB, 10MiB or 1048576", quote(n.text))
		}
		return f.sized(size)
	}
	if n.kind != kindInt {
		hint := ""
		if n.isString() {
			hint = "; write it without quotes"
		}
		return protoreflect.Value{}, f.expected(n) + hint
	}
	digits := strings.TrimPrefix(n.text, "-")
	if strings.Trim(digits, "0123456789") != "" || len(digits) > 1 && digits[0] == '0' {
		return protoreflect.Value{}, "write it as a plain decimal number"
	}
	return f.sized(n.text)
}

// percent parses a share into millionths. A bare number is refused: it could be meant in percent or as a fraction.
func (f *field) percent(n *node) (protoreflect.Value, string) {
	if !n.isString() {
		return protoreflect.Value{}, f.expected(n)
	}
	millionths, ok := parsePercent(n.text)
	if !ok {
		return protoreflect.Value{}, fmt.Sprintf("%s is not a percentage from 0%% to 100%%, down to 0.0001%%", quote(n.text))
	}
	return protoreflect.ValueOfUint32(millionths), ""
}

// sized parses decimal digits within the range of the field's type.
func (f *field) sized(digits string) (protoreflect.Value, string) {
	fd := f.fd
	if fd.IsMap() {
		fd = fd.MapValue()
	}
	var err error
	var v protoreflect.Value
	var i int64
	var u uint64
	lo, hi := int64(0), uint64(math.MaxUint64)
	switch fd.Kind() {
	case protoreflect.Int32Kind:
		lo, hi = math.MinInt32, math.MaxInt32
		i, err = strconv.ParseInt(digits, 10, 32)
		v = protoreflect.ValueOfInt32(int32(i))
	case protoreflect.Int64Kind:
		lo, hi = math.MinInt64, math.MaxInt64
		i, err = strconv.ParseInt(digits, 10, 64)
		v = protoreflect.ValueOfInt64(i)
	case protoreflect.Uint32Kind:
		hi = math.MaxUint32
		u, err = strconv.ParseUint(digits, 10, 32)
		v = protoreflect.ValueOfUint32(uint32(u))
	default:
		u, err = strconv.ParseUint(digits, 10, 64)
		v = protoreflect.ValueOfUint64(u)
	}
	if err != nil {
		return protoreflect.Value{}, fmt.Sprintf("must be between %d and %d", lo, hi)
	}
	return v, ""
}

func (f *field) word(n *node) (protoreflect.Value, string) {
	if !n.isString() {
		return protoreflect.Value{}, "expected one of: " + strings.Join(f.enum.words, ", ")
	}
	number, ok := f.enum.numbers[n.text]
	if !ok {
		return protoreflect.Value{}, fmt.Sprintf("%s is not one of: %s%s", quote(n.text), strings.Join(f.enum.words, ", "), suggest(n.text, f.enum.words))
	}
	return protoreflect.ValueOfEnum(number), ""
}

var (
	durationForm = regexp.MustCompile(`^(?:[0-9]{1,9}(?:\.[0-9]{1,9})?(?:ns|us|µs|ms|s|m|h))+$`)
	sizeForm     = regexp.MustCompile(`^([0-9]{1,20})(B|KiB|MiB|GiB|TiB)?$`)
	percentForm  = regexp.MustCompile(`^([0-9]{1,3})(?:\.([0-9]{1,4}))?%$`)
)

func parseDuration(text string) (time.Duration, bool) {
	if text == "0" {
		return 0, true
	}
	if !durationForm.MatchString(text) {
		return 0, false
	}
	d, err := time.ParseDuration(text)
	return d, err == nil
}

// formatDuration writes a duration in its largest whole unit: 90s stays 90s, 300s is 5m.
func formatDuration(d time.Duration) string {
	units := []struct {
		unit time.Duration
		name string
	}{{time.Hour, "h"}, {time.Minute, "m"}, {time.Second, "s"}, {time.Millisecond, "ms"}, {time.Microsecond, "us"}}
	if d == 0 {
		return "0s"
	}
	for _, u := range units {
		if d%u.unit == 0 {
			return strconv.FormatInt(int64(d/u.unit), 10) + u.name
		}
	}
	return strconv.FormatInt(int64(d), 10) + "ns"
}

func sizeUnits() []string { return []string{"B", "KiB", "MiB", "GiB", "TiB"} }

// parseSize returns the number of bytes as decimal digits.
func parseSize(text string) (string, bool) {
	m := sizeForm.FindStringSubmatch(text)
	if m == nil {
		return "", false
	}
	n, err := strconv.ParseUint(m[1], 10, 64)
	if err != nil {
		return "", false
	}
	shift := 10 * max(0, slices.Index(sizeUnits(), m[2]))
	if n > math.MaxUint64>>shift {
		return "", false
	}
	return strconv.FormatUint(n<<shift, 10), true
}

// formatSize writes a number of bytes in its largest whole unit.
func formatSize(n uint64) string {
	units := sizeUnits()
	i := 0
	for n > 0 && n%1024 == 0 && i < len(units)-1 {
		n, i = n/1024, i+1
	}
	if i == 0 {
		return strconv.FormatUint(n, 10)
	}
	return strconv.FormatUint(n, 10) + units[i]
}

// One percent in millionths, and how many digits behind the point of a percentage that leaves.
const (
	onePercent    = 10_000
	percentDigits = 4
)

func parsePercent(text string) (millionths uint32, ok bool) {
	m := percentForm.FindStringSubmatch(text)
	if m == nil {
		return 0, false
	}
	n, err := strconv.ParseUint(m[1]+m[2]+strings.Repeat("0", percentDigits-len(m[2])), 10, 32)
	return uint32(n), err == nil && n <= 100*onePercent
}

func formatPercent(millionths uint32) string {
	text := strconv.FormatUint(uint64(millionths/onePercent), 10)
	if rest := millionths % onePercent; rest > 0 {
		text += "." + strings.TrimRight(fmt.Sprintf("%0*d", percentDigits, rest), "0")
	}
	return text + "%"
}

// quote repeats a value in a reason, shortened. It is never called for secrets.
func quote(text string) string {
	const most = 64
	if len(text) > most {
		text = strings.ToValidUTF8(text[:most], "") + "…"
	}
	return strconv.Quote(text)
}

// suggest returns `; did you mean "x"?` if a known word is near, else nothing.
func suggest(word string, known []string) string {
	plain := func(s string) string { return strings.ToLower(strings.NewReplacer("_", "", "-", "").Replace(s)) }
	best, least := "", 3
	for _, k := range known {
		d := distance(plain(word), plain(k))
		if d < least && d < len(k) {
			best, least = k, d
		}
	}
	if best == "" {
		return ""
	}
	return fmt.Sprintf("; did you mean %q?", best)
}

// distance is the number of edits between two words (Levenshtein), 3 or more as soon as it is clear.
func distance(a, b string) int {
	if diff := len(a) - len(b); diff > 2 || diff < -2 {
		return 3
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
