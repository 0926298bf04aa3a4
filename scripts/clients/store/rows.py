"""Each row of the table, by grpcio."""

import time

import grpc

import lab
import wire
from lab import check, check_that, sentence
from store.servers import SERVICE, WIRE, Store

TEXTS = ["text", "", "a,b,,c", "two\nlines\r\n", "\0", "ü 漢字 🐇", " blanks ", "x" * 70_000]


@sentence("put answers success, and get finds the value at every node; any text is a key, the empty one too")
def put_and_get():
    with Store() as store:
        any_text(store)


def any_text(store):
    first = store.nodes[0]
    for node in store.nodes:
        check(f"get of nothing at {node.name}", node.get("none"), False)
    for index, key in enumerate(["key", "", "{tag}k", "ü 漢字 🐇", "a b", "\n", "k" * 16_000]):
        text = TEXTS[index % len(TEXTS)]
        check(f"put of {key[:20]!r}", first.put(key, text), True)
        for node in store.nodes:
            check(f"get of {key[:20]!r} at {node.name}", node.get(key), text)
    check("put again", first.put("key", "other"), True)
    for node in store.nodes:
        check(f"get at {node.name} at the end", node.get("key"), "other")


@sentence("A slave passes a put on")
def put_at_a_slave():
    with Store() as store:
        put_at_each(store)


def put_at_each(store):
    for number, node in enumerate(store.nodes):
        check(f"put at {node.name}", node.put("key", str(number)), True)
        for other in store.nodes:
            check(f"get at {other.name}", other.get("key"), str(number))


@sentence("A put that cannot be answers success = false, and the old value stays")
def put_too_large():
    with Store(slaves=1) as store:
        too_large(store)


def too_large(store):
    first = store.nodes[0]
    check("put", first.put("key", "old"), True)
    check("put of more than a value may have", first.put("key", "x" * ((8 << 20) + 1)), False)
    check("put under a key that is too long", first.put("k" * (16 << 10), "v"), False)
    for node in store.nodes:
        check(f"get at {node.name}", node.get("key"), "old")


@sentence("After a start with all ports open the first put succeeds within 2 s")
def first_put():
    with Store() as store:
        soon(store, [store.master] * 3)


def soon(store, first):
    """Starts it again for each of these nodes, which is asked at once."""
    for node in first:
        check("exit code", store.stop(), 0)
        store.start()
        lab.until("all ports are open", store.listens)
        begin = time.monotonic()
        check(f"the first put, at {node.name}", node.put("key", "first"), True)
        took = time.monotonic() - begin
        check_that("it took less than 2 s", took < 2, took)


@sentence("localhost is answered at 127.0.0.1, and at [::1] where this machine has it")
def localhost():
    with Store(ip="localhost") as store:
        hosts = ["127.0.0.1", "localhost"] + (["[::1]"] if lab.has_ipv6() else [])
        for host in hosts:
            with wire.channel(f"{host}:{store.master.port}") as channel:
                calls = WIRE.client(SERVICE, channel)
                check(f"put through {host}", calls.put(key=host, value=host).success, True)
                check(f"get through {host}", calls.get(key=host).value, host)


@sentence("A text that is no UTF-8 is a status and changes nothing")
def no_text():
    with Store(slaves=1) as store:
        raw = store.master.channel.unary_unary(f"/{SERVICE}/put")
        try:
            raw(b"\x0a\x02\xff\xfe\x12\x01v", timeout=5)
        except grpc.RpcError as error:
            check_that("there is a text", bool(error.details()), error.details())
        else:
            lab.fail("a key that is no text was taken")
        check("the next put", store.master.put("k", "v"), True)
