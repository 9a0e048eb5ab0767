package httpwire_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"keyward.dev/dataplane/internal/httpwire"
)

// decode reads a chunked body that arrives in pieces of the given size. It returns the data, what was not used, and the
// first error.
func decode(in []byte, piece int) (data, rest []byte, err error) {
	var c httpwire.Chunks
	var buf []byte
	for !c.Done() {
		d, n, err := c.Next(buf)
		data = append(data, d...)
		buf = buf[n:]
		switch {
		case errors.Is(err, httpwire.ErrIncomplete) && len(in) > 0:
			take := min(piece, len(in))
			buf, in = append(slices.Clip(buf), in[:take]...), in[take:]
		case err != nil:
			return data, nil, err
		}
	}
	return data, append(buf, in...), nil
}

func TestChunks(t *testing.T) {
	t.Parallel()
	tests := []struct{ name, in, want, rest string }{
		{"empty", "0\r\n\r\n", "", ""},
		{"two", "5\r\nhello\r\n6\r\n world\r\n0\r\n\r\nGET", "hello world", "GET"},
		{"hexadecimal", "A\r\n0123456789\r\n00b\r\n01234567890\r\n0\r\n\r\n", "012345678901234567890", ""},
		{"extension", "5;a=b;c=\"d e\"\r\nhello\r\n0;x\r\n\r\n", "hello", ""},
		{"trailer", "1\r\nx\r\n0\r\nX-Sum: 1\r\nY: 2\r\n\r\nrest", "x", "rest"},
		{"data with line ends", "4\r\n\r\n\r\n\r\n0\r\n\r\n", "\r\n\r\n", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			for piece := 1; piece <= len(tt.in); piece++ {
				data, rest, err := decode([]byte(tt.in), piece)
				if err != nil || string(data) != tt.want || string(rest) != tt.rest {
					t.Fatalf("in pieces of %d: %q, rest %q, %v; want %q, %q", piece, data, rest, err, tt.want, tt.rest)
				}
			}
		})
	}
}

func TestChunksRefuse(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, in string
		want     error
	}{
		{"no size", "\r\n", httpwire.ErrChunk},
		{"no hexadecimal size", "g\r\n", httpwire.ErrChunk},
		{"0x", "0x5\r\nhello\r\n", httpwire.ErrChunk},
		{"sign", "+5\r\nhello\r\n", httpwire.ErrChunk},
		{"space before", " 5\r\nhello\r\n", httpwire.ErrChunk},
		{"space after", "5 \r\nhello\r\n", httpwire.ErrChunk},
		{"junk after", "5,\r\nhello\r\n", httpwire.ErrChunk},
		{"size too large", "1000000000000000\r\n", httpwire.ErrChunk},
		{"size overflows", "ffffffffffffffffffff5\r\nhello\r\n", httpwire.ErrChunk},
		{"bare LF after size", "5\nhello\r\n", httpwire.ErrLineEnd},
		{"bare LF after data", "5\r\nhello\n0\r\n\r\n", httpwire.ErrLineEnd},
		{"data too long", "5\r\nhello!\r\n", httpwire.ErrChunk},
		{"control in extension", "5;a\x00\r\nhello\r\n", httpwire.ErrChunk},
		{"bare CR in extension", "5;a\rb\r\nhello\r\n", httpwire.ErrChunk},
		{"long extension", "5;" + strings.Repeat("a", 600) + "\r\nhello\r\n", httpwire.ErrChunk},
		{"endless size line", "5;" + strings.Repeat("a", 600), httpwire.ErrChunk},
		{"many extensions", strings.Repeat("1;"+strings.Repeat("a", 400)+"\r\nx\r\n", 50), httpwire.ErrChunk},
		{"bad trailer", "0\r\nX : 1\r\n\r\n", httpwire.ErrFieldName},
		{"folded trailer", "0\r\nX: 1\r\n 2\r\n\r\n", httpwire.ErrFieldFold},
		{"endless trailer", "0\r\n" + strings.Repeat("X: "+strings.Repeat("a", 300)+"\r\n", 100), httpwire.ErrTrailerLong},
		{"truncated", "5\r\nhel", httpwire.ErrIncomplete},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if data, _, err := decode([]byte(tt.in), len(tt.in)); !errors.Is(err, tt.want) {
				t.Errorf("decode(%.60q) = %q, %v, want %v", tt.in, data, err, tt.want)
			}
		})
	}
}
