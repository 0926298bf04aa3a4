"""Many keys in one call, large texts, many clients at once."""

import contextlib
import multiprocessing
import os
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import grpc
from grpc import StatusCode

import lab
import wire
from lab import check, check_that, sentence
from pairs.servers import CENTRAL, PAIRS, VALUE_BYTES_MAX, WIRE, central_server, fill, foreign, pair_server, refused, registered_by

KEYS = 100_000
# What a server may hold at most while 100,000 keys pass through it: they are 2 MB of keys and texts.
MEMORY_BYTES_MAX = 300 << 20
# The most keys that an Activate says at a time.
PAGE_KEYS_MAX = 10_000
CLIENTS = 1000
CLIENT_PROCESSES = 4
# The keys that all of them insert.
CONTESTED = range(5)


@sentence("100,000 keys are activated in one call, a page at a time, in bounded memory of both servers")
def activate_many():
    first = -KEYS // 2
    pages = []

    def register(request, _):
        pages.append(list(request.keys))
        return {"result": len(request.keys)}

    with pair_server("--activate") as pair, central_server() as central:
        insert_many(pair, first)
        with foreign(CENTRAL, Register=register) as other:
            check("Activate at a foreign central server", pair.calls.Activate(host=other).result, KEYS)
        check_that("keys said at a time", max(map(len, pages)) <= PAGE_KEYS_MAX, [len(page) for page in pages])
        check_that("all keys are said once, in order", sum(pages, []) == list(range(first, first + KEYS)), [p[:3] for p in pages])
        check("Activate", pair.calls.Activate(host=central.address).result, KEYS)
        for key in (first, -1, 0, first + PAGE_KEYS_MAX, first + KEYS - 1):
            host = central.calls.Map(key=key).host
            check_that(f"owner of {key}", registered_by(pair, host), host)
        check("Map of a key outside", central.calls.Map(key=first + KEYS).host, "")
        for server in (pair, central):
            most = server.memory_bytes_max()
            check_that(f"memory of the {server.arguments[0]} in MiB", most <= MEMORY_BYTES_MAX, most >> 20)
        check("Terminate of the central server", central.calls.Terminate().result, KEYS)


def insert_many(pair, first):
    """Has several pair-clients insert KEYS keys from files, which is faster than Python is."""
    clients = 8
    parts = [range(first + part, first + KEYS, clients) for part in range(clients)]
    feeds = ["".join(f"I,{key},text {key}\n" for key in part).encode() for part in parts]
    with ThreadPoolExecutor(clients) as threads:
        runs = threads.map(lambda feed: lab.run("pair-client", pair.address, feed=feed, as_file=True, seconds=300), feeds)
        for ran in runs:
            check("a pair-client with many lines", (ran.code, ran.err, set(ran.out.split())), (0, "", {b"0"}))
            check("lines that it printed", ran.out.count(b"\n"), KEYS // clients)


@sentence("Register takes 100,000 keys in one foreign message")
def register_many():
    with central_server() as central:
        keys = range(-KEYS // 2, KEYS // 2)
        check("Register", central.calls.Register(host="a:1", keys=keys).result, KEYS)
        check("Register of all but one again", central.calls.Register(host="b:2", keys=keys[1:]).result, KEYS - 1)
        check("owners", [central.calls.Map(key=keys[at]).host for at in (0, 1, -1)], ["a:1", "b:2", "b:2"])
        most = central.memory_bytes_max()
        check_that("memory in MiB", most <= MEMORY_BYTES_MAX, most >> 20)
        check("Terminate", central.calls.Terminate().result, KEYS)


@sentence("--check compares thousands of keys in one call")
def check_many():
    count = 2000
    with pair_server("--activate") as one, pair_server("--activate") as two, central_server("--check") as central:
        fill(one, {key: f"text {key}" for key in range(count)})
        fill(two, {key: f"text {key}" if key % 2 else "another" for key in range(count)})
        check("Activate of the first", one.calls.Activate(host=central.address).result, count)
        check("Activate of the second", two.calls.Activate(host=central.address).result, count // 2)
        for key in (0, 1, count - 2, count - 1):
            host = central.calls.Map(key=key).host
            check_that(f"owner of {key}", registered_by(two if key % 2 else one, host), host)


@sentence("A text of 8 MiB is stored and comes back; a larger one is refused and changes nothing")
def large_texts():
    with pair_server() as pair:
        # Of two bytes each, so that it is bytes that are counted.
        text = "é" * (VALUE_BYTES_MAX // 2)
        check("Insert of 8 MiB", pair.calls.Insert(key=1, value=text).result, 0)
        check_that("Consult gives the same", pair.calls.Consult(key=1).value == text, "another text")
        for more in (1, 4 << 10, 2 << 20, 60 << 20):
            what = f"Insert of {more} bytes more"
            codes = (StatusCode.INVALID_ARGUMENT, StatusCode.RESOURCE_EXHAUSTED, StatusCode.OUT_OF_RANGE)
            refused(what, lambda more=more: pair.calls.Insert(key=2, value=text + "x" * more), *codes)
            check(f"Consult after {what}", pair.calls.Consult(key=2).value, "")
        check("Insert of what is in use", pair.calls.Insert(key=1, value="x").result, -1)
        check("Insert after that", pair.calls.Insert(key=2, value="small").result, 0)


@sentence("1,000 clients at once insert the same keys: for each exactly one gets 0, and its value stays")
def thousand_clients():
    start = multiprocessing.get_context("spawn")
    with pair_server() as pair:
        ready = start.Barrier(CLIENT_PROCESSES + 1)
        answers = start.Queue()
        shares = [range(each, CLIENTS, CLIENT_PROCESSES) for each in range(CLIENT_PROCESSES)]
        clients = [start.Process(target=insert_at_once, args=(pair.address, share, ready, answers)) for share in shares]
        try:
            for client in clients:
                client.start()
            ready.wait(lab.PATIENCE_SECONDS)
            connections = established(pair.process.pid)
            check_that("connections that are open", connections >= CLIENTS, connections)
            ready.wait(lab.PATIENCE_SECONDS)
            got = [answer for _ in clients for answer in answers.get(timeout=lab.PATIENCE_SECONDS)]
        finally:
            for client in clients:
                client.kill()
                client.join()
        for key in CONTESTED:
            results = {client: result for client, asked, result in got if asked == key}
            check(f"how many got which answer for {key}", Counter(results.values()), {0: 1, -1: CLIENTS - 1})
            first = next(client for client, result in results.items() if result == 0)
            check(f"the value of {key} that stays", pair.calls.Consult(key=key).value, f"client {first}")


def insert_at_once(address, share, ready, answers):
    """A process with a connection for each client of its share: all connect, then all insert."""
    channels = {client: wire.channel(address) for client in share}
    for channel in channels.values():
        grpc.channel_ready_future(channel).result(lab.PATIENCE_SECONDS)
    ready.wait(lab.PATIENCE_SECONDS)
    # The test counts the connections here.
    ready.wait(lab.PATIENCE_SECONDS)
    calls = {client: WIRE.client(PAIRS, channel).Insert for client, channel in channels.items()}
    asked = [(client, key, calls[client].future(key=key, value=f"client {client}")) for key in CONTESTED for client in share]
    answers.put([(client, key, future.result().result) for client, key, future in asked])


def established(pid):
    """How many sockets a process has open."""
    links = []
    for entry in os.scandir(f"/proc/{pid}/fd"):
        with contextlib.suppress(FileNotFoundError):
            links.append(os.readlink(entry.path))
    return sum(link.startswith("socket:") for link in links)
