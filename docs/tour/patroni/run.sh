#!/usr/bin/env bash
# Patroni keeps two PostgreSQL servers on three members of quorate, while processes are killed.
#
#   docs/tour/patroni/run.sh
#
# Needs quorate (QUORATE_BIN, or target/release/quorate), Patroni and PostgreSQL, which are installed
# if that may be done here (root and apt-get); without them it skips, and says so. Everything runs on
# loopback, from PORT_BASE (24790) upward, and in a directory of its own that is removed afterwards
# (KEEP=1 leaves it, for its logs). PostgreSQL refuses to run as root: started by root, it and
# Patroni run as the user postgres.
# Exit status: 0 everything happened as it should (or skipped), 1 it did not, 2 no binary.
set -euo pipefail
cd "$(dirname "$0")"

PORT_BASE="${PORT_BASE:-24790}"
QUORATE_BIN="${QUORATE_BIN:-$PWD/../../../target/release/quorate}"
# Generous: somebody else may have the disk. What usually takes how long is in README.md.
SECONDS_MAX=120

skip() {
    echo "SKIPPED: $*" >&2
    exit 0
}

if [ ! -x "$QUORATE_BIN" ]; then
    echo "$QUORATE_BIN is missing: run 'cargo build --release' first, or set QUORATE_BIN" >&2
    exit 2
fi
postgres_bin() {
    # The newest of those that Debian puts side by side.
    local bins
    bins="$(find /usr/lib/postgresql -maxdepth 2 -name bin 2>/dev/null | sort -V | tail -n 1)"
    [ -x "$bins/initdb" ] && [ -x "$bins/psql" ] && echo "$bins"
}
if ! command -v patroni >/dev/null 2>&1 || ! postgres_bin >/dev/null; then
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
        export DEBIAN_FRONTEND=noninteractive
        { apt-get update -qq && apt-get install -y -qq patroni postgresql; } >/dev/null 2>&1 || true
    fi
fi
command -v patroni >/dev/null 2>&1 || skip "Patroni is not here (apt-get install patroni)"
command -v curl >/dev/null 2>&1 || skip "curl is not here"
BIN="$(postgres_bin)" || skip "PostgreSQL is not here (apt-get install postgresql)"

as_postgres=()
if [ "$(id -u)" = 0 ]; then
    id postgres >/dev/null 2>&1 || skip "there is no user postgres"
    as_postgres=(runuser -u postgres --)
    "${as_postgres[@]}" sh -c ': >/dev/null' || skip "the user postgres cannot write to /dev/null"
fi

ROOT="$(mktemp -d "${TMPDIR:-/tmp}/quorate-patroni.XXXXXX")"
chmod 755 "$ROOT"
mkdir "$ROOT/a" "$ROOT/b"
[ ${#as_postgres[@]} = 0 ] || chown postgres "$ROOT/a" "$ROOT/b"
ENDPOINTS="127.0.0.1:$PORT_BASE,127.0.0.1:$((PORT_BASE + 10)),127.0.0.1:$((PORT_BASE + 20))"
UP=
WRITER=
# Whose Patroni should be alive.
declare -A EXPECTED=()

sql_port() { case "$1" in a) echo $((PORT_BASE + 50)) ;; b) echo $((PORT_BASE + 51)) ;; esac; }
rest_port() { case "$1" in a) echo $((PORT_BASE + 60)) ;; b) echo $((PORT_BASE + 61)) ;; esac; }
# Processes whose file of their number is there.
patroni_pid() { cat "$ROOT/$1/patroni.pid" 2>/dev/null || true; }
postgres_pid() { head -n 1 "$ROOT/$1/data/postmaster.pid" 2>/dev/null || true; }

finish() {
    local status=$? name pid
    trap - EXIT INT TERM
    [ -z "$WRITER" ] || kill "$WRITER" 2>/dev/null || true
    for name in a b; do
        for pid in "$(patroni_pid $name)" "$(postgres_pid $name)"; do
            [ -z "$pid" ] || kill -9 "$pid" 2>/dev/null || true
        done
    done
    if [ -n "$UP" ]; then
        kill -INT "$UP" 2>/dev/null || true
        wait "$UP" 2>/dev/null || true
    fi
    if [ "$status" != 0 ] || [ -n "${KEEP:-}" ]; then
        echo "logs are in $ROOT" >&2
    else
        rm -rf "$ROOT"
    fi
    exit "$status"
}
trap finish EXIT
trap 'exit 1' INT TERM

