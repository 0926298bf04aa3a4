"""Each row of the table, by grpcio."""

import lab
from lab import check, check_that, sentence
from shards.servers import Shards, refused, value

TEXTS = ["text", "", "two\nlines", "\0", "ü 漢字 🐇", " blanks ", "x" * 70_000]


@sentence("A server that nobody joined has all keys: Put overwrites, Append goes to the right end, a pop takes one character")
def alone():
    with Shards(1) as shards:
        server = shards.servers[0]
        for number, text in enumerate(TEXTS):
            for key in (number, 2**32 - 1 - number):
                server.calls.Put(key=key, value="before")
                server.calls.Put(key=key, value=text)
                check(f"get of {key}", value(server, key), text)
        check("get of nothing", value(server, 50), None)
        for pop in (server.calls.LPop, server.calls.RPop):
            check("pop of nothing", pop(key=50).HasField("value"), False)
        server.calls.Append(key=50, value="a🐇")
        server.calls.Append(key=50, value="c")
        check("after appends", value(server, 50), "a🐇c")
        check("pops", [server.calls.LPop(key=50).value, server.calls.RPop(key=50).value, server.calls.RPop(key=50).value], ["a", "c", "🐇"])
        check("after the last character", value(server, 50), "")
        empty = server.calls.LPop(key=50)
        check("pop of an empty text", (empty.HasField("value"), empty.value), (True, ""))


@sentence("Ranges are contiguous, in join order, equal within one; Query answers the text of Join; other keys are absent or refused")
def ranges():
    with Shards(3, kept=False) as shards:
        master, servers = shards.master, shards.servers
        check("Query without servers", master.calls.Query(key=7).server, "")
        servers[0].calls.Put(key=7, value="before")
        for count, server in enumerate(servers, 1):
            shards.join(server)
            found = shards.ranges()
            check(f"order of {count}", [text for text, _, _ in found], [each.address for each in servers[:count]])
            sizes = [last - first + 1 for _, first, last in found]
            check_that(f"sizes of {count}", max(sizes) - min(sizes) <= 1, sizes)
            for key in (0, 33, 34, 50, 51, 67, 100, 4_000):
                shards.owner(key).calls.Put(key=key, value=f"of {count}")
            for key in (101, 2**32 - 1):
                check(f"the last range has {key}", shards.owner(key), server)
        check("what a server had goes along", value(shards.owner(7), 7), "before")
        servers[0].calls.Put(key=0, value="zero")
        for other in servers[1:]:
            check("get elsewhere", value(other, 0), None)
            refused("put elsewhere", lambda: other.calls.Put(key=0, value="x"))
            refused("append elsewhere", lambda: other.calls.Append(key=0, value="x"))
            refused("pop elsewhere", lambda: other.calls.LPop(key=0))
        check("join again", [shards.join(servers[0]), shards.ranges()][1][0][0], servers[0].address)


@sentence("Leave moves the data; the last server's stays with the master until the next Join; who left serves all keys, with nothing")
def leaving():
    with Shards(2) as shards:
        one, two = shards.servers
        shards.join(one, two)
        for key in (0, 50, 51, 100, 5_000):
            shards.owner(key).calls.Put(key=key, value=f"v{key}")
        shards.master.calls.Leave(server=one.address)
        # It may end at once.
        one.kill()
        for key in (0, 50, 51, 100, 5_000):
            check(f"get of {key}", value(two, key), f"v{key}")
        shards.master.calls.Leave(server=two.address)
        check("nobody has a key", shards.ranges(), [("", 0, 100)])
        lab.until("who left serves all keys", two.serves)
        check("who left", value(two, 0), None)
        one.start()
        two.calls.Put(key=3, value="of two")
        shards.join(one)
        for key in (0, 50, 51, 100, 5_000):
            check(f"get of {key}", value(one, key), f"v{key}")
        shards.join(two)
        check("what it had", value(shards.owner(3), 3), "of two")


@sentence("Redistribute moves lower to upper to another server, which overwrites; Transfer overwrites")
def moved():
    with Shards(2) as shards:
        here, there = shards.servers
        for key in (4, 5, 6, 100, 101, 900):
            here.calls.Put(key=key, value=f"v{key}")
        there.calls.Put(key=5, value="old")
        here.calls.Redistribute(destination_server=there.address, lower_val=5, upper_val=101)
        check("here", [value(here, key) for key in (4, 5, 6, 100, 101, 900)], ["v4", None, None, None, None, "v900"])
        check("there", [value(there, key) for key in (4, 5, 6, 100, 101, 900)], [None, "v5", "v6", "v100", "v101", None])
        there.transfer([(5, "new"), (1, ""), (5, "newer")])
        check("after Transfer", [value(there, 5), value(there, 1)], ["newer", ""])
        refused("no range", lambda: here.calls.Redistribute(destination_server=there.address, lower_val=6, upper_val=5))
        refused("nobody there", lambda: here.calls.Redistribute(destination_server=f"localhost:{lab.free_port()}", lower_val=0, upper_val=9))
        check("nothing is lost", value(here, 4), "v4")
