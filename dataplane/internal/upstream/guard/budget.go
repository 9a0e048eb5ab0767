package guard

import "time"

const (
	budgetWindow = int64(10 * time.Second)
	// floor is how many retries there may always be within budgetWindow: services with few requests need some.
	floor = 30
)

// Budget bounds the retries to a service to a share of its requests. The zero value is ready.
type Budget struct {
	window window
}

// Request counts a request.
func (b *Budget) Request(now int64) { b.window.add(now, budgetWindow, 1, 0) }

// Retry says whether there may be one retry more with so many for each hundred requests, and counts it.
func (b *Budget) Retry(now int64, percent int) bool {
	requests, retries := b.window.sum(now, budgetWindow)
	if retries >= floor && (retries+1)*100 > requests*int64(percent) {
		return false
	}
	b.window.add(now, budgetWindow, 0, 1)
	return true
}