BEGAN=$(date +%s)
say() { printf '%3d s  %s\n' $(($(date +%s) - BEGAN)) "$*"; }
fail() {
    say "FAILED: $*"
    exit 1
}
# until_true WHAT COMMAND..: waits until COMMAND succeeds.
until_true() {
    local what="$1" end=$(($(date +%s) + SECONDS_MAX))
    shift
    until "$@"; do
        died
        [ "$(date +%s)" -lt "$end" ] || fail "$what: not within $SECONDS_MAX s"
        sleep 0.2
    done
}

# A Patroni that gave up by itself will not come back, however long one waits.
died() {
    local name
    for name in "${!EXPECTED[@]}"; do
        kill -0 "$(patroni_pid "$name")" 2>/dev/null ||
            fail "Patroni of $name ended: $(tail -n 1 "$ROOT/patroni-$name.log")"
    done
}

# What Patroni's own health checks say; they are what a load balancer asks.
is() { curl -sf -o /dev/null --max-time 2 "http://127.0.0.1:$(rest_port "$1")/$2"; }
# A primary is one only if PostgreSQL agrees.
writable() { [ "$(sql "$1" 'select pg_is_in_recovery()' 2>/dev/null)" = f ]; }
leads() { is "$1" primary && writable "$1"; }
primary() {
    local name
    for name in a b; do
        if leads $name; then echo $name && return; fi
    done
    return 1
}
other() { case "$1" in a) echo b ;; b) echo a ;; esac; }
follows() { is "$1" synchronous; }

sql() {
    PGPASSWORD=super PGCONNECT_TIMEOUT=2 timeout 10 "$BIN/psql" -XAtq -h 127.0.0.1 \
        -p "$(sql_port "$1")" -U postgres -d postgres -c "$2"
}
# Of a primary: it begins the name of the file that is written.
timeline() {
    sql "$1" "select ('x' || left(pg_walfile_name(pg_current_wal_lsn()), 8))::bit(32)::int"
}
# What Patroni keeps in quorate: who leads, under a lease.
leader_key() {
    "$QUORATE_BIN" ctl get /service/tour/leader --endpoints "$ENDPOINTS" 2>/dev/null | tail -n 1
}
names_leader() { [ "$(leader_key)" = "$1" ]; }

configure() {
    cat >"$ROOT/$1/patroni.yml" <<YAML
scope: tour
name: $1
restapi:
  listen: 127.0.0.1:$(rest_port "$1")
  connect_address: 127.0.0.1:$(rest_port "$1")
etcd3:
  hosts: $ENDPOINTS
bootstrap:
  dcs:
    ttl: 20
    loop_wait: 2
    retry_timeout: 5
    # With one standby that confirms, a commit that was acknowledged is on both.
    synchronous_mode: true
    # A PostgreSQL that died is replaced, not waited for.
    master_start_timeout: 0
    primary_start_timeout: 0
    postgresql:
      use_pg_rewind: true
  initdb: [{encoding: UTF8}, {locale: C}, data-checksums]
postgresql:
  listen: 127.0.0.1:$(sql_port "$1")
  connect_address: 127.0.0.1:$(sql_port "$1")
  bin_dir: $BIN
  data_dir: $ROOT/$1/data
  pgpass: $ROOT/$1/pgpass
  pg_hba:
    - host all all 127.0.0.1/32 scram-sha-256
    - host replication all 127.0.0.1/32 scram-sha-256
  authentication:
    superuser: {username: postgres, password: super}
    replication: {username: replicator, password: replicate}
  parameters: {unix_socket_directories: $ROOT/$1, max_connections: 20, shared_buffers: 16MB}
YAML
}

start_patroni() {
    # The shell writes its number and becomes Patroni.
    "${as_postgres[@]}" sh -c 'cd "$1" && echo $$ >patroni.pid && exec patroni patroni.yml' sh \
        "$ROOT/$1" >>"$ROOT/patroni-$1.log" 2>&1 &
    disown
    until [ -n "$(patroni_pid "$1")" ]; do sleep 0.1; done
    EXPECTED[$1]=yes
}

