"""Servers that share a range: who follows whom, and with what."""

import grpc

import lab
from lab import check, check_that, sentence
from shards.moves import Writer, checked
from shards.servers import Groups, Shards, refused, value, value_or_none


@sentence("The first N servers that come by JoinReplica are masters, later ones replicas with the same data; a killed or leaving master is followed")
def followed():
    with Groups(2) as shards:
        (first, _), (second, _), (follower, _), (other, _) = came = [shards.come("--consistency", "1") for _ in range(4)]
        check("replicas", [is_replica for _, is_replica in came], [False, False, True, True])
        check("masters", [text for text, _, _ in shards.ranges()], [first.address, second.address])
        first.calls.Put(key=5, value="five")
        check("a write is at the replica when it is answered", value(follower, 5), "five")
        refused("put at a replica", lambda: follower.calls.Put(key=5, value="x"))
        check("named for GET", shards.named(5), {first, follower})
        check("named for others", [shards.named(5, operation) for operation in (1, 2, 3, 4)], 4 * [{first}])
        first.kill()
        lab.until("the replica follows", lambda: shards.owner(5) is follower)
        writer = Writer(shards, 6)
        writer.append(1)
        check("nothing is lost", [value(follower, 5), value(follower, 6)], ["five", "1,"])
        first.start()
        lab.until("it comes back", lambda: value_or_none(first, 6) == "1,")
        shards.master.calls.Leave(server=first.address)
        check("who follows", shards.owner(5), follower)
        check("after the leave", value(follower, 5), "five")
        check("the other group", shards.named(100), {second, other})


@sentence("A write waits for as many secondaries as --consistency says and there are: masters that are killed one after the other lose nothing")
def killed():
    with Groups(1) as shards:
        for _ in range(3):
            shards.come("--consistency", "1")
        check("named for GET", shards.named(5), set(shards.servers))
        writers = [Writer(shards, key) for key in (0, 50, 4_000)]
        for writer in writers:
            writer.start()
        left = list(shards.servers)
        while len(left) > 1:
            done = [writer.done for writer in writers]
            lab.until("all append", lambda: all(writer.done > before + 20 for writer, before in zip(writers, done)))
            gone = shards.owner(5)
            left.remove(gone)
            gone.kill()
            lab.until("another follows", lambda: shards.owner(5) in left)
        checked(writers)
        for server in shards.servers:
            if server not in left:
                server.start()
        for server in shards.servers:
            wanted = "".join(f"{number}," for number in range(1, writers[0].done + 1))
            lab.until("all have it", lambda server=server: value_or_none(server, 0) == wanted)


@sentence("With --consistency 0 a write waits for nobody: replicas have it a moment later, and a killed master is back with all of it")
def nobody():
    with Groups(1) as shards:
        master, _ = shards.come("--consistency", "0")
        # The group goes by what its first server says.
        follower, _ = shards.come("--consistency", "1")
        for number in range(5):
            master.calls.Append(key=7, value=str(number))
        lab.until("the replica has it", lambda: value_or_none(follower, 7) == "01234")
        check("of what is not there", value(follower, 8), None)
        follower.kill()
        master.calls.Append(key=7, value="5")
        master.kill()
        master.start()
        lab.until("it is read", lambda: value_or_none(master, 7) == "012345")
        follower.start()
        lab.until("the replica has it", lambda: value_or_none(follower, 7) == "012345")
        master.calls.Put(key=7, value="")
        lab.until("the replica has it", lambda: value_or_none(follower, 7) == "")


