# Keyward. "make help" lists the targets.
#
# Products and their tests are built with GOWORK=off: a workspace merges the modules' requirements, and a test tool's
# would then choose the version of a library that the gateway ships. go.work is for editors.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory
export GOWORK := off

MODULES  := $(shell sed -n 's|^\t\./||p' go.work)
# Modules below those folders and the tools we wrote ourselves: linted and tested like the others, outside go.work.
NESTED   := $(patsubst %/go.mod,%,$(shell find $(MODULES) -mindepth 2 -name go.mod -not -path '*/testdata/*' 2>/dev/null | sort)) .tools/bench .tools/reference
# What "make test" covers: the end-to-end tests have their own target, their rules about the tree do not need processes.
UNIT     := $(filter-out e2e,$(MODULES)) .tools/bench
VERSION  := $(shell git describe --tags --always --dirty 2>/dev/null || echo devel)
LDFLAGS  := -X keyward.dev/shared/telemetry.version=$(VERSION)
# The cryptographic module of the FIPS=1 build: the one with a certificate.
GOBUILD  := $(if $(FIPS),GOFIPS140=v1.0.0 )go
PRODUCT  := -trimpath -buildvcs=false -ldflags '$(LDFLAGS)'
TOOL     := $(CURDIR)/.tools/tool
FUZZTIME ?= $(if $(FULL),1m,2s)

export KEYWARD_BIN := $(CURDIR)/bin

.PHONY: help setup demo build generate generate-check fmt fix lint test race verify e2e fips fuzz bench bench-proxy bench-sync pgo tidy list-modules

help: ## list the targets
	@grep -hE '^[a-z0-9-]+:.*## ' Makefile | sed -E 's/:.*## /\t/' | expand -t 16
	@echo
	@echo 'verify, setup and lint take FULL=1: everything, including what takes long. Modules: $(MODULES)'

setup: ## install what building and testing need, and say what that is (root or sudo; does nothing if all is there)
	@.tools/setup $(if $(FULL),--full)

demo: ## show the main job with real processes and requests; CHECK=1 ends after that with a status
	@.tools/setup --run
	@$(MAKE) build
	@dir=$$(mktemp -d) && chmod 711 "$$dir" && trap 'rm -rf "$$dir"' EXIT && \
		KEYWARD_DEMO_DIR="$$dir/state" KEYWARD_DEMO_CHECK=$(CHECK) \
		bin/keyward dev --dir "$$dir/state" --gateways 2 --ports auto --exec 'exec bash docs/examples/demo.sh'

build: ## build bin/keyward, bin/keyward-controlplane, bin/keyward-dataplane and bin/keyward-fleet; FIPS=1 with the FIPS 140-3 module
	@mkdir -p bin
	$(GOBUILD) -C controlplane build $(PRODUCT) -o ../bin/ ./cmd/keyward ./cmd/keyward-controlplane
	$(GOBUILD) -C dataplane build $(PRODUCT) -o ../bin/ ./cmd/keyward-dataplane ./cmd/keyward-fleet

# Generated into a directory of its own first, so that a file whose source is gone goes too.
GENERATE = tools=$$(for t in buf protoc-gen-go protoc-gen-go-grpc; do dirname "$$($(TOOL) $$t)"; done | paste -sd:); \
	out=$$(mktemp -d); trap 'rm -rf "$$out"' EXIT; \
	(cd proto && PATH="$$tools:$$PATH" buf generate -o "$$out" && \
		PATH="$$tools:$$PATH" buf build --path keyward --exclude-imports --as-file-descriptor-set -o "$$out/keyward.binpb")

