package factory

import (
	"strconv"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"keyward.dev/controlplane/cmd/keyward/internal/failure"
)

// Period understands days beside what durations are usually written in; nil if nothing is given.
func Period(flag, text string) (*durationpb.Duration, error) {
	if text == "" {
		return nil, nil
	}
	if days, ok := strings.CutSuffix(text, "d"); ok {
		if n, err := strconv.ParseUint(days, 10, 16); err == nil {
			return durationpb.New(time.Duration(n) * 24 * time.Hour), nil
		}
	}
	d, err := time.ParseDuration(text)
	if err != nil || d < 0 {
		return nil, failure.Usagef("--%s %s: give days such as 30d, or a duration such as 48h", flag, text)
	}
	return durationpb.New(d), nil
}
