#!/usr/bin/env bash
# Builds stock age and staticcheck into the cache, pinned.
set -euo pipefail
cache=${HOLDFAST_TESTBED:-/var/cache/holdfast-testbed}

# install PROGRAM MODULE-PATH VERSION
install() {
  local stamp=$cache/bin/.$1-$3
  [[ -x $cache/bin/$1 && -e $stamp ]] && return
  GOBIN=$cache/bin GOFLAGS=-trimpath CGO_ENABLED=0 go install "$2@$3"
  touch "$stamp"
}

mkdir -p "$cache/bin"
install age filippo.io/age/cmd/age v1.3.2
install age-keygen filippo.io/age/cmd/age-keygen v1.3.2
install staticcheck honnef.co/go/tools/cmd/staticcheck v0.8.2
