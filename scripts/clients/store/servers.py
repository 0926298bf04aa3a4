"""The table, and a store of several nodes."""

import contextlib
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time

import grpc

import lab
import wire

SERVICE = "distributedstore.KeyValueStore"
WIRE = wire.Wire("""
/distributedstore.KeyValueStore/put | {string key=1; string value=2} | {bool success=1}
/distributedstore.KeyValueStore/get | {string key=1} | {string value=1; bool found=2}
/distributedstore.KeyValueStore/slowDown | {int32 seconds=1} | {bool success=1}
/distributedstore.KeyValueStore/restore | {} | {bool success=1}
""")
# Every call is answered within this, whatever happens to other nodes; of it, a busy machine may take some.
ANSWER_SECONDS_MAX = 5
# What this machine may be late by itself.
LATE_SECONDS = 1


class Node:
    """A node of a store: its port, and a client of it."""

    def __init__(self, name, port):
        self.name, self.port = name, port
        self.channel = wire.channel(f"127.0.0.1:{port}")
        self.calls = WIRE.client(SERVICE, self.channel)

    def listens(self):
        with socket.socket() as one:
            return one.connect_ex(("127.0.0.1", self.port)) == 0

    def put(self, key, value):
        """Whether it was stored; `None` = the node said that it does not know, or cannot be asked."""
        try:
            return timed(f"put at {self.name}", lambda: self.calls.put(key=key, value=value)).success
        except grpc.RpcError:
            return None

    def get(self, key):
        """The value; `False` = there is none; `None` = the node could not say."""
        try:
            answer = timed(f"get at {self.name}", lambda: self.calls.get(key=key))
        except grpc.RpcError:
            return None
        return answer.value if answer.found else False


def timed(what, call):
    """Calls, and requires that the answer (a failure is one) comes in its time."""
    begin = time.monotonic()
    try:
        return call()
    finally:
        took = time.monotonic() - begin
        lab.check_that(f"{what}: answered within {ANSWER_SECONDS_MAX} s", took < ANSWER_SECONDS_MAX + LATE_SECONDS, took)


class Running:
    """`capstan classic store FILE --data DIR`, of nodes of these names. It may be ended and started again."""

    def __init__(self, names):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="capstan-lab-"))
        self.file = self.folder / "store.yaml"
        self.nodes = [Node(name, lab.free_port()) for name in names]
        self.process = None

    def __enter__(self):
        try:
            self.start()
            lab.until("the store serves", lambda: "store: serving" in self.said())
        except BaseException:
            self.leave()
            raise
        return self

    def __exit__(self, kind, *_):
        self.leave()
        if kind is None:
            lab.check("the store on stdout", self.printed, "")

    def start(self):
        """Starts it, and returns at once."""
        command = [lab.CAPSTAN, "classic", "store", str(self.file), "--data", str(self.folder / "data")]
        with (self.folder / "stdout").open("ab") as out, (self.folder / "stderr").open("ab") as err:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=err)

    def listens(self):
        """Whether all ports are open."""
        if self.process.poll() is not None:
            lab.fail(f"the store ended with {self.process.returncode}: {self.said()}")
        return all(node.listens() for node in self.nodes)

    def said(self):
        return (self.folder / "stderr").read_text(errors="replace")

    def pid(self, node):
        """The process of a node, once it runs."""
        return lab.until(f"{node.name} runs", lambda: self.pids().get(node.name))

    def pids(self):
        """The process of each node that runs, by its name."""
        found = {}
        children = pathlib.Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        for pid in children:
            try:
                words = pathlib.Path(f"/proc/{pid}/cmdline").read_bytes().decode().split("\0")
            except (FileNotFoundError, ProcessLookupError):
                continue
            if "--name" in words:
                found[words[words.index("--name") + 1]] = int(pid)
        return found

    def send(self, node, number):
        os.kill(self.pid(node), number)

    @contextlib.contextmanager
    def down(self, node):
        """While this lasts the node is killed, and again whenever it is started."""
        over = threading.Event()

        def keep_down():
            while not over.is_set():
                pid = self.pids().get(node.name)
                if pid is not None:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
                over.wait(0.005)

        self.send(node, signal.SIGKILL)
        keeper = threading.Thread(target=keep_down)
        keeper.start()
        try:
            yield
        finally:
            over.set()
            keeper.join()

    def serves(self):
        """Waits until every node takes a put, and has it."""
        def all_take():
            return all(node.put("serves", node.name) and node.get("serves") == node.name for node in self.nodes)

        lab.until("every node serves", all_take)

    def stop(self, number=signal.SIGTERM):
        """Asks it to stop; its exit code."""
        self.process.send_signal(number)
        return self.ended()

    def kill(self):
        """kill -9 of the program, which takes its nodes along."""
        self.process.kill()
        self.process.wait()

    def ended(self):
        try:
            return self.process.wait(lab.PATIENCE_SECONDS)
        except subprocess.TimeoutExpired:
            lab.fail(f"the store goes on for {lab.PATIENCE_SECONDS} s: {self.said()}")

    def leave(self):
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(lab.PATIENCE_SECONDS)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        for node in self.nodes:
            node.channel.close()
        out = self.folder / "stdout"
        self.printed = out.read_text(errors="replace") if out.exists() else ""
        shutil.rmtree(self.folder, ignore_errors=True)


class Store(Running):
    """With a master and some slaves."""

    def __init__(self, slaves=2, ip="127.0.0.1"):
        super().__init__(["master"] + [f"slave_{number}" for number in range(1, slaves + 1)])
        self.master, *self.slaves = self.nodes
        lines = [f"master:\n  ip: {ip}\n  port: {self.master.port}\nslaves:"]
        lines += [f"  - id: {node.name}\n    ip: {ip}\n    port: {node.port}" for node in self.slaves]
        self.file.write_text("\n".join(lines) + "\n")


class Votes(Running):
    """Without a master: of nodes that weigh 1, 2, 1, or as is said."""

    def __init__(self, ids=(0, 1, 2), weights=None, sizes=None, ip="127.0.0.1"):
        super().__init__([f"node_{id}" for id in ids])
        lines = ["nodes:"]
        for id, node, weight in zip(ids, self.nodes, weights or [None] * len(ids), strict=True):
            lines.append(f"  - id: {id}\n    ip: {ip}\n    port: {node.port}")
            if weight is not None:
                lines.append(f"    weight: {weight}")
        if sizes is not None:
            lines.append(f"quorum_sizes: {{read: {sizes[0]}, write: {sizes[1]}}}")
        self.file.write_text("\n".join(lines) + "\n")

    def others(self, node):
        return [other for other in self.nodes if other is not node]
