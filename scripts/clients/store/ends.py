"""Nodes that are killed, frozen and stopped, and the program itself."""

import signal
import time

import lab
from lab import check, check_that, sentence
from store.servers import Store


def stored(store, seen):
    """Whether every node has the last value that was acknowledged, or one that was in doubt since."""
    def all_have():
        return all(node.get("key") in seen for node in store.nodes)

    lab.until(f"every node has one of {seen}", all_have)


class Writes:
    """Puts of rising numbers under one key: which value the key may have now."""

    def __init__(self, node):
        self.node, self.number, self.may_be = node, 0, [False]

    def put(self):
        self.number += 1
        value = str(self.number)
        success = self.node.put("key", value)
        if success:
            self.may_be = [value]
        elif success is None:
            self.may_be.append(value)
        return success


@sentence("kill -9 of any node: every call is answered in its time, the node comes back, and nothing acknowledged is lost")
def killed():
    with Store() as store:
        kill_each(store, Writes(store.master))


def kill_each(store, writes):
    for victim in reversed(store.nodes):
        lab.until("a put succeeds", writes.put)
        before = store.pid(victim)
        store.send(victim, signal.SIGKILL)
        for _ in range(5):
            writes.put()
            for node in store.nodes:
                got = node.get("key")
                check_that(f"get at {node.name}", got is None or got in writes.may_be, (got, writes.may_be))
        lab.until(f"{victim.name} is started again", lambda: store.pids().get(victim.name, before) != before)
        store.serves()
        stored(store, writes.may_be)


@sentence("kill -9 of all nodes, and of the program: what was acknowledged is there after the next start")
def all_killed():
    with Store() as store:
        kill_all(store, Writes(store.master))


def kill_all(store, writes):
    for _ in range(2):
        lab.until("a put succeeds", writes.put)
        for node in store.nodes:
            store.send(node, signal.SIGKILL)
        store.serves()
        stored(store, writes.may_be)
        lab.until("a put succeeds", writes.put)
        store.kill()
        store.start()
        lab.until("all ports are open", store.listens)
        store.serves()
        stored(store, writes.may_be)


@sentence("A node that stands still never freezes the answers of the others beyond 5 s, and comes along when it goes on")
def frozen():
    with Store() as store:
        freeze(store, Writes(store.master), (store.slaves[1], store.master))


def freeze(store, writes, victims):
    lab.until("a put succeeds", writes.put)
    for victim in victims:
        store.send(victim, signal.SIGSTOP)
        others = [node for node in store.nodes if node is not victim]
        end = time.monotonic() + 8
        while time.monotonic() < end:
            for node in others:
                # `put` and `get` require that they are answered in their time.
                if node is writes.node:
                    writes.put()
                got = node.get("key")
                check_that(f"get at {node.name}", got is None or got in writes.may_be, (got, writes.may_be))
        store.send(victim, signal.SIGCONT)
        store.serves()
        stored(store, writes.may_be)


@sentence("After SIGTERM and Ctrl-C every port is closed when the program has ended, with exit code 0, and the data is kept")
def stopped():
    with Store() as store:
        stop_and_start(store)


def stop_and_start(store):
    for number in (signal.SIGTERM, signal.SIGINT):
        check("put", store.nodes[0].put("key", str(number)), True)
        check(f"exit code after signal {number}", store.stop(number), 0)
        for node in store.nodes:
            lab.bind(node.port)
        store.start()
        lab.until("all ports are open", store.listens)
        for node in store.nodes:
            check(f"get at {node.name}", lab.until("a get is answered", lambda: node.get("key")), str(number))
