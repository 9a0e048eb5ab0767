module keyward.dev/e2e

go 1.26.0

require keyward.dev/shared v0.0.0

require (
	golang.org/x/net v0.61.0 // indirect
	golang.org/x/sys v0.49.0 // indirect
	golang.org/x/text v0.43.0 // indirect
	google.golang.org/genproto/googleapis/rpc v0.0.0-20261005182115-fad411399dd8 // indirect
	google.golang.org/grpc v1.85.0 // indirect
	google.golang.org/protobuf v1.36.12 // indirect
)

replace keyward.dev/proto => ../proto

replace keyward.dev/shared => ../shared

replace keyward.dev/migrations => ../migrations
