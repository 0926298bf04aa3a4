#!/usr/bin/env bash
# One cluster, a keyspace of each protocol side by side: what each promises, the same ten lines in each that has an order, and the same
# faults.
#
#   examples/protocols/tour.sh                       with target/release/capstan
#   CAPSTAN=path/to/capstan examples/protocols/tour.sh
#
# Each command is shown with what it prints. It exits with 1 where that is not what it should be.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
capstan=${CAPSTAN:-$here/../../target/release/capstan}
work=$(mktemp -d)
up=

# A keyspace a line: its name, and the options of `keyspace create`.
keyspaces='single --protocol single
raft --protocol raft --replicas 3
primary-all --protocol primary --replicas 3
primary-1 --protocol primary --replicas 3 --sync 1
two-phase --protocol two-phase --replicas 3'

finish() {
    [ -z "$up" ] || kill "$up" 2>/dev/null || true
    wait
    rm -rf "$work"
}
trap finish EXIT

fail() {
    printf '\nNOT AS EXPECTED: %s\n' "$*" >&2
    exit 1
}

# A base port above which the ports of three nodes are free.
free_base() {
    local base port busy
    while :; do
        base=$((20000 + RANDOM % 200 * 50)) busy=
        for port in 1 2 3 21 22 23; do
            (exec 3<>"/dev/tcp/127.0.0.1/$((base + port))") 2>/dev/null && busy=yes
        done
        [ -n "$busy" ] || break
    done
    echo "$base"
}

base=$(free_base)
export CAPSTAN_CONNECT=127.0.0.1:$((base + 1)),127.0.0.1:$((base + 2)),127.0.0.1:$((base + 3))

echo "\$ capstan up --lab &"
"$capstan" up --lab --data "$work/data" --base-port "$base" </dev/null >"$work/out" 2>"$work/err" &
up=$!
for _ in $(seq 600); do
    grep -q 'Ready:' "$work/out" && break
    kill -0 "$up" 2>/dev/null || { cat "$work/err" >&2; exit 1; }
    sleep 0.1
done
grep 'Ready:' "$work/out" || { cat "$work/err" >&2; exit 1; }

while read -r name options; do
    printf '\n# %s\n\n$ capstan keyspace create %s %s\n' "$name" "$name" "$options"
    # shellcheck disable=SC2086 # the options are words
    "$capstan" keyspace create "$name" $options </dev/null
    echo "\$ capstan keyspace describe $name"
    "$capstan" keyspace describe "$name" </dev/null
    echo "\$ capstan shell --keyspace $name < session.txt"
    "$capstan" shell --keyspace "$name" <"$here/session.txt" >"$work/printed" || fail "a line ended with $?"
    sed 's/^/> /' "$work/printed"
    # Versions are of their moment.
    sed -E 's/^[0-9]{19}$/VERSION/' "$work/printed" >"$work/session.$name"
done <<<"$keyspaces"

echo
for session in "$work"/session.*; do
    cmp "$work/session.single" "$session" || fail "$session differs"
done
printf 'All print the same, but for versions.\n'

printf '\n# quorum: nobody leads, so writes have no order, and what depends on what is there is refused\n\n'
echo "\$ capstan keyspace create votes --protocol quorum --weights 1,2,1 --read 2 --write 3"
"$capstan" keyspace create votes --protocol quorum --weights 1,2,1 --read 2 --write 3 </dev/null
echo "\$ capstan keyspace describe votes"
"$capstan" keyspace describe votes </dev/null
echo "\$ capstan --keyspace votes put greeting hello"
"$capstan" --keyspace votes put greeting hello </dev/null
echo "\$ capstan --keyspace votes append greeting ', world'"
refused=0
"$capstan" --keyspace votes append greeting ', world' </dev/null || refused=$?
[ "$refused" = 2 ] || fail "an append under quorum ended with $refused"
echo "\$ capstan --keyspace votes get greeting"
got=$("$capstan" --keyspace votes get greeting </dev/null)
echo "$got"
[ "$got" = hello ] || fail "it is not as it was put"

printf '\nWhat they do when nodes fail differs:\n\n'

# Not the one that loses writes, which takes a minute: capstan lab faults --protocols primary-0.
compared=single,raft,primary-all,primary-1,two-phase,quorum
echo "\$ capstan lab faults --seconds 2 --protocols $compared --connect $CAPSTAN_CONNECT"
"$capstan" lab faults --seconds 2 --protocols "$compared" --connect "$CAPSTAN_CONNECT" || fail "a promise was not kept: $?"

echo
echo "\$ kill $up"
kill "$up"
wait "$up" || fail "up ended with $?"
up=
