"""Each row of the table, by grpcio."""

import queue
import time

import grpc

import lab
import wire
from lab import check, check_that, sentence
from versioned.servers import PLAIN, SERVICE, WIRE, Server, pair

TEXTS = ["text", "", "a,b,,c", "two\nlines\r\n", "\0", "ü 漢字 🐇", " blanks ", "x" * 70_000]
FUTURE = 2**62


@sentence("Put answers the row that it replaced and the version of its own; Get the newest, or the one at a version")
def put_and_get():
    with Server() as server:
        before = int(time.time() * 1e6)
        for index, key in enumerate(["key", "", "ü 漢字 🐇", "a b", "\n", "k" * 16_000]):
            one, two = TEXTS[index % len(TEXTS)], TEXTS[(index + 1) % len(TEXTS)]
            check(f"get of nothing, {key[:20]!r}", server.get(key), ("", 0))
            first = server.calls.Put(key=key, val=one)
            check("the first put", (first.key, first.old_val, first.old_ver), (key, "", 0))
            second = server.calls.Put(key=key, val=two)
            check("the second put", (second.key, second.old_val, second.old_ver), (key, one, first.ver))
            check_that("versions are microseconds since 1970", before - 5e6 < first.ver < second.ver < before + 120e6, (first.ver, second.ver))
            for ver, wanted in [
                (None, (two, second.ver)), (0, (two, second.ver)), (-5, (two, second.ver)), (FUTURE, (two, second.ver)),
                (second.ver, (two, second.ver)), (second.ver - 1, (one, first.ver)), (first.ver, (one, first.ver)), (first.ver - 1, ("", 0)), (1, ("", 0)),
            ]:
                check(f"get of {key[:20]!r} at {ver}", server.get(key, ver), wanted)


@sentence("Puts that follow each other at once have versions of their own, all of which are read")
def quick():
    with Server() as server:
        puts = list(server.calls.PutAll([{"key": "k", "val": str(number)} for number in range(300)]))
        vers = [put.ver for put in puts]
        check("versions rise", vers, sorted(set(vers)))
        check("each replaced the one before", [put.old_ver for put in puts], [0] + vers[:-1])
        for number in (0, 150, 299):
            check(f"get at the version of put {number}", server.get("k", vers[number]), (str(number), vers[number]))


@sentence("GetRange has both of its ends, in key order; the greater of the two versions counts; a key without a value then has none")
def ranges():
    with Server() as server:
        vers = {key: server.put(key, key.upper()) for key in ["d", "b", "a", "c", "ü"]}
        after = server.put("b", "again")
        rows = {key: (key, key.upper(), vers[key]) for key in vers}
        now = [rows["a"], ("b", "again", after), rows["c"], rows["d"]]
        check("a to d", server.range("a", "d"), now)
        check("from the empty text", server.range("", "d"), now)
        check("b to c", server.range("b", "c"), now[1:3])
        check("one key", server.range("b", "b"), [now[1]])
        check("between keys", server.range("aa", "bb"), [now[1]])
        check("the wrong way round", server.range("d", "a"), [])
        check("nothing there", server.range("x", "z"), [])
        then = [("a", "", 0), rows["b"], ("c", "", 0), rows["d"]]
        check("at a version", server.range("a", "d", vers["b"]), then)
        check("in the future", server.range("a", "d", FUTURE), now)
        reply = server.calls.GetRange(fr={"key": "a", "ver": vers["b"]}, to={"key": "d", "ver": 1})
        check("the greater version", [(each.key, *pair(each)) for each in reply], then)
        check("DelRange of b to c", server.range("b", "c", call="DelRange"), now[1:3])
        check("after it", server.range("a", "d"), [rows["a"], rows["d"]])
        check("at a version after it", server.range("a", "d", vers["b"]), [("a", "", 0), rows["d"]])


@sentence("A range of many keys comes as a whole, and DelRange removes them all")
def many():
    with Server() as server:
        keys = [f"{number:05}" for number in range(600)]
        puts = list(server.calls.PutAll([{"key": key, "val": key} for key in keys]))
        check("all are answered", [put.key for put in puts], keys)
        check("GetRange", [key for key, *_ in server.range("", "x")], keys)
        check("at a version", [bool(ver) for _, _, ver in server.range("", "x", puts[300].ver)], [place <= 300 for place in range(600)])
        check("DelRange", [key for key, *_ in server.range("00100", "00499", call="DelRange")], keys[100:500])
        check("what is left", [key for key, *_ in server.range("", "x")], keys[:100] + keys[500:])


