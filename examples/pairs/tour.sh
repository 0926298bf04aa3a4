#!/usr/bin/env bash
# Two pair servers and a central server: who has a key, who registered it last, and what a client of the centre sees.
#
#   examples/pairs/tour.sh                       with target/release/capstan
#   CAPSTAN=path/to/capstan examples/pairs/tour.sh
#
# Each command is shown with what it prints. It exits with 1 where that is not what it should be.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
capstan=${CAPSTAN:-$here/../../target/release/capstan}
work=$(mktemp -d)
declare -A servers=()

finish() {
    [ "${#servers[@]}" -eq 0 ] || kill "${servers[@]}" 2>/dev/null || true
    wait
    rm -rf "$work"
}
trap finish EXIT

fail() {
    printf '\nNOT AS EXPECTED: %s\n' "$*" >&2
    exit 1
}

# A port on which nobody listens.
free_port() {
    local port
    while :; do
        port=$((20000 + RANDOM % 12000))
        (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null || break
    done
    echo "$port"
}

# start NAME PROGRAM PORT OPTION..: starts a server and waits until it says that it serves.
start() {
    local name=$1
    shift
    echo "\$ capstan classic $* &"
    # Emptied here: what an earlier one of the name has said is not this one's word.
    : >"$work/$name"
    "$capstan" classic "$@" 2>"$work/$name" &
    servers[$name]=$!
    for _ in $(seq 300); do
        grep -q 'serving at' "$work/$name" && return
        kill -0 "${servers[$name]}" 2>/dev/null || break
        sleep 0.1
    done
    cat "$work/$name" >&2
    fail "$name does not serve"
}

# ends NAME: waits until a server has ended, as it should.
ends() {
    wait "${servers[$1]}" || fail "$1 ended with $?"
    unset "servers[$1]"
}

# ask CLIENT PORT COMMANDS EXPECTED: runs commands, shows what they print, and compares it with what they should.
ask() {
    local got
    printf '$ capstan classic %s localhost:%s\n' "$1" "$2"
    printf '%s\n' "$3" | sed 's/^/< /'
    got=$(printf '%s\n' "$3" | "$capstan" classic "$1" "localhost:$2") || fail "$1 ended with $?"
    [ -z "$got" ] || printf '%s\n' "$got" | sed 's/^/> /'
    [ "$got" = "$4" ] || fail "expected"$'\n'"$4"
}

first=$(free_port) second=$(free_port) centre=$(free_port)

printf '# One server: the first text of a key stays.\n\n'
start alone pair-server "$first"
echo "\$ capstan classic pair-client localhost:$first < commands.txt"
"$capstan" classic pair-client "localhost:$first" <"$here/commands.txt" | tee "$work/printed" | sed 's/^/> /'
printf '%s\n' 0 -1 0 0 'a text' 'a text, with commas, and blanks at its end  ' '' 0 0 | cmp -s - "$work/printed" ||
    fail "another answer to commands.txt"
ends alone

printf '\n# Two servers and a central one: a key belongs to the server that registered it last, whatever its text.\n\n'
start first pair-server "$first" --activate --advertise "localhost:$first"
start second pair-server "$second" --activate --advertise "localhost:$second"
start centre central-server "$centre"
ask pair-client "$first" "I,1,one at the first
I,2,the same at both
I,3,three at the first
A,localhost:$centre" $'0\n0\n0\n3'
ask pair-client "$second" "I,1,one at the second
I,2,the same at both
A,localhost:$centre" $'0\n0\n2'
ask central-client "$centre" $'C,1\nC,2\nC,3\nC,4' "localhost:$second:one at the second
localhost:$second:the same at both
localhost:$first:three at the first"
ask central-client "$centre" T 3
ends centre

printf '\n# The same with --check: a key moves only to a server with the same text.\n\n'
start centre central-server "$centre" --check
ask pair-client "$first" "A,localhost:$centre" 3
ask pair-client "$second" "A,localhost:$centre" 1
ask central-client "$centre" $'C,1\nC,2\nC,3' "localhost:$first:one at the first
localhost:$second:the same at both
localhost:$first:three at the first"

printf '\n# A server that is gone is said on standard error; the others are asked all the same.\n\n'
ask pair-client "$second" T 0
ends second
printf '$ capstan classic central-client localhost:%s\n< C,2\n< C,3\n' "$centre"
printf 'C,2\nC,3\n' | "$capstan" classic central-client "localhost:$centre" >"$work/printed" 2>"$work/said" && code=0 || code=$?
sed 's/^/> /' "$work/printed"
sed 's/^/! /' "$work/said"
[ "$code" -eq 3 ] || fail "exit code $code, not 3"
[ "$(cat "$work/printed")" = "localhost:$first:three at the first" ] || fail "the first server was not asked"
[ "$(wc -l <"$work/said")" -eq 1 ] || fail "another number of lines on standard error than 1"

ask central-client "$centre" T 3
ask pair-client "$first" T 0
ends centre
ends first
printf '\nAll as expected.\n'
