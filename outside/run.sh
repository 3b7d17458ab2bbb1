#!/bin/sh
# Runs the tests of client libraries that others wrote against quorate.
# Needs the binary (QUORATE_BIN, or target/release/quorate). What else a folder needs is said beside
# it below; where that is missing and cannot be installed, the tests of that folder are skipped with
# a line that says so. Names of folders as arguments: only these.
set -eu
cd "$(dirname "$0")"

QUORATE_BIN="${QUORATE_BIN:-$(pwd)/../target/release/quorate}"
export QUORATE_BIN
if [ ! -x "$QUORATE_BIN" ]; then
    echo "$QUORATE_BIN is missing: run 'cargo build --release' first, or set QUORATE_BIN" >&2
    exit 2
fi

skip() {
    echo "SKIPPED: outside/$*" >&2
    exit 0
}

# The Rust crate `etcd-client`, whose build needs protoc.
etcd_client() {
    if ! command -v protoc >/dev/null 2>&1; then
        if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
            apt-get update -qq && apt-get install -y -qq protobuf-compiler || true
        fi
        command -v protoc >/dev/null 2>&1 ||
            skip "etcd-client needs protoc (apt-get install protobuf-compiler)"
    fi
    cargo test --no-fail-fast --manifest-path etcd-client/Cargo.toml -- --test-threads 2
}

# The npm package `etcd3`, which is installed beside its tests.
node_etcd3() {
    command -v pgrep >/dev/null 2>&1 || skip "node needs pgrep (apt-get install procps)"
    command -v npm >/dev/null 2>&1 || skip "node needs node and npm (apt-get install nodejs npm)"
    # Its test runner and what the tests use came with this version.
    [ "$(node -p 'Number(process.versions.node.split(".")[0]) >= 20')" = true ] ||
        skip "node needs version 20 of node, this is $(node --version)"
    cd node
    if [ ! -d node_modules/etcd3 ]; then
        npm install --no-audit --no-fund --no-package-lock --loglevel=error ||
            skip "node: npm cannot install etcd3"
    fi
    npm test
}

# The Python packages `etcd3` and `etcd3gw`, which are installed in an environment of their own.
python_etcd3() {
    command -v pgrep >/dev/null 2>&1 || skip "python needs pgrep (apt-get install procps)"
    command -v python3 >/dev/null 2>&1 || skip "python needs python3 (apt-get install python3)"
    cd python
    if [ ! -e target/ready ]; then
        rm -rf target/venv
        python3 -m venv target/venv ||
            skip "python needs venv (apt-get install python3-venv)"
        target/venv/bin/pip install --quiet --disable-pip-version-check -r requirements.txt ||
            skip "python: pip cannot install requirements.txt"
        touch target/ready
    fi
    target/venv/bin/python -W ignore -m unittest -v
}

run() {
    case "$1" in
        etcd-client) etcd_client ;;
        node) node_etcd3 ;;
        python) python_etcd3 ;;
        *)
            echo "outside/$1 is not here" >&2
            exit 2
            ;;
    esac
}

# They wait more than they compute, so that all of them take little longer than one; what they say
# is kept apart.
[ $# -gt 0 ] || set -- etcd-client node python
logs="$(mktemp -d)"
trap 'rm -rf "$logs"' EXIT
for name; do
    (
        (run "$name") >"$logs/$name" 2>&1 || touch "$logs/$name.failed"
    ) &
done
wait
failed=0
for name; do
    echo "outside: $name"
    cat "$logs/$name"
    if [ -e "$logs/$name.failed" ]; then
        echo "FAILED: outside/$name" >&2
        failed=1
    fi
done
exit "$failed"