generate: ## regenerate the code from the protos (needs Node's npm once, for buf; no network after setup)
	@$(GENERATE); \
	mkdir -p proto/gen && rm -rf proto/gen/* && cp -r "$$out"/gen/. proto/gen/ && cp "$$out/keyward.binpb" proto/descriptors/
	@go -C .tools/reference run . $(CURDIR)/docs

generate-check: ## fail if the generated code is not what the protos say
	@if ! $(TOOL) --have buf && ! command -v npm >/dev/null; then \
		echo 'generate-check: NOT CHECKED: buf is not there and there is no npm to get it'; exit $(if $(FULL),1,0); fi; \
	$(GENERATE); \
	cp -r docs "$$out/docs" && go -C .tools/reference run . "$$out/docs"; \
	stale() { diff -rq "$$1" "$$2" || { echo 'generate-check: run "make generate" and commit the result'; exit 1; }; }; \
	stale "$$out/gen" proto/gen; stale "$$out/keyward.binpb" proto/descriptors/keyward.binpb; stale "$$out/docs" docs; \
	(cd proto && PATH="$$tools:$$PATH" buf lint) && echo 'generate-check: ok'

# The generated code is left as its generator wrote it.
GOFILES = $(shell find $(MODULES) .tools/bench .tools/reference .tools/vault .tools/pebble -name '*.go' -not -path 'proto/gen/*')

fmt: ## format the Go code
	@$$($(TOOL) gofumpt) -w $(GOFILES)

fix: fmt generate tidy ## put right what a machine can put right

lint: ## check format, vet and staticcheck; FULL=1 adds golangci-lint
	@unformatted=$$($$($(TOOL) gofumpt) -l $(GOFILES)); \
	if [ -n "$$unformatted" ]; then echo "not formatted, run make fmt:"; echo "$$unformatted"; exit 1; fi
	@staticcheck=$$($(TOOL) staticcheck); failed=0; \
	for m in $(MODULES) $(if $(FULL),$(NESTED),$(filter-out e2e/charts,$(NESTED))); do \
		echo "lint: $$m"; \
		go -C $$m vet ./... || failed=1; \
		(cd $$m && "$$staticcheck" ./...) || failed=1; \
	done; exit $$failed
ifdef FULL
	@golangci=$$($(TOOL) golangci-lint); failed=0; \
	for m in $(filter-out proto,$(MODULES)); do \
		echo "golangci-lint: $$m"; (cd $$m && "$$golangci" run --config $(CURDIR)/.golangci.yml ./...) || failed=1; \
	done; exit $$failed
endif

test: ## unit and integration tests of all modules
	@.tools/setup $(if $(FULL),--full,--run)
	@failed=0; \
	for m in $(UNIT); do go -C $$m test -timeout 9m ./... || failed=1; done; \
	go -C e2e test -timeout 5m ./arch/... || failed=1; \
	exit $$failed

race: ## the same with the race detector
	@.tools/setup $(if $(FULL),--full,--run)
	@failed=0; \
	for m in $(UNIT); do go -C $$m test -race -timeout 15m ./... || failed=1; done; \
	exit $$failed

e2e: build ## tests that drive the real processes
	@.tools/setup $(if $(FULL),--full)
	KEYWARD_FULL=$(FULL) go -C e2e test -count=1 -timeout $(if $(FULL),60m,20m) ./...
ifdef FULL
	go -C e2e/charts test -count=1 -timeout 20m ./...
endif

fips: ## the scenarios with the FIPS 140-3 module, and everything refused that it does not approve of
	@$(MAKE) build FIPS=1
	KEYWARD_FIPS=1 go -C e2e test -count=1 -timeout 40m ./scenario && KEYWARD_FIPS=1 go -C e2e test -count=1 -timeout 20m -run "Cache|Bundle|Certificates|Backup" ./resilience
	@$(MAKE) build

fuzz: ## fuzz every target for FUZZTIME (2s; 1m with FULL=1)
	@.tools/fuzz $(FUZZTIME) $(UNIT)

bench: build ## run the benchmarks; OUT=FILE writes JSON lines, CHECK=1 fails on a missed budget, BENCH=REGEXP chooses
	@go -C .tools/bench build -buildvcs=false -o $(CURDIR)/bin/.bench . && \
	KEYWARD_FULL=$(FULL) bin/.bench -budgets .tools/bench/budgets.json $(if $(OUT),-out $(OUT)) $(if $(CHECK),-check) \
		$(if $(FULL),-full) $(if $(BENCH),-bench '$(BENCH)') $(MODULES)

# KEYWARD_BIN=DIR on the command line measures the programs there instead of building them.
bench-proxy: $(if $(filter command,$(origin KEYWARD_BIN)),,build) ## CPU per request beside nginx, haproxy, nginx with Lua; OUT, CHECK, FULL, VARIANTS=REGEXP, ROUNDS, WORKERS, BESIDE=DIR, PROFILE=1
	@.tools/setup --bench
	@mkdir -p bin && go -C e2e test -c -o $(CURDIR)/bin/.bench-proxy ./load/proxybench && cd e2e/load/proxybench && \
		KEYWARD_BENCH_PROXY=1 KEYWARD_FULL=$(FULL) KEYWARD_BENCH_OUT='$(if $(OUT),$(abspath $(OUT)))' KEYWARD_BENCH_CHECK=$(CHECK) \
		KEYWARD_BENCH_VARIANTS='$(VARIANTS)' KEYWARD_BENCH_ROUNDS=$(ROUNDS) KEYWARD_BENCH_WORKERS=$(WORKERS) \
		KEYWARD_BENCH_BESIDE='$(if $(BESIDE),$(abspath $(BESIDE)))' KEYWARD_BENCH_PROFILE=$(if $(PROFILE),$(CURDIR)/bin/profiles) \
		$(CURDIR)/.tools/bench/isolated $(CURDIR)/bin/.bench-proxy -test.run '^TestBenchProxy$$' -test.timeout 4h

# At a path that says nothing of this machine: the profile names it.
PROFILED := /tmp/keyward-profiled
PGO      := dataplane/cmd/keyward-dataplane/default.pgo

pgo: build ## profile the gateway under load, for the compiler (default.pgo): 5 minutes, on a machine that does nothing else
	@rm -rf $(PROFILED) && mkdir -p $(PROFILED)/profiles && cp bin/keyward* $(PROFILED)
	$(GOBUILD) -C dataplane build $(PRODUCT) -pgo=off -tags profile -o $(PROFILED) ./cmd/keyward-dataplane
	$(MAKE) bench-proxy KEYWARD_BIN=$(PROFILED) VARIANTS='1KiB/(64|16x4)/' ROUNDS=1
	go tool pprof -proto -output $(PGO) $$(find $(PROFILED)/profiles -name '*.prof')
	@rm -rf $(PROFILED)

bench-sync: $(if $(filter command,$(origin KEYWARD_BIN)),,build) ## from a commit to many gateways, beside a bare fan-out; OUT, CHECK, FULL, PARTS=REGEXP
	@.tools/setup --run
	@mkdir -p bin && go -C e2e test -c -o $(CURDIR)/bin/.bench-sync ./load/syncbench && cd e2e/load/syncbench && \
		KEYWARD_BENCH_SYNC=1 KEYWARD_FULL=$(FULL) KEYWARD_BENCH_OUT='$(if $(OUT),$(abspath $(OUT)))' KEYWARD_BENCH_CHECK=$(CHECK) \
		KEYWARD_BENCH_PARTS='$(PARTS)' \
		$(CURDIR)/.tools/bench/isolated $(CURDIR)/bin/.bench-sync -test.run '^TestBenchSync$$' -test.timeout 2h

verify: ## everything that has to pass: lint, tests, race, e2e, short fuzzing; FULL=1 is the whole of it
	@$(MAKE) generate-check
	@$(MAKE) lint
	@$(MAKE) test
	@$(MAKE) race
	@$(MAKE) e2e
	@$(if $(FULL),$(MAKE) fips,true)
	@$(MAKE) fuzz
	@$(if $(FULL),$(MAKE) bench CHECK=1,true)
	@echo 'verify: ok'

tidy: ## tidy every module's requirements
	@for m in $(MODULES) $(NESTED); do go -C $$m mod tidy; done

list-modules:
	@echo $(MODULES) $(NESTED)
