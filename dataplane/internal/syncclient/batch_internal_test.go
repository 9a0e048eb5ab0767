package syncclient

import (
	"testing"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	syncv1 "keyward.dev/proto/gen/keyward/sync/v1"
)

func batchOf(frames ...*syncv1.Frame) *syncv1.ConfigResponse {
	b := &syncv1.Batch{}
	for _, f := range frames {
		b.Messages = append(b.Messages, &syncv1.ConfigResponse{Message: &syncv1.ConfigResponse_Frame{Frame: f}})
	}
	return &syncv1.ConfigResponse{Message: &syncv1.ConfigResponse_Batch{Batch: b}}
}

func sampleBatches(t testing.TB) (all []*syncv1.ConfigResponse, encoded [][]byte) {
	t.Helper()
	record := []byte("\n\x06routes\x12\x03u-1\x1a\x04name")
	all = []*syncv1.ConfigResponse{
		batchOf(
			&syncv1.Frame{Kind: "routes", Uid: "u-1", Last: true, Bytes: record, Name: "name"},
			&syncv1.Frame{Kind: "routes", Uid: "u-1", Last: true, Bytes: record},
			&syncv1.Frame{Kind: "consumers", Uid: "u-1", Bytes: record}, // one of a kind more
			&syncv1.Frame{Last: true, Bytes: record},
			&syncv1.Frame{},
		),
		batchOf(),
		// What follows is read the long way.
		batchOf(&syncv1.Frame{Kind: "routes", Uid: "u-1", Offset: 29, Last: true, Bytes: []byte("end")}),
		batchOf(&syncv1.Frame{Kind: "routes", Uid: "u-1", Removed: true}),
		batchOf(&syncv1.Frame{Kind: "routes", Uid: "u-1", Unreadable: true, Name: "name"}),
		{Message: &syncv1.ConfigResponse_Begin{Begin: &syncv1.Begin{Reset_: true, Epoch: 1}}},
		{},
	}
	for _, m := range all {
		b, err := proto.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		encoded = append(encoded, b)
	}
	return all, encoded
}

// TestBatchesOfRecordsAreReadTheShortWay holds that it is taken for what starts consist of.
func TestBatchesOfRecordsAreReadTheShortWay(t *testing.T) {
	t.Parallel()
	all, encoded := sampleBatches(t)
	for i, b := range encoded {
		var got syncv1.ConfigResponse
		short := readBatch(b, &got)
		if want := i < 2; short != want {
			t.Errorf("%v: the short way is %v, want %v", all[i], short, want)
		}
		if short && !proto.Equal(&got, all[i]) || !short && !proto.Equal(&got, &syncv1.ConfigResponse{}) {
			t.Errorf("%v, want %v", &got, all[i])
		}
	}
}

// FuzzBatch holds that what is read the short way is read as the library reads it.
func FuzzBatch(f *testing.F) {
	_, encoded := sampleBatches(f)
	for _, b := range encoded {
		f.Add(b)
		f.Add(append(protowire.AppendTag(b, 99, protowire.VarintType), 1))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var got, want syncv1.ConfigResponse
		if !readBatch(b, &got) {
			return
		}
		if err := proto.Unmarshal(b, &want); err != nil || !proto.Equal(&got, &want) {
			t.Errorf("%x: %v, the library reads %v, %v", b, &got, &want, err)
		}
	})
}