@sentence("With --consistency 0 a killed master is followed by a replica too; what only the master had is not shown when it is back")
def lost():
    with Groups(1) as shards:
        came = [shards.come("--consistency", "0")[0] for _ in range(3)]
        master, others = came[0], came[1:]
        master.calls.Put(key=7, value="early")
        for other in others:
            lab.until("the replica has it", lambda other=other: value_or_none(other, 7) == "early")
        master.calls.Put(key=8, value="late")
        master.kill()
        lab.until("a replica follows", lambda: shards.owner(7) in others)
        follower = shards.owner(7)
        lab.until("what all had is there", lambda: value_or_none(follower, 7) == "early")
        writer = Writer(shards, 9)
        writer.append(1)
        kept = value(follower, 8)
        check_that("the last write", kept in (None, "late"), kept)
        master.start()
        for other in came:
            lab.until("all have the same", lambda other=other: value_or_none(other, 9) == "1,")
            lab.until("and of the last write too", lambda other=other: value_or_none(other, 8) == kept)


@sentence("AddReplica takes a server into the group of the one that is asked, RemoveReplica takes it out, and what clients write meanwhile is there")
def added():
    with Groups(2) as shards:
        first, _ = shards.come()
        second, _ = shards.come()
        one, two = shards.alone(), shards.alone()
        two.calls.Put(key=100, value="not lost")
        writers = [Writer(shards, key) for key in (0, 5, 100)]
        for writer in writers[:2]:
            writer.start()
        first.calls.AddReplica(server=one.address)
        check("named for GET", shards.named(5), {first, one})
        check_that("the data is there", value(one, 5), value(one, 5))
        # Any server of the group may be asked.
        one.calls.AddReplica(server=two.address)
        check("named for GET", shards.named(5), {first, one, two})
        check("what it had goes along", value(second, 100), "not lost")
        first.calls.RemoveReplica(server=one.address)
        check("named for GET", shards.named(5), {first, two})
        lab.until("who is out serves all keys", one.serves)
        check("with nothing", value(one, 5), None)
        two.calls.RemoveReplica(server=first.address)
        check("who follows", shards.owner(5), two)
        checked(writers[:2])
        second.calls.AddReplica(server=first.address)
        second.calls.Put(key=100, value="p")
        check("a write is at the replica when it is answered", value(first, 100), "p")


@sentence("AddReplica and RemoveReplica of what cannot be: refused with a text, and nothing changes")
def wrong():
    codes = grpc.StatusCode
    with Groups(2) as shards, Shards(2) as other:
        (first, _), (second, _), alone = shards.come(), shards.come(), shards.alone()
        other.join(other.servers[0])
        before = shards.ranges()
        calls = first.calls
        nobody = f"localhost:{lab.free_port()}"
        for what, call, server, code in [
            ("add of no address", calls.AddReplica, "nonsense", codes.INVALID_ARGUMENT),
            ("add of nobody", calls.AddReplica, nobody, codes.UNAVAILABLE),
            ("add of itself", calls.AddReplica, first.address, codes.INVALID_ARGUMENT),
            ("add of another group's", calls.AddReplica, second.address, codes.FAILED_PRECONDITION),
            ("add of another master's", calls.AddReplica, other.servers[0].address, codes.FAILED_PRECONDITION),
            ("add at a lone server", alone.calls.AddReplica, nobody, codes.FAILED_PRECONDITION),
            ("add where there are no groups", other.servers[0].calls.AddReplica, other.servers[1].address, codes.FAILED_PRECONDITION),
            ("removal of no address", calls.RemoveReplica, "", codes.INVALID_ARGUMENT),
            ("removal of nobody", calls.RemoveReplica, nobody, codes.INVALID_ARGUMENT),
            ("removal of itself", calls.RemoveReplica, first.address, codes.INVALID_ARGUMENT),
            ("removal of another group's", calls.RemoveReplica, second.address, codes.FAILED_PRECONDITION),
            ("removal at a lone server", alone.calls.RemoveReplica, nobody, codes.FAILED_PRECONDITION),
        ]:
            refused(what, lambda: call(server=server), code)
        check("ranges", shards.ranges(), before)
        calls.AddReplica(server=alone.address)
        refused("add again", lambda: calls.AddReplica(server=alone.address), codes.FAILED_PRECONDITION)
        check("named for GET", shards.named(5), {first, alone})
