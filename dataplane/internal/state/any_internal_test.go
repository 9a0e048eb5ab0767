package state

import (
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
)

// FuzzAny holds that a google.protobuf.Any is read here as the library reads it.
func FuzzAny(f *testing.F) {
	f.Add([]byte{})
	f.Add([]byte("\n\x01a\x12\x02bc"))
	f.Add([]byte("\n\x01a\x12\x02bc\n\x01z\x12\x01y"))      // the last of each counts
	f.Add([]byte("\x1a\x01x\x08\x07\x12\x01v\xa2\x06\x00")) // fields that are not known
	f.Add([]byte("\n\x01\xff"))                             // not UTF-8
	f.Add([]byte("\n\x05a"))                                // cut off
	f.Fuzz(func(t *testing.T, b []byte) {
		var want anypb.Any
		wrong := proto.Unmarshal(b, &want)
		url, value, err := anyOf(b)
		if (err != nil) != (wrong != nil) {
			t.Fatalf("%x: error %v, the library's %v", b, err, wrong)
		}
		if err == nil && (url != want.GetTypeUrl() || string(value) != string(want.GetValue())) {
			t.Errorf("%x: %q %x, the library reads %q %x", b, url, value, want.GetTypeUrl(), want.GetValue())
		}
	})
}
