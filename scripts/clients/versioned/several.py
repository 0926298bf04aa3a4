"""Servers that share a store."""

import time

import lab
from lab import check, check_that, sentence
from versioned.servers import Servers, answered


def seen(servers, key, wanted):
    for server in servers:
        lab.until(f"{key} is {wanted} at each", lambda server=server: answered(server.get, key) == wanted)


@sentence("A put at each server is read at all, with its version; Del and Trim at one hold at all")
def shared():
    with Servers(3) as servers:
        for number, server in enumerate(servers.all):
            put = server.calls.Put(key="k", val=str(number))
            check("it replaced the one before", put.old_val, str(number - 1) if number else "")
            seen(servers.all, "k", (str(number), put.ver))
        first, second, third = servers.all
        check("Trim at another", second.calls.Trim(key="k").val, "2")
        for server in servers.all:
            lab.until("nothing before is left", lambda server=server: answered(server.get, "k", put.ver - 1) == ("", 0))
        check("Del at a third", third.calls.Del(key="k").val, "2")
        seen(servers.all, "k", ("", 0))


@sentence("With one server killed the others go on; it comes back with all that was written, deletes and trims among it, before it answers")
def returns():
    with Servers(3) as servers:
        victim, *others = servers.all
        kept = others[0].put("kept", "1")
        others[0].put("gone", "1")
        seen(servers.all, "gone", ("1", others[0].get("gone")[1]))
        victim.kill()
        lab.until("a put is taken", lambda: answered(others[0].put, "new", "2"))
        lab.until("a del is taken", lambda: answered(lambda: others[1].calls.Del(key="gone")))
        newer = lab.until("a put is taken", lambda: answered(others[1].put, "kept", "3"))
        lab.until("a trim is taken", lambda: answered(lambda: others[1].calls.Trim(key="kept")))
        victim.start()
        # It is not asked until it is ready: its first answer must be right.
        found = lab.until("it answers", lambda: answered(victim.get, "kept"))
        check("its first answer", found, ("3", newer))
        check("the version that was trimmed", victim.get("kept", kept), ("", 0))
        check("what was removed", victim.get("gone"), ("", 0))
        check("what came", victim.get("new")[0], "2")


@sentence("All servers are killed, and started again in another order: everything is there")
def all_killed():
    with Servers(3) as servers:
        vers = [server.put(f"k{number}", str(number)) for number, server in enumerate(servers.all)]
        servers.all[0].put("k0", "again")
        for server in servers.all:
            server.kill()
        servers.start(servers.all[::-1])
        begin = time.monotonic()
        for server in servers.all:
            for number, ver in enumerate(vers):
                wanted = (str(number), ver)
                lab.until("the version is there", lambda server=server, number=number, ver=ver, wanted=wanted: answered(server.get, f"k{number}", ver) == wanted)
        check_that("within 15 s", time.monotonic() - begin < 15, time.monotonic() - begin)
