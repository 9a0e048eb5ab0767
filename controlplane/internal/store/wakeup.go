package store

import (
	"context"
	"maps"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
)

// Topics are the kinds of state that have no revision.
const (
	TopicGroups      = "groups"
	TopicKeyrings    = "keyrings"
	TopicAdminTokens = "admin-tokens"
	TopicJoinTokens  = "join-tokens"
	TopicGateways    = "gateways"
	TopicAuthorities = "authorities"
	TopicRollouts    = "rollouts"
)

// Hint says that something has probably changed: the set of a group, or the state of a topic. With both empty anything
// may have. Hints may be lost; whoever acts on them also polls Heads and Wakeups.
type Hint struct {
	Group string
	Topic string
}

const (
	channel       = "keyward"
	selectWakeups = `select topic, counter from wakeups`
	bumpWakeup    = `update wakeups set counter = counter + 1 where topic = $1`
	sendNotify    = `select pg_notify($1, $2)`
)

// Wakeups answers the counter of each topic. A counter that differs from the one seen before says that the topic's state
// has changed.
func (s *Store) Wakeups(ctx context.Context) (map[string]int64, error) {
	rows, err := s.pool.Query(ctx, selectWakeups)
	if err != nil {
		return nil, mapped("read wakeups", err)
	}
	counters := map[string]int64{}
	var topic string
	var counter int64
	_, err = pgx.ForEachRow(rows, []any{&topic, &counter}, func() error {
		counters[topic] = counter
		return nil
	})
	return counters, mapped("read wakeups", err)
}

// Wake moves the counter of a topic when the transaction commits, and tells the other replicas.
func (t *GroupTx) Wake(topic string) { t.wakes[topic] = true }

// flushWakes comes last and goes by name: transactions of different groups lock the same counters, and must do it briefly
// and in the same order.
func (t *GroupTx) flushWakes(ctx context.Context) error {
	for _, topic := range slices.Sorted(maps.Keys(t.wakes)) {
		if err := t.tx.later(ctx, statement{bumpWakeup, []any{topic}, failing("move wakeup")}); err != nil {
			return err
		}
		if err := t.tx.later(ctx, notification(Hint{Topic: topic})); err != nil {
			return err
		}
	}
	return nil
}

func notify(ctx context.Context, q querier, h Hint) error {
	_, err := q.Exec(ctx, sendNotify, channel, h.payload())
	return mapped("notify", err)
}

// notification is notify for a statement that may wait.
func notification(h Hint) statement {
	return statement{sendNotify, []any{channel, h.payload()}, failing("notify")}
}

func (h Hint) payload() string {
	if h.Group != "" {
		return "group:" + h.Group
	}
	return "topic:" + h.Topic
}

// parseHint takes what it does not know for "anything": another version may be talking.
func parseHint(payload string) Hint {
	if group, ok := strings.CutPrefix(payload, "group:"); ok {
		return Hint{Group: group}
	}
	if topic, ok := strings.CutPrefix(payload, "topic:"); ok {
		return Hint{Topic: topic}
	}
	return Hint{}
}
