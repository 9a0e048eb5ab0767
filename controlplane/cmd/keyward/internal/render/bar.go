package render

import (
	"fmt"
	"strings"
)

// Bar draws how far something has got, as in [#####-----] 50%.
func Bar(done, all int64, width int) string {
	part := 1.0
	if all > 0 {
		part = min(max(float64(done)/float64(all), 0), 1)
	}
	full := int(part * float64(width))
	return fmt.Sprintf("[%s%s] %3d%%", strings.Repeat("#", full), strings.Repeat("-", width-full), int(part*100))
}
