module keyward.dev/tools/bench

go 1.26.0
