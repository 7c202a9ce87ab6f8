# Bare `make` prints this list. Everything runs with Go alone, except what says that it needs Node.

ARGS ?=
GOLANGCI_VERSION := v2.14.0
BIN := $(CURDIR)/.bin
CDK := npx --yes --prefer-offline aws-cdk@2.1148.1

.DEFAULT_GOAL := help

.PHONY: help
help: ## Print this list
	@awk 'BEGIN {FS = ":.*## "} /^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: run
run: ## Start the whole system on this machine and deliver sample events (ARGS=-exit stops when all is done)
	@go build -o .bin/local ./scripts/local && exec .bin/local $(ARGS)

# Go ends the tests of a package after ten minutes, which two busy processors with nothing compiled yet can need.
.PHONY: test
test: ## Run all tests with the race detector; the CDK tests need Node
	go test -race -timeout 30m $$(go list ./... | grep -v /infra)
	go test -timeout 30m ./infra/...

.PHONY: check
check: ## Check format, go.mod, vet and the linters
	@test -z "$$(gofmt -l .)" || { echo "run gofmt -w on:"; gofmt -l .; exit 1; }
	go mod tidy -diff
	go vet ./...
	$(MAKE) lint

.PHONY: lint
lint: $(BIN)/golangci-lint-$(GOLANGCI_VERSION) ## Run golangci-lint, installing the pinned version on first use
	$(BIN)/golangci-lint-$(GOLANGCI_VERSION) run ./...

$(BIN)/golangci-lint-$(GOLANGCI_VERSION):
	GOBIN=$(BIN) go install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(GOLANGCI_VERSION)
	mv $(BIN)/golangci-lint $@

.PHONY: fuzz
fuzz: ## Run every fuzz target for FUZZTIME (default 20s)
	@for pkg in $$(go list ./events/... ./shared/... ./functions/...); do \
	  for f in $$(go test -list '^Fuzz' $$pkg | grep '^Fuzz'); do \
	    echo "$$pkg $$f"; go test -run '^$$' -fuzz "^$$f\$$" -fuzztime $(or $(FUZZTIME),20s) $$pkg || exit 1; \
	  done; done

.PHONY: bench
bench: ## Run the benchmarks
	go test -run '^$$' -bench . -benchmem ./events/... ./shared/... ./functions/...

.PHONY: proof
proof: ## Play 10,000 seeds of disasters and print what was proved (SEEDS=N; about ten minutes)
	go test ./scripts/chaos -run '^TestProof$$' -v -count 1 -timeout 90m -seeds $(or $(SEEDS),10000)

.PHONY: proof-quick
proof-quick: ## The same with 500 seeds
	$(MAKE) proof SEEDS=500

# Where the built functions run; make run ARGS="-binaries dist" needs ARCH=$(go env GOARCH).
ARCH ?= arm64

# lambda.norpc leaves out Lambda's old runtime; grpcnotrace what makes Go's linker keep every method of every type, which is 12 MB of the deliverer: the X-Ray
# SDK brings gRPC, though nothing here calls it.
TAGS := lambda.norpc,grpcnotrace

.PHONY: build
build: ## Build the functions for Lambda into dist/ and print their sizes (reproducible; ARCH=arm64 unless set)
	@rm -rf dist
	@for main in functions/*/bootstrap; do \
	  name=$$(basename $$(dirname $$main)); mkdir -p dist/$$name; \
	  GOOS=linux GOARCH=$(ARCH) CGO_ENABLED=0 go build -tags $(TAGS) -trimpath -buildvcs=false -ldflags "-s -w -buildid=" -o dist/$$name/bootstrap ./$$main || exit 1; \
	  done
	@go run ./scripts/artifacts dist

.PHONY: synth
synth: build ## Synthesise template and code into cdk.out (needs Node; STAGE=dev or prod, DESTINATIONS=FILE, ARGS="-c alarmEmail=…")
	$(CDK) synth --quiet $(if $(STAGE),-c stage=$(STAGE)) $(if $(DESTINATIONS),-c destinations=$(abspath $(DESTINATIONS))) $(ARGS)

.PHONY: diff
diff: synth ## Show what a deployment would change (needs Node and AWS credentials)
	$(CDK) diff --app cdk.out

.PHONY: deploy
deploy: synth ## Deploy the stack (STAGE, DESTINATIONS and ARGS as for synth; needs Node and AWS credentials)
	$(CDK) deploy --app cdk.out

.PHONY: destroy
destroy: build ## Delete the stack (STAGE=dev; prod refuses; ARGS as for its deployment)
	$(CDK) destroy -c stage=$(or $(STAGE),dev) $(ARGS)

.PHONY: smoke
smoke: ## Prove a deployed stack with events of its own (STAGE=dev or prod, ARGS="-prod-too"; needs AWS credentials)
	go run ./scripts/smoke -stage $(or $(STAGE),dev) $(ARGS)
