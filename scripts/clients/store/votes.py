"""A store without a master: nodes that weigh 1, 2, 1 and any of which takes puts and gets; a get needs 2, a put 3."""

import lab
from lab import check, check_that, sentence
from store import ends, rows, slow
from store.servers import Votes


def served(store, nodes, value):
    """These nodes take puts and gets, whoever else is down."""
    for node in nodes:
        check(f"put at {node.name}", node.put("key", f"{value} by {node.name}"), True)
        for other in nodes:
            check(f"get at {other.name}", other.get("key"), f"{value} by {node.name}")


def refused(store, nodes, value):
    """These nodes say no to puts within their time, and the value stays, which is found as before."""
    # A put that was sent before it was noticed who is down may be in doubt; it is one of another key.
    lab.until("puts say no", lambda: all(node.put("other", "new") is False for node in nodes))
    for node in nodes:
        check(f"put at {node.name}", node.put("key", "new"), False)
        for other in nodes:
            check(f"get at {other.name}", other.get("key"), value)


@sentence("Without a master: put answers success, and get finds the value at every node; any text is a key, the empty one too")
def put_and_get():
    with Votes() as store:
        rows.any_text(store)


@sentence("Without a master: every node takes a put, and all have it; one that is too large is no success, and the old value stays")
def put_anywhere():
    with Votes() as store:
        rows.put_at_each(store)
        rows.too_large(store)


@sentence("Without a master: after a start with all ports open the first put succeeds within 2 s, at any node")
def first_put():
    with Votes() as store:
        rows.soon(store, store.nodes)


@sentence("Weights 1, 2, 1: with a light node down puts and gets go on; with the heavy one puts say no within 5 s, and the old value is found")
def each_down():
    with Votes() as store:
        for victim in store.nodes:
            value = f"before {victim.name} is down"
            check("put", store.others(victim)[0].put("key", value), True)
            with store.down(victim):
                if victim is store.nodes[1]:
                    refused(store, store.others(victim), value)
                else:
                    served(store, store.others(victim), f"without {victim.name}")
            store.serves()
            for node in store.nodes:
                check(f"put at {node.name} when all are back", node.put("key", "back"), True)


@sentence("The second node of the file is the heavy one, whatever its id; and weights go with the nodes that they are said of")
def heavy_by_its_place():
    for ids, weights, heavy in (((7, 10, "a"), None, 1), ((10, 9), (2, 1), 0)):
        with Votes(ids, weights, sizes=None if weights is None else (2, 2)) as store:
            victim = store.nodes[heavy]
            check("put", store.others(victim)[0].put("key", "old"), True)
            with store.down(victim):
                refused_or_unread(store, store.others(victim), weights is None)
            store.serves()
            light = store.nodes[0 if heavy else 1]
            with store.down(light):
                served(store, store.others(light), "without a light one")
            store.serves()


def refused_or_unread(store, nodes, may_read):
    """Without the heavy node: puts say no; gets find the old value where those left weigh enough, and are no guess where not."""
    if may_read:
        refused(store, nodes, "old")
        return
    lab.until("puts say no", lambda: all(node.put("other", "new") is False for node in nodes))
    for node in nodes:
        check(f"get at {node.name}", node.get("key"), None)


@sentence("quorum_sizes: where a put needs all and a get one, no put succeeds with a node down, and gets at each of the others do")
def sizes():
    with Votes(weights=(1, 1, 1), sizes=(1, 3)) as store:
        for victim in store.nodes:
            value = f"before {victim.name} is down"
            check("put", store.others(victim)[0].put("key", value), True)
            with store.down(victim):
                refused(store, store.others(victim), value)
            store.serves()


@sentence("Without a master: slowDown has a node answer late until restore; both are answered at once, whatever is in force")
def slow_and_restored():
    with Votes() as store:
        slow.slowed(store)


@sentence("Without a master: a light node that is slow keeps nobody else waiting, and the heavy one keeps all who put, by as much as it is slow")
def slow_for_others():
    with Votes() as store:
        for victim in store.nodes:
            victim.calls.slowDown(seconds=1)
            for node in store.others(victim):
                seconds, answer = slow.took(lambda: node.put("key", node.name))
                check(f"put at {node.name}", answer, True)
                is_heavy = victim is store.nodes[1]
                check_that(f"put at {node.name} while {victim.name} is slow", (seconds >= 1) is is_heavy, seconds)
            victim.calls.restore()


@sentence("Without a master: one key put by 10 workers at all nodes while the heavy node answers 1 s late: all within 60 s, none fails")
def crowd_on_one_key():
    with Votes() as store:
        slow.crowd(store, store.nodes[1], store.nodes)


@sentence("Without a master: a put that waits for a slow node for too long is no success or in doubt within 5 s, never a guess")
def too_slow():
    with Votes() as store:
        check("put", store.nodes[0].put("key", "old"), True)
        store.nodes[1].calls.slowDown(seconds=60)
        for node in (store.nodes[0], store.nodes[2]):
            # `put` requires that it is answered in its time.
            check_that(f"put at {node.name}", node.put("key", node.name) in (False, None), node.name)
        store.nodes[1].calls.restore()

        def agree():
            values = {node.get("key") for node in store.nodes}
            return len(values) == 1 and values <= {"old", "node_0", "node_2"}

        lab.until("all nodes have one value", agree)


@sentence("Without a master: kill -9 of any node: every call is answered in its time, the node comes back, nothing acknowledged is lost")
def killed():
    with Votes() as store:
        ends.kill_each(store, ends.Writes(store.nodes[0]))


@sentence("Without a master: kill -9 of all nodes, and of the program: what was acknowledged is there after the next start")
def all_killed():
    with Votes() as store:
        ends.kill_all(store, ends.Writes(store.nodes[2]))


@sentence("Without a master: a node that stands still never freezes the answers of the others beyond 5 s, and comes along when it goes on")
def frozen():
    with Votes() as store:
        ends.freeze(store, ends.Writes(store.nodes[0]), store.nodes[1:])


@sentence("Without a master: after SIGTERM and Ctrl-C every port is closed when the program has ended, with exit code 0; the data is kept")
def stopped():
    with Votes() as store:
        ends.stop_and_start(store)
