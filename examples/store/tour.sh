#!/usr/bin/env bash
# A store of a master and two slaves, and one of three nodes that vote, each node a process of its own: what a put, a get and a slow node
# look like to a client.
#
#   examples/store/tour.sh                       with target/release/capstan
#   CAPSTAN=path/to/capstan examples/store/tour.sh
#
# Needs the ports of centralized.yaml and decentralized.yaml, and Python with grpcio (scripts/clients/requirements.txt; $PYTHON = another one than
# target/clients/venv/bin/python). It exits with 1 where something is not as it should be.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
capstan=${CAPSTAN:-$root/target/release/capstan}
python=${PYTHON:-$root/target/clients/venv/bin/python}
work=$(mktemp -d)
store=

finish() {
    [ -z "$store" ] || kill "$store" 2>/dev/null || true
    wait
    rm -rf "$work"
}
trap finish EXIT

# Starts the store of a file, has clients ask it, and ends it.
tour() {
    local form=$1
    echo "\$ capstan classic store $form.yaml &"
    "$capstan" classic store "$here/$form.yaml" --data "$work/$form" 2>"$work/err" &
    store=$!
    for _ in $(seq 300); do
        grep -q 'store: serving' "$work/err" && break
        kill -0 "$store" 2>/dev/null || { cat "$work/err" >&2; exit 1; }
        sleep 0.1
    done
    grep 'store: serving' "$work/err" || { cat "$work/err" >&2; exit 1; }
    echo
    PYTHONPATH="$root/scripts/clients" GRPC_VERBOSITY=NONE "$python" "$here/tour.py" "$form" 127.0.0.1:32770 127.0.0.1:32771 127.0.0.1:32772
    echo
    echo "\$ kill $store"
    kill "$store"
    wait "$store"
    echo "it ended with $?, and its ports are free"
    store=
}

tour centralized
echo
tour decentralized
