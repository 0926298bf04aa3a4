"""Nodes that answer late, as a client wants it."""

import time
from concurrent.futures import ThreadPoolExecutor

from lab import check, check_that, sentence
from store.servers import LATE_SECONDS, Store


def took(call):
    """How long it takes, in seconds, and what it answers."""
    begin = time.monotonic()
    answer = call()
    return time.monotonic() - begin, answer


@sentence("slowDown has a node answer late until restore; both are answered at once, whatever is in force")
def slow_and_restored():
    with Store() as store:
        slowed(store)


def slowed(store):
    check("put", store.nodes[0].put("key", "value"), True)
    for node in store.nodes:
        seconds, answer = took(lambda: node.calls.slowDown(seconds=2).success)
        check(f"slowDown of {node.name}", answer, True)
        check_that("it is answered at once", seconds < LATE_SECONDS, seconds)
        seconds, answer = took(lambda: node.get("key"))
        check(f"get at {node.name}", answer, "value")
        check_that("it is answered 2 s late", 2 <= seconds, seconds)
        seconds, answer = took(lambda: node.calls.slowDown(seconds=1).success)
        check(f"slowDown of {node.name} again", answer, True)
        check_that("it is answered at once", seconds < LATE_SECONDS, seconds)
        seconds, answer = took(lambda: node.calls.restore().success)
        check(f"restore of {node.name}", answer, True)
        check_that("it is answered at once", seconds < LATE_SECONDS, seconds)
        seconds, answer = took(lambda: node.get("key"))
        check(f"get at {node.name} after restore", answer, "value")
        check_that("it is answered at once", seconds < LATE_SECONDS, seconds)


@sentence("restore ends at once what is waited for")
def restored_while_waiting():
    with Store() as store:
        slave = store.slaves[0]
        check("put", store.master.put("key", "value"), True)
        slave.calls.slowDown(seconds=3)
        waiting = slave.calls.get.future(key="key")
        time.sleep(0.2)
        check_that("it waits", not waiting.done(), waiting)
        slave.calls.restore()
        seconds, answer = took(waiting.result)
        check("get", answer.value, "value")
        check_that("it is answered at once", seconds < LATE_SECONDS, seconds)


@sentence("slowDown by less than nothing, or by more than an hour, is no success and changes nothing")
def slow_that_cannot_be():
    with Store(slaves=1) as store:
        for seconds in (-1, -(2**31), 3601, 2**31 - 1):
            check(f"slowDown by {seconds}", store.master.calls.slowDown(seconds=seconds).success, False)
        check("slowDown by 0", store.master.calls.slowDown(seconds=0).success, True)
        seconds, answer = took(lambda: store.master.put("key", "value"))
        check("put", answer, True)
        check_that("it is answered at once", seconds < LATE_SECONDS, seconds)


@sentence("One key put by 10 workers while one slave answers 1 s late: all within 60 s, none fails")
def crowd_on_one_key():
    with Store() as store:
        crowd(store, store.slaves[0], [store.master])


def crowd(store, slow, asked):
    """Ten workers at work on one key, at these nodes in turn, while one answers late."""
    slow.calls.slowDown(seconds=1)

    def worker(number):
        return [asked[number % len(asked)].put("key", f"{number}.{turn}") for turn in range(5)]

    with ThreadPoolExecutor(10) as workers:
        seconds, answers = took(lambda: [done for turns in workers.map(worker, range(10)) for done in turns])
    check("answers", set(answers), {True})
    check_that("all within 60 s", seconds < 60, seconds)
    slow.calls.restore()
    values = {node.get("key") for node in store.nodes}
    check_that("all nodes have one value", len(values) == 1 and None not in values, values)
