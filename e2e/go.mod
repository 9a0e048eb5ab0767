module keyward.dev/e2e

go 1.26.0

require keyward.dev/shared v0.0.0

replace keyward.dev/proto => ../proto

replace keyward.dev/shared => ../shared

replace keyward.dev/migrations => ../migrations
