package accesslog_test

import (
	"io"
	"path/filepath"
	goruntime "runtime"
	"testing"

	"keyward.dev/dataplane/internal/accesslog"
	"keyward.dev/dataplane/internal/runtime"
)

func BenchmarkObserve(b *testing.B) {
	o := accesslog.Outcome{Status: 200, BytesOut: 1024}
	for _, bb := range []struct {
		name     string
		settings *runtime.AccessLog
	}{
		{"plain", &runtime.AccessLog{Sample: 1_000_000}},
		{"hashed", &runtime.AccessLog{Sample: 1_000_000, ClientIP: runtime.ClientIPHashed}},
		{"redacted", &runtime.AccessLog{Sample: 1_000_000, Redact: map[string]struct{}{"path": {}, "user_agent": {}}}},
		{"unsampled", &runtime.AccessLog{}},
	} {
		o.Settings = bb.settings
		b.Run(bb.name, func(b *testing.B) { observe(b, io.Discard, o) })
	}
	b.Run("file", func(b *testing.B) {
		f, err := accesslog.OpenFile(filepath.Join(b.TempDir(), "log"))
		if err != nil {
			b.Fatal(err)
		}
		defer f.Close()
		observe(b, f, accesslog.Outcome{Status: 200, BytesOut: 1024})
	})
}

// observe writes lines with the writer beside it, so that its work counts too.
func observe(b *testing.B, out io.Writer, o accesslog.Outcome) {
	l := accesslog.New(out, quiet())
	done := make(chan error, 1)
	go func() { done <- l.Run(b.Context()) }()
	x := request()
	b.ReportAllocs()
	for b.Loop() {
		l.Observe(x, o)
	}
	b.ReportMetric(float64(l.Dropped())/float64(b.N), "drops/op")
}

func BenchmarkObserveParallel(b *testing.B) {
	l := accesslog.New(io.Discard, quiet())
	done := make(chan error, 1)
	go func() { done <- l.Run(b.Context()) }()
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		x := request()
		for i := 0; pb.Next(); i++ {
			l.Observe(x, accesslog.Outcome{Status: 200, BytesOut: 1024})
			if i%16 == 0 {
				goruntime.Gosched() // exchanges wait for the network now and then, and let the writer run
			}
		}
	})
	b.ReportMetric(float64(l.Dropped())/float64(b.N), "drops/op")
}
