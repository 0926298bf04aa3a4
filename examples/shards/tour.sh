#!/usr/bin/env bash
# A shard master and three servers, each a process of its own: keys move as servers come and go, and none is lost. Then three that
# share a range: a replica follows the master of the group when that is killed.
#
#   examples/shards/tour.sh                       with target/release/capstan
#   CAPSTAN=path/to/capstan examples/shards/tour.sh
#
# Needs the ports 32780 to 32787 on localhost, and Python with grpcio (scripts/clients/requirements.txt; $PYTHON = another one than
# target/clients/venv/bin/python). It exits with 1 where something is not as it should be.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
capstan=${CAPSTAN:-$root/target/release/capstan}
python=${PYTHON:-$root/target/clients/venv/bin/python}
work=$(mktemp -d)
programs=()

finish() {
    for program in "${programs[@]}"; do kill "$program" 2>/dev/null || true; done
    wait
    rm -rf "$work"
}
trap finish EXIT

start() { # kind port [option..]
    local kind=$1 port=$2
    shift 2
    echo "\$ capstan classic $kind localhost:$port --data data-$port${*:+ $*} &"
    "$capstan" classic "$kind" "localhost:$port" --data "$work/data-$port" "$@" 2>"$work/$port.err" &
    programs+=($!)
}

show() { # script argument..
    echo
    PYTHONPATH="$root/scripts/clients" GRPC_VERBOSITY=NONE "$python" "$here/$1" "${@:2}" || {
        tail -n 5 "$work"/*.err >&2
        exit 1
    }
}

stop() {
    echo
    echo "The programs are stopped:"
    for program in "${programs[@]}"; do
        kill "$program"
        wait "$program" && echo "  $program ended with 0" || { echo "  $program ended with $?" >&2; exit 1; }
    done
    programs=()
}

start shard-master 32780
for port in 32781 32782 32783; do start shard-server "$port"; done
show tour.py localhost:32780 localhost:32781 localhost:32782 localhost:32783
stop

echo
start shard-master 32784 --shards 1
servers=()
for port in 32785 32786 32787; do
    start shard-server "$port" --shard-master localhost:32784 --consistency 1
    servers+=("localhost:$port=$!")
done
show group.py localhost:32784 "${servers[@]}"
# What was killed has ended.
left=()
for program in "${programs[@]}"; do kill -0 "$program" 2>/dev/null && left+=("$program"); done
programs=("${left[@]}")
stop
