#!/usr/bin/env bash
# Three servers that share a store of versions, and a client: earlier values are read, removed and trimmed, at whichever server; one is
# killed, and comes back with what it missed.
#
#   examples/versioned/tour.sh                       with target/release/capstan
#   CAPSTAN=path/to/capstan examples/versioned/tour.sh
#
# Needs the ports 30400 to 30402 on localhost, and those 1000 and 2000 above them. It exits with 1 where something is not as it should be.
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
capstan=${CAPSTAN:-$root/target/release/capstan}
work=$(mktemp -d)
peers=localhost:30400,localhost:30401,localhost:30402
declare -A servers

finish() {
    for port in "${!servers[@]}"; do kill "${servers[$port]}" 2>/dev/null || true; done
    wait
    rm -rf "$work"
}
trap finish EXIT

start() { # port
    echo "\$ capstan classic versioned-server --port $1 --data data-$1 --peers $peers &"
    "$capstan" classic versioned-server --port "$1" --data "$work/data-$1" --peers "$peers" 2>>"$work/$1.err" &
    servers[$1]=$!
}

# Asks a server, prints what is asked and answered, and keeps the last line of that.
ask() { # port op option..
    local port=$1
    shift
    echo "\$ capstan classic versioned-client $1 --port $port ${*:2}"
    "$capstan" classic versioned-client "$1" --port "$port" "${@:2}" | tee "$work/answer"
    answer=$(tail -n 1 "$work/answer")
}

fail() {
    echo "NOT AS EXPECTED: $*" >&2
    tail -n 3 "$work"/*.err >&2
    exit 1
}

expect() { # value version
    [[ $(cut -f 2 <<<"$answer") == "$1" && (-z ${2:-} || $(cut -f 3 <<<"$answer") == "$2") ]] || fail "$answer, and not $*"
}

# Until a server answers a get with a value: what was put elsewhere comes in a moment.
await() { # port key value
    for _ in $(seq 300); do
        answer=$("$capstan" classic versioned-client get --port "$1" --key "$2" 2>/dev/null || true)
        [[ -n $answer && $(cut -f 2 <<<"$answer") == "$3" ]] && return
        sleep 0.1
    done
    fail "$2 at $1 is not '$3'"
}

for port in 30400 30401 30402; do start "$port"; done
for port in 30400 30401 30402; do await "$port" city ""; done

echo; echo "A put answers what it replaced, and its version; each server reads it:"
ask 30400 put --key city --value Lisboa
first=$(cut -f 4 <<<"$answer")
for port in 30401 30402; do await "$port" city Lisboa; done
ask 30401 put --chave city --valor Porto
[[ $(cut -f 2 <<<"$answer") == Lisboa ]] || fail "$answer"
for port in 30400 30402; do await "$port" city Porto; done
ask 30402 get --key city
expect Porto
ask 30402 get --key city --version "$first"
expect Lisboa "$first"

echo; echo "A range has both of its ends:"
ask 30400 putall --key river sea sky --value Tejo Atlantic blue
ask 30400 getrange --key city sea
expect Atlantic

echo; echo "A server is killed; a key is removed and another one trimmed meanwhile; it comes back and knows:"
await 30402 sky blue
kill -9 "${servers[30402]}"
wait "${servers[30402]}" 2>/dev/null || true
ask 30400 del --key sky
expect blue
ask 30400 trim --key city
expect Porto
start 30402
await 30402 city Porto
ask 30402 get --key sky
expect ""
ask 30402 get --key city --version "$first"
expect ""

echo; echo "All are stopped:"
for port in 30400 30401 30402; do
    kill "${servers[$port]}"
    wait "${servers[$port]}" && echo "  the server at $port ended with 0" || fail "the server at $port ended with $?"
    unset "servers[$port]"
done
