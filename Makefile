# Holdfast. `make help` lists the targets; everything is built and cached outside the tree, but bin/.
SHELL    := bash
CACHE    := $(or $(HOLDFAST_TESTBED),/var/cache/holdfast-testbed)
VERSION  := $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
FUZZTIME ?= 30s
PREFIX   ?= /usr/local
BIN      ?= bin/holdfast
.DEFAULT_GOAL := help
.PHONY: help build check test race fuzz bench demo gen testbed install clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "%-8s %s\n", $$1, $$2}' Makefile

build: ## one static binary: bin/holdfast
	CGO_ENABLED=0 go build -trimpath -ldflags '-s -w -X main.version=$(VERSION)' -o bin/holdfast ./cmd/holdfast

# Root often has no Go: what a user built is installed as it is.
install: ## the program, its manual pages, completions and docs below PREFIX (/usr/local); DESTDIR for packages
	@[[ -x $(BIN) ]] || { echo '$(BIN) is missing: run make build first, as the user that has Go'; exit 1; }
	install -D -m 755 $(BIN) $(DESTDIR)$(PREFIX)/bin/holdfast
	$(BIN) man --dir $(DESTDIR)$(PREFIX)/share/man/man1
	install -d $(DESTDIR)$(PREFIX)/share/bash-completion/completions $(DESTDIR)$(PREFIX)/share/zsh/site-functions $(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d
	$(BIN) completion bash >$(DESTDIR)$(PREFIX)/share/bash-completion/completions/holdfast
	$(BIN) completion zsh >$(DESTDIR)$(PREFIX)/share/zsh/site-functions/_holdfast
	$(BIN) completion fish >$(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d/holdfast.fish
	install -d $(DESTDIR)$(PREFIX)/share/doc/holdfast
	cp -R docs/. $(DESTDIR)$(PREFIX)/share/doc/holdfast
	chmod -R u=rwX,go=rX $(DESTDIR)$(PREFIX)/share/doc/holdfast

check: ## formatting, vet, staticcheck, the laws of the tree; a minute
	@unformatted=$$(gofmt -l .); [[ -z $$unformatted ]] || { echo "not gofmt'ed: $$unformatted"; exit 1; }
	go vet ./...
	go vet -tags machine ./internal/volume
	testbed/go-tools.sh
	$(CACHE)/bin/staticcheck ./...
	go test -count=1 -run '^TestArchitecture' .

test: testbed ## all tests, on real servers; as root, for the sandbox
	go test ./...

race: testbed ## all tests under the race detector
	go test -race ./...

fuzz: ## every fuzz target for FUZZTIME (30s)
	@grep -rlE '^func Fuzz' --include='*_test.go' . | sort | while read -r file; do \
	  for target in $$(sed -nE 's/^func (Fuzz[A-Za-z0-9_]*).*/\1/p' "$$file"); do \
	    echo "$$file: $$target"; \
	    go test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) "$$(dirname "$$file")" </dev/null || exit 1; \
	  done; done

bench: build ## measure against the usual tools
	bench/run.sh

demo: build ## a backup, a disaster, a restore and a proof, on a throwaway server
	scripts/demo.sh

gen: ## what is generated from code
	go generate ./...

testbed: ## install what the tests need; quick when it is there
	testbed/install.sh

clean: ## remove what was built here; the testbed's cache stays
	rm -rf bin demo-out
