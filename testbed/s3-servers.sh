#!/usr/bin/env bash
# Builds two S3 servers into the cache, pinned: versitygw, which is as strict as AWS, and MinIO, which encrypts. Minutes when
# nothing is there. MinIO is 150 MB and no longer kept by its makers: it serves tests alone.
set -euo pipefail
cache=${HOLDFAST_TESTBED:-/var/cache/holdfast-testbed}

# install PROGRAM MODULE-PATH VERSION
install() {
  local stamp=$cache/bin/.$1-$3
  [[ -x $cache/bin/$1 && -e $stamp ]] && return
  GOBIN=$cache/bin GOFLAGS=-trimpath CGO_ENABLED=0 nice go install "$2@$3"
  touch "$stamp"
}

mkdir -p "$cache/bin"
cd / # no module of a working directory decides what is built
install versitygw github.com/versity/versitygw/cmd/versitygw v1.8.0
install minio github.com/minio/minio v0.0.0-20260212201848-7aac2a2c5b7c
