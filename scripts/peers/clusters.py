"""Clusters on this machine, of etcd and of Capstan: started on free ports of loopback, stopped by process id.

A process ends with this one, however this one ends (setpriv --pdeathsig), and what it kept goes with the folder it was
given.
"""

import json
import random
import socket
import subprocess
import time
import urllib.error
import urllib.request
from functools import partial

READY_SECONDS = 60
STOP_SECONDS = 30
# Below the ports that the kernel gives to clients.
PORTS = range(15000, 30000)


class Failed(Exception):
    """A cluster that does not start, or a measurement that fails: what happened, and where to look."""


class Etcd:
    """Members with etcd's own settings: every write synced, a heartbeat each 100 ms."""

    def __init__(self, binary, folder, nodes):
        self.binary, self.folder, self.nodes = binary, folder, nodes
        self.processes = []

    def start(self):
        """Starts all members and waits until each knows a leader."""
        names = [f"e{index}" for index in range(1, self.nodes + 1)]
        base = free_ports([*range(self.nodes), *range(10, 10 + self.nodes)])
        clients = [f"127.0.0.1:{base + index}" for index in range(self.nodes)]
        peers = [f"http://127.0.0.1:{base + 10 + index}" for index in range(self.nodes)]
        everyone = ",".join(f"{name}={peer}" for name, peer in zip(names, peers, strict=True))
        for name, client, peer in zip(names, clients, peers, strict=True):
            options = {
                "name": name,
                "data-dir": self.folder / name,
                "listen-client-urls": f"http://{client}",
                "advertise-client-urls": f"http://{client}",
                "listen-peer-urls": peer,
                "initial-advertise-peer-urls": peer,
                "initial-cluster": everyone,
                "initial-cluster-token": self.folder.name,
                "log-level": "warn",
            }
            words = [f"--{option}={value}" for option, value in options.items()]
            self.processes.append(spawn([self.binary, *words], self.folder / f"{name}.log"))
        for client, process in zip(clients, self.processes, strict=True):
            wait(partial(healthy, client), process, self.folder)
        watched = [f"--process={name}={process.pid}" for name, process in zip(names, self.processes, strict=True)]
        return ["--connect", ",".join(clients), "--target", "etcd", *watched]

    def stop(self):
        """Ends all members."""
        end(self.processes)


class Capstan:
    """Nodes as `capstan up` starts them."""

    def __init__(self, binary, folder, nodes, shards):
        self.binary, self.folder, self.nodes, self.shards = binary, folder, nodes, shards
        self.processes, self.pids = [], []

    def start(self):
        """Starts all nodes and waits until they serve."""
        numbers = range(1, self.nodes + 1)
        base = free_ports([*numbers, *(20 + number for number in numbers)])
        words = ["up", "--data", self.folder / "cluster", "--base-port", base]
        words += ["--nodes", self.nodes, "--shards", self.shards]
        log = self.folder / "up.log"
        up = spawn([self.binary, *words], log)
        self.processes.append(up)
        wait(lambda: "\nReady" in "\n" + log.read_text(), up, self.folder)
        addresses = ",".join(f"127.0.0.1:{base + number}" for number in numbers)
        status = run([self.binary, "cluster", "status", "--json", "--connect", addresses])
        self.pids = [node["pid"] for node in status["nodes"]]
        return ["--connect", addresses]

    def stop(self):
        """Ends all nodes: `up` does, when it ends."""
        end(self.processes)
        until = time.monotonic() + STOP_SECONDS
        while left := [pid for pid in self.pids if lives(pid)]:
            if time.monotonic() > until:
                raise Failed(f"nodes still run after {STOP_SECONDS} s: kill {' '.join(map(str, left))}")
            time.sleep(0.05)


def run(words):
    """Runs a command of capstan and returns the object that it prints."""
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True, stdin=subprocess.DEVNULL)
    if done.returncode != 0:
        command = " ".join(map(str, words[1:]))
        raise Failed(f"capstan {command}: exit code {done.returncode}: {done.stderr.strip()}")
    return json.loads(done.stdout)


def spawn(words, log):
    """Starts a process that ends with this one."""
    with open(log, "wb") as output:
        words = ["setpriv", "--pdeathsig", "TERM", "--", *map(str, words)]
        return subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT)


def end(processes):
    """Asks processes to end, and after a while ends them."""
    for process in processes:
        process.terminate()
    for process in processes:
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def wait(is_ready, process, folder):
    """Waits until something holds that a process brings about."""
    until = time.monotonic() + READY_SECONDS
    while not is_ready():
        if process.poll() is not None or time.monotonic() > until:
            logs = "\n".join(log.read_text()[-2000:] for log in sorted(folder.glob("*.log")))
            raise Failed(f"a cluster did not become ready; it said:\n{logs}")
        time.sleep(0.05)


def healthy(address):
    """Whether a member of etcd knows a leader and can write."""
    try:
        with urllib.request.urlopen(f"http://{address}/health", timeout=5) as answer:
            return json.load(answer).get("health") == "true"
    except (OSError, urllib.error.URLError, ValueError):
        return False


def lives(pid):
    """Whether there is such a process that has not ended."""
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def free_ports(offsets):
    """A base from which the ports at all these offsets are free."""
    for _ in range(100):
        base = random.choice(PORTS)
        if all(is_free(base + offset) for offset in offsets):
            return base
    raise Failed(f"found no {len(offsets)} free ports between {PORTS.start} and {PORTS.stop}")


def is_free(port):
    """Whether a server can listen on a port of loopback."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
            return True
        except OSError:
            return False
