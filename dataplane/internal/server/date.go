package server

import (
	"net/http"
	"sync/atomic"
	"time"
)

// dateClock is the value of Date, made once a second.
type dateClock struct {
	current atomic.Pointer[dateText]
}

type dateText struct {
	second int64
	text   []byte
}

// now returns the time in the form of RFC 9110 section 5.6.7.
func (d *dateClock) now(t time.Time) []byte {
	second := t.Unix()
	if c := d.current.Load(); c != nil && c.second == second {
		return c.text
	}
	c := &dateText{second: second, text: t.UTC().AppendFormat(nil, http.TimeFormat)}
	d.current.Store(c)
	return c.text
}
