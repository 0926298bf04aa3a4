"""Servers come and go while clients write, and end by kill -9."""

import threading
import time

import grpc

import lab
from lab import check, sentence
from shards.servers import Program, Shards, refused, value


class Writer(threading.Thread):
    """Appends rising numbers to one key, at whoever has it, and knows which were answered."""

    def __init__(self, shards, key):
        super().__init__(daemon=True)
        self.shards, self.key, self.done, self.ends, self.error = shards, key, 0, False, None

    def run(self):
        try:
            while not self.ends:
                self.append(self.done + 1)
                self.done += 1
        except Exception as error:
            self.error = error

    def append(self, number):
        """Until it has happened, once: what was in doubt is read."""
        until = time.monotonic() + 60
        while time.monotonic() < until:
            owner = self.shards.owner(self.key)
            if owner is None:
                time.sleep(0.02)
                continue
            try:
                owner.calls.Append(key=self.key, value=f"{number},")
                return
            except grpc.RpcError as error:
                if error.code() not in (grpc.StatusCode.FAILED_PRECONDITION, grpc.StatusCode.UNAVAILABLE):
                    if self.is_there(number):
                        return
            time.sleep(0.02)
        raise lab.Failed(f"{number} could not be appended to key {self.key} in a minute")

    def is_there(self, number):
        return lab.until("the key is read", self.read).endswith(f",{number},")

    def read(self):
        owner = self.shards.owner(self.key)
        try:
            found = value(owner, self.key) if owner else None
        except grpc.RpcError:
            return None
        return None if found is None else f",{found}"


def checked(writers):
    for writer in writers:
        writer.ends = True
    for writer in writers:
        writer.join()
        if writer.error:
            raise writer.error
        wanted = "".join(f",{number}" for number in range(1, writer.done + 1)) + ","
        check(f"key {writer.key} after {writer.done} appends", lab.until("it is read", writer.read), wanted)


@sentence("Servers join and leave while clients append: nothing is lost, nothing is doubled")
def load():
    with Shards(3) as shards:
        one, two, three = shards.servers
        shards.join(one)
        writers = [Writer(shards, key) for key in (0, 33, 50, 67, 100, 4_000)]
        for writer in writers:
            writer.start()
        shards.join(two, three)
        shards.master.calls.Leave(server=one.address)
        shards.join(one)
        shards.master.calls.Leave(server=three.address)
        checked(writers)
        check("servers", [text for text, _, _ in shards.ranges()], [two.address, one.address])


@sentence("The first N servers that come by JoinReplica are masters, later ones replicas with the same data; a killed or leaving master is followed")
def groups():
    with Shards(0) as shards:
        shards.master.stop()
        shards.master.options = ["--data", str(shards.folder / "groups"), "--shards", "2"]
        shards.master.start()
        options = ["--shard-master", shards.master.address, "--consistency", "1"]
        roles = []
        for number in range(4):
            server = Program("shard-server", shards.folder / f"server-{number}", options)
            server.options += ["--data", str(server.folder)]
            shards.servers.append(server)
            shards.all.append(server.start())
            roles.append(shards.master.calls.JoinReplica(server=server.address).role)
        check("roles", roles, [0, 0, 1, 1])
        first, second, follower, _ = shards.servers
        check("masters", [text for text, _, _ in shards.ranges()], [first.address, second.address])
        first.calls.Put(key=5, value="five")
        check("a write is at the replica when it is answered", value(follower, 5), "five")
        refused("put at a replica", lambda: follower.calls.Put(key=5, value="x"))
        ask = shards.master.calls.QueryReplica
        named = {ask(key=5, operation=0).server for _ in range(4)}
        check("named for GET", named, {first.address, follower.address})
        check("named for others", {ask(key=5, operation=operation).server for operation in (1, 2, 3, 4)}, {first.address})
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


def value_or_none(server, key):
    try:
        return value(server, key)
    except grpc.RpcError:
        return None


@sentence("kill -9 of the master and of servers with --data: after the next start everything is as it was, and goes on")
def killed():
    with Shards(2) as shards:
        one, two = shards.servers
        shards.join(one, two)
        before = shards.ranges()
        keys = (0, 50, 51, 100, 700)
        for key in keys:
            shards.owner(key).calls.Put(key=key, value=f"v{key}")
        for victims in ((shards.master,), (one,), shards.all):
            for victim in victims:
                victim.kill()
            if victims == (shards.master,):
                check("servers without their master", value(one, 0), "v0")
            for victim in victims:
                victim.start()
            check("ranges", lab.until("the master knows its servers", shards.ranges), before)
            for key in keys:
                check(f"get of {key}", lab.until("it is read", lambda: value(shards.owner(key), key)), f"v{key}")
        shards.master.calls.Leave(server=two.address)
        for key in keys:
            check(f"get of {key} at the one that stays", value(one, key), f"v{key}")
