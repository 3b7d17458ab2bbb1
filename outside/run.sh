#!/bin/sh
# Runs the tests of client libraries that others wrote against quorate.
# Needs the binary (QUORATE_BIN, or target/release/quorate) and protoc; where protoc is missing and
# cannot be installed, the tests are skipped with a line that says so.
set -eu
cd "$(dirname "$0")"

if ! command -v protoc >/dev/null 2>&1; then
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
        apt-get update -qq && apt-get install -y -qq protobuf-compiler || true
    fi
    if ! command -v protoc >/dev/null 2>&1; then
        echo "SKIPPED: outside/etcd-client needs protoc (apt-get install protobuf-compiler)" >&2
        exit 0
    fi
fi

QUORATE_BIN="${QUORATE_BIN:-$(pwd)/../target/release/quorate}"
export QUORATE_BIN
if [ ! -x "$QUORATE_BIN" ]; then
    echo "$QUORATE_BIN is missing: run 'cargo build --release' first, or set QUORATE_BIN" >&2
    exit 2
fi
cargo test --no-fail-fast --manifest-path etcd-client/Cargo.toml -- --test-threads 2
