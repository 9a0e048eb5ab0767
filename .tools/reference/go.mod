module keyward.dev/tools/reference

go 1.26.0

require (
	google.golang.org/protobuf v1.36.12
	keyward.dev/proto v0.0.0
	keyward.dev/shared v0.0.0
)

require (
	buf.build/gen/go/bufbuild/protovalidate/protocolbuffers/go v1.36.12-20260825204119-511051f7f437.1 // indirect
	go.yaml.in/yaml/v4 v4.0.0 // indirect
)

replace (
	keyward.dev/proto => ../../proto
	keyward.dev/shared => ../../shared
)