# Adds a row again and again at whoever is primary, and notes each that was acknowledged.
write_rows() {
    local row=0 name
    while :; do
        row=$((row + 1))
        for name in a b; do
            if sql $name "insert into rows values ($row)" >/dev/null 2>&1; then
                echo $row >>"$ROOT/acknowledged"
                break
            fi
        done
        sleep 0.1
    done
}
acknowledged() { wc -l <"$ROOT/acknowledged"; }
more_than() { [ "$(acknowledged)" -gt "$1" ]; }
# Every acknowledged row is at the primary.
all_there() {
    local missing
    # In this order: what is acknowledged later need not be found.
    sort "$ROOT/acknowledged" >"$ROOT/wanted"
    sql "$1" 'select n from rows' | sort >"$ROOT/found"
    missing="$(comm -13 "$ROOT/found" "$ROOT/wanted" | tr '\n' ' ')"
    [ -z "$missing" ] || fail "acknowledged, and not at $1: $missing"
    say "all $(wc -l <"$ROOT/wanted") acknowledged rows are at $1"
}

# Kills the process of quorate's leader; `quorate up` starts it again.
kill_quorate_leader() {
    local leader pid
    leader="$("$QUORATE_BIN" status --json --endpoints "$ENDPOINTS" |
        sed -n 's/.*"leader":"\([^"]*\)".*/\1/p')"
    [ -n "$leader" ] || fail "quorate has no leader"
    pid="$(pgrep -P "$UP" -f -- "--name=$leader ")"
    kill -9 "$pid"
    say "kill -9 $leader, the leader of quorate"
}

say "quorate up: three members"
"$QUORATE_BIN" up --data "$ROOT/quorate" --port-base "$PORT_BASE" >"$ROOT/up.log" 2>&1 &
UP=$!
until_true "three members serve" grep -q 'members serve' "$ROOT/up.log"

say "Patroni of a and b ($(patroni --version | cut -d' ' -f2)), $("$BIN/postgres" --version)"
configure a
configure b
start_patroni a
until_true "a becomes primary" leads a
until_true "quorate names a" names_leader a
say "a is primary; /service/tour/leader in quorate says $(leader_key)"
start_patroni b
until_true "b follows" follows b
say "b is its synchronous standby"

sql a 'create table rows (n int primary key)' >/dev/null
: >"$ROOT/acknowledged"
write_rows &
WRITER=$!
until_true "rows are written" more_than 10
say "$(acknowledged) rows are written; more follow all the time"

echo
before="$(timeline a)"
kill_quorate_leader
seen=$(acknowledged)
# Longer than the lease lives: had it ended, a would have been demoted.
sleep 25
leads a || fail "a is not primary any more"
[ "$(timeline a)" = "$before" ] || fail "PostgreSQL failed over"
until_true "rows are written" more_than "$seen"
say "after 25 s a is still primary, on the same timeline ($before)"
all_there a

echo
until_true "b follows" follows b
pid="$(postgres_pid a)"
kill -9 "$pid"
say "kill -9 $pid, PostgreSQL of a"
until_true "b becomes primary" leads b
until_true "quorate names b" names_leader b
say "b is primary, on timeline $(timeline b); quorate says $(leader_key)"
all_there b
until_true "a follows" follows a
say "a was rewound and is the synchronous standby"

echo
seen=$(acknowledged)
until_true "rows are written" more_than "$seen"
unset 'EXPECTED[b]'
kill -9 "$(patroni_pid b)" "$(postgres_pid b)"
rm "$ROOT/b/patroni.pid"
say "kill -9 of Patroni and PostgreSQL of b: as if its machine were gone"
kill_quorate_leader
until_true "a becomes primary" leads a
until_true "quorate names a" names_leader a
say "the lease of b ended; a is primary, on timeline $(timeline a); quorate says $(leader_key)"
all_there a
seen=$(acknowledged)
until_true "rows are written" more_than "$seen"
start_patroni b
until_true "b follows" follows b
say "b is back as the synchronous standby"

kill "$WRITER"
wait "$WRITER" 2>/dev/null || true
WRITER=
all_there "$(primary)"
# What Patroni itself says at the end, for eyes.
echo
patronictl -c "$ROOT/a/patroni.yml" list
say "everything happened as it should"
