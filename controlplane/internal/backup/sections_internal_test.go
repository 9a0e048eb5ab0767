package backup

import (
	"bufio"
	"bytes"
	"io"
	"testing"
)

// FuzzSections reads what only a holder of the keys could have written.
func FuzzSections(f *testing.F) {
	f.Add([]byte("T\x00\x00\x00\x0c{\"name\":\"t\"}D\x00\x00\x00\x01xK\x00\x00\x00\x01kM\x00\x00\x00\x02{}"))
	f.Add([]byte("K\x00\x00\x00\x01kM\x00\x00\x00\x02{}"))
	f.Fuzz(func(t *testing.T, b []byte) {
		r := &Reader{in: bufio.NewReader(bytes.NewReader(b))}
		read := int64(0)
		c, err := r.Each(func(_ string, _ []string, content io.Reader) error {
			n, err := io.Copy(io.Discard, content)
			read += n
			return err
		})
		if err != nil {
			return
		}
		said := int64(0)
		for _, table := range c.Tables {
			said += table.Bytes
		}
		if said != read {
			t.Errorf("the manifest says %d bytes, there are %d", said, read)
		}
	})
}
