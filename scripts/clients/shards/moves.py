"""Servers come and go while clients write, and end by kill -9."""

import threading
import time

import grpc

import lab
from lab import check, sentence
from shards.servers import Shards, value


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
                # A server that is killed says nothing of what it has done.
                if error.code() != grpc.StatusCode.FAILED_PRECONDITION and self.is_there(number):
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
        # A server that has given the key away has nothing, either.
        return f",{found or ''}" if found or (owner and not self.done) else None


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
