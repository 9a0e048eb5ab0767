package certstatus

import (
	"context"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// Fetcher calls addresses; *egress.Fetcher does.
type Fetcher interface {
	Get(ctx context.Context, url string, limit int64) ([]byte, error)
	Post(ctx context.Context, url, contentType string, body []byte, limit int64) ([]byte, error)
}

// subject is something that is fetched for a group.
type subject interface {
	// at says where it is fetched, and kept.
	at() site
	// fetch fetches and checks it.
	fetch(ctx context.Context, by Fetcher, now time.Time) ([]byte, error)
	// replaces reports whether what was fetched is to be kept instead of what is. An error says that it does not count at all.
	replaces(kept, fetched []byte, now time.Time) (bool, error)
	// record is what is kept.
	record(value []byte, failing *timestamppb.Timestamp) proto.Message
	// due is when it is fetched again, given what is kept.
	due(kept []byte, now time.Time) time.Time
}

// site is where something is fetched, and the record in which it is kept.
type site struct {
	kind, name string
	holder     string // the resource that asks for it
	url        string
}
