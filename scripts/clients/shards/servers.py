"""The table, and a shard master with its servers."""

import pathlib
import shutil
import subprocess
import tempfile

import grpc

import lab
import wire

WIRE = wire.Wire("""
/KVStore/Get | {uint32 key=1} | {optional string value=1}
/KVStore/LPop | {uint32 key=1} | {optional string value=1}
/KVStore/RPop | {uint32 key=1} | {optional string value=1}
/KVStore/Put | {uint32 key=1; string value=2} | {}
/KVStore/Append | {uint32 key=1; string value=2} | {}
/KVStore/Redistribute | {string destination_server=1; uint32 lower_val=2; uint32 upper_val=3} | {}
/KVStore/AddReplica | {string server=1} | {}
/KVStore/RemoveReplica | {string server=1} | {}
/ShardMaster/Join | {string server=1} | {}
/ShardMaster/Leave | {string server=1} | {}
/ShardMaster/Query | {uint32 key=1} | {string server=1}
/ShardMaster/JoinReplica | {string server=1} | {int32 role=1}
/ShardMaster/QueryReplica | {uint32 key=1; int32 operation=2} | {string server=1}
""")
# The one request whose field is a list of messages: its bytes are written by hand.
TRANSFER = "/KVStore/Transfer"


class Program:
    """A shard master or a server: its process, and a client of it."""

    def __init__(self, kind, folder, options=(), host="localhost"):
        self.kind, self.folder, self.options = kind, folder, list(options)
        self.address = f"{host}:{lab.free_port()}"
        self.channel = wire.channel(self.address)
        self.calls = WIRE.client("ShardMaster" if kind == "shard-master" else "KVStore", self.channel)
        self.process = None

    def start(self):
        err = self.folder.with_suffix(".err").open("ab")
        options = self.options if self.options != ["--data"] else ["--data", str(self.folder)]
        self.process = subprocess.Popen(
            [lab.CAPSTAN, "classic", self.kind, self.address, *options], stdin=subprocess.DEVNULL, stderr=err
        )
        lab.until(f"{self.kind} at {self.address} serves", self.serves)
        return self

    def serves(self):
        if self.process.poll() is not None:
            lab.fail(f"{self.kind} ended with {self.process.returncode}: {self.folder.with_suffix('.err').read_text()}")
        try:
            return (self.calls.Query if self.kind == "shard-master" else self.calls.Get)(key=0) is not None
        except grpc.RpcError:
            return False

    def kill(self):
        self.process.kill()
        self.process.wait()

    def stop(self):
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
        return self.process and self.process.wait(20)

    def transfer(self, pairs):
        """Transfer of pairs of a number and a text."""
        put = WIRE.services["KVStore"]["Put"].request
        parts = [put(key=key, value=value).SerializeToString() for key, value in pairs]
        body = b"".join(b"\n" + length(len(part)) + part for part in parts)
        self.channel.unary_unary(TRANSFER, lambda body: body, lambda body: body)(body, timeout=20)


def length(number):
    """A number as it stands before so many bytes."""
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    return bytes(out) + bytes([number])


class Shards:
    """A shard master and some servers, each with a folder that it keeps (`kept`) or not."""

    def __init__(self, servers, kept=True):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="capstan-lab-"))
        options = ["--data"] if kept else []
        self.master = Program("shard-master", self.folder / "master", options)
        self.servers = [Program("shard-server", self.folder / f"server-{number}", options) for number in range(servers)]
        self.all = [self.master, *self.servers]

    def __enter__(self):
        try:
            for program in self.all:
                program.start()
        except BaseException:
            self.leave()
            raise
        return self

    def __exit__(self, kind, *_):
        codes = self.leave()
        if kind is None:
            lab.check("exit codes", [code for code in codes if code], [])

    def leave(self):
        codes = [program.stop() for program in self.all]
        for program in self.all:
            program.channel.close()
        shutil.rmtree(self.folder, ignore_errors=True)
        return [code for code in codes if code is not None and code >= 0]

    def join(self, *servers):
        for server in servers:
            self.master.calls.Join(server=server.address)

    def owner(self, key):
        """The server that the master names for a key."""
        text = self.master.calls.Query(key=key).server
        return next((server for server in self.servers if server.address == text), None)

    def ranges(self):
        """The first and the last key of each server, of 0 to 100, in the order of the keys."""
        found = []
        for key in range(101):
            text = self.master.calls.Query(key=key).server
            if found and found[-1][0] == text:
                found[-1][2] = key
            else:
                found.append([text, key, key])
        return [tuple(each) for each in found]


class Groups(Shards):
    """A shard master of so many groups, whose servers come by themselves."""

    def __init__(self, groups):
        super().__init__(0)
        self.master.options += [str(self.folder / "master"), "--shards", str(groups)]

    def come(self, *options):
        """Another server, and whether it is a replica."""
        server = self.alone("--shard-master", self.master.address, *options)
        return server, self.master.calls.JoinReplica(server=server.address).role == 1

    def alone(self, *options):
        """Another server, which nobody has asked yet."""
        server = Program("shard-server", self.folder / f"server-{len(self.servers)}")
        server.options += ["--data", str(server.folder), *options]
        self.servers.append(server)
        self.all.append(server.start())
        return server

    def named(self, key, operation=0):
        """The servers that are named for an operation on a key; 0 = GET."""
        ask = self.master.calls.QueryReplica
        texts = {ask(key=key, operation=operation).server for _ in range(2 * len(self.servers))}
        return {server for server in self.servers if server.address in texts}


def refused(what, call, code=None):
    """The call is refused, with a text."""
    try:
        call()
    except grpc.RpcError as error:
        lab.check_that(f"{what}: text", error.details() and "panic" not in error.details(), error)
        if code is not None:
            lab.check(f"{what}: code", error.code(), code)
        return error.details()
    lab.fail(f"{what} is not refused")


def value_or_none(server, key):
    """The same, where it may not answer at present."""
    try:
        return value(server, key)
    except grpc.RpcError:
        return None


def value(server, key):
    """The text of a key at a server; `None` = it has none."""
    answer = server.calls.Get(key=key)
    return answer.value if answer.HasField("value") else None
