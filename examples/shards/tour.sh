#!/usr/bin/env bash
# A shard master and three servers, each a process of its own: keys move as servers come and go, and none is lost.
#
#   examples/shards/tour.sh                       with target/release/capstan
#   CAPSTAN=path/to/capstan examples/shards/tour.sh
#
# Needs the ports 32780 to 32783 on localhost, and Python with grpcio (scripts/clients/requirements.txt; $PYTHON = another one than
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

start() { # kind port
    echo "\$ capstan classic $1 localhost:$2 --data data-$2 &"
    "$capstan" classic "$1" "localhost:$2" --data "$work/data-$2" 2>"$work/$2.err" &
    programs+=($!)
}

start shard-master 32780
for port in 32781 32782 32783; do start shard-server "$port"; done
echo

PYTHONPATH="$root/scripts/clients" GRPC_VERBOSITY=NONE \
    "$python" "$here/tour.py" localhost:32780 localhost:32781 localhost:32782 localhost:32783 || {
    tail -n 5 "$work"/*.err >&2
    exit 1
}

echo
echo "The programs are stopped:"
for program in "${programs[@]}"; do
    kill "$program"
    wait "$program" && echo "  $program ended with 0" || { echo "  $program ended with $?" >&2; exit 1; }
done
programs=()