@sentence("GetAll and DelAll answer in the order asked, missing ones included; the same key may come twice")
def alls():
    with Server() as server:
        a, b = server.put("a", "1"), server.put("b", "2")
        newer = server.put("a", "3")
        replies = server.calls.GetAll([{"key": "b"}, {"key": "none"}, {"key": "a", "ver": a}, {"key": "a"}, {"key": "b", "ver": a}])
        wanted = [("b", "2", b), ("none", "", 0), ("a", "1", a), ("a", "3", newer), ("b", "", 0)]
        check("GetAll", [(each.key, *pair(each)) for each in replies], wanted)
        check("GetAll of nothing", list(server.calls.GetAll([])), [])
        replies = server.calls.DelAll([{"key": "a"}, {"key": "none"}, {"key": "a"}, {"key": "b"}])
        check("DelAll", [(each.key, *pair(each)) for each in replies], [("a", "3", newer), ("none", "", 0), ("a", "", 0), ("b", "2", b)])
        check("after it", server.range("", "z"), [])


@sentence("A stream is answered message by message: an answer comes before the next request is sent")
def dialogue():
    with Server() as server:
        asked = queue.Queue()
        replies = server.calls.PutAll(iter(asked.get, None))
        for number in range(20):
            asked.put({"key": "k", "val": str(number)})
            check("the old value", next(replies).old_val, str(number - 1) if number else "")
        asked.put(None)
        check("the end", list(replies), [])


@sentence("Del removes a key with its whole history and answers what it removed; a new life has none of the old versions")
def removed():
    with Server() as server:
        first, second = server.put("k", "1"), server.put("k", "2")
        check("Del", pair(server.calls.Del(key="k")), ("2", second))
        check("Del again", pair(server.calls.Del(key="k")), ("", 0))
        for ver in (None, first, second, FUTURE):
            check(f"get at {ver}", server.get("k", ver), ("", 0))
        again = server.calls.Put(key="k", val="3")
        check("a put replaces nothing", (again.old_val, again.old_ver), ("", 0))
        for ver, wanted in ((None, ("3", again.ver)), (second, ("", 0)), (first, ("", 0))):
            check(f"get at {ver}", server.get("k", ver), wanted)


@sentence("Trim keeps the latest value and its version, answers it, and forgets all before it")
def trimmed():
    with Server() as server:
        first, second = server.put("k", "1"), server.put("k", "2")
        check("Trim", pair(server.calls.Trim(key="k")), ("2", second))
        check("Trim again", pair(server.calls.Trim(key="k")), ("2", second))
        check("Trim of nothing", pair(server.calls.Trim(key="none")), ("", 0))
        for ver, wanted in ((None, ("2", second)), (second, ("2", second)), (first, ("", 0))):
            check(f"get at {ver}", server.get("k", ver), wanted)
        third = server.put("k", "3")
        check("what comes after it is kept", server.get("k", third - 1), ("2", second))


@sentence("The service is the same under its name without a package, and at localhost")
def names():
    with Server() as server:
        ver = server.put("k", "1")
        with wire.channel(f"localhost:{server.port}") as channel:
            for service in (PLAIN, SERVICE):
                calls = WIRE.client(service, channel)
                check(f"{service}: Get", pair(calls.Get(key="k")), ("1", ver))
                check(f"{service}: GetAll", [each.val for each in calls.GetAll([{"key": "k"}])], ["1"])
                check(f"{service}: GetRange", [each.val for each in calls.GetRange(fr={"key": "k"}, to={"key": "k"})], ["1"])
                ver = calls.Put(key="k", val="1").ver


@sentence("What cannot be is a status with a text, and changes nothing; of a stream what was answered before is done")
def refused():
    with Server() as server:
        server.put("k", "1")
        raw = server.channel.unary_unary(f"/{SERVICE}/Put")
        large, long = {"key": "k", "val": "x" * ((8 << 20) + 1)}, {"key": "k" * (16 << 10), "val": "v"}
        for what, call in [
            ("a key that is no text", lambda: raw(b"\x0a\x02\xff\xfe\x12\x01v", timeout=20)),
            ("a value that is too large", lambda: server.calls.Put(**large)),
            ("a key that is too long", lambda: server.calls.Put(**long)),
            ("the same in a stream", lambda: list(server.calls.PutAll([{"key": "j", "val": "2"}, long, {"key": "i", "val": "3"}]))),
        ]:
            try:
                call()
            except grpc.RpcError as error:
                check_that(f"{what}: there is a text", bool(error.details()), error.details())
            else:
                lab.fail(f"{what} was taken")
        check("what is there", [(key, val) for key, val, _ in server.range("", "z" * 20)], [("j", "2"), ("k", "1")])
