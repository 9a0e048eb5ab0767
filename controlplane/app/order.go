package app

import (
	"context"
	"time"
)

const (
	// orderEvery is how often it is looked which gateways are busy; they report every 10 s.
	orderEvery = 5 * time.Second
	// busiest is how many gateways of a group get its changes first.
	busiest = 32
)

// runOrder lets changes reach the gateways first that have most of the traffic.
func (p *plane) runOrder(ctx context.Context) error {
	ticker := time.NewTicker(orderEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
		for group, ids := range p.registry.Busiest(busiest) {
			p.hub.First(group, ids)
		}
	}
}
