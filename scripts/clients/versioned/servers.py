"""The table, and servers of it."""

import pathlib
import shutil
import signal
import tempfile

import lab
import wire

SERVICE = "project.KeyValueStore"
# The same without a package.
PLAIN = "KeyValueStore"
METHODS = """
/{0}/Get | {{string key=1; optional int64 ver=2}} | {{string key=1; string val=2; int64 ver=3}}
/{0}/Del | {{string key=1; optional int64 ver=2}} | {{string key=1; string val=2; int64 ver=3}}
/{0}/Trim | {{string key=1; optional int64 ver=2}} | {{string key=1; string val=2; int64 ver=3}}
/{0}/GetRange | {{KeyRequest fr=1; KeyRequest to=2}} | stream {{string key=1; string val=2; int64 ver=3}}
/{0}/DelRange | {{KeyRequest fr=1; KeyRequest to=2}} | stream {{string key=1; string val=2; int64 ver=3}}
/{0}/GetAll | stream {{string key=1; optional int64 ver=2}} | stream {{string key=1; string val=2; int64 ver=3}}
/{0}/DelAll | stream {{string key=1; optional int64 ver=2}} | stream {{string key=1; string val=2; int64 ver=3}}
/{0}/Put | {{string key=1; string val=2}} | {{string key=1; string old_val=2; int64 old_ver=3; int64 ver=4}}
/{0}/PutAll | stream {{string key=1; string val=2}} | stream {{string key=1; string old_val=2; int64 old_ver=3; int64 ver=4}}
"""
WIRE = wire.Wire(
    "KeyRequest | {string key=1; optional int64 ver=2}\n" + METHODS.format(SERVICE) + METHODS.format(PLAIN)
)


class Server(lab.Server):
    """`capstan classic versioned-server --port PORT OPTION..`."""

    def __init__(self, *options):
        super().__init__("versioned-server", options, WIRE, SERVICE)

    def command(self):
        program, options = self.arguments
        return [lab.CAPSTAN, "classic", program, "--port", str(self.port), *options]

    def stop(self):
        """Asks it to stop; its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.ended()

    def put(self, key, val):
        """The version of the new value."""
        return self.calls.Put(key=key, val=val).ver

    def get(self, key, ver=None):
        return pair(self.calls.Get(key=key, ver=ver))

    def range(self, fr, to, ver=None, call="GetRange"):
        reply = getattr(self.calls, call)(fr={"key": fr}, to={"key": to, "ver": ver})
        return [(each.key, *pair(each)) for each in reply]


def pair(reply):
    """Value and version of a reply."""
    return reply.val, reply.ver


class Servers:
    """Servers that share a store. Each may be ended and started again."""

    def __init__(self, count):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="capstan-lab-"))
        self.all = [Server() for _ in range(count)]
        peers = ",".join(f"localhost:{server.port}" for server in self.all)
        for number, server in enumerate(self.all):
            server.arguments = (server.arguments[0], ("--data", str(self.folder / str(number)), "--peers", peers))

    def __enter__(self):
        try:
            self.start(self.all)
            self.serve()
        except BaseException:
            self.leave()
            raise
        return self

    def __exit__(self, kind, *_):
        self.leave()
        if kind is None:
            for server in self.all:
                lab.check("a server on stdout", server.printed, "")

    def start(self, servers):
        """Starts some of them, in this order: each waits for others."""
        for server in servers:
            server.launch()
        for server in servers:
            server.wait_until_ready()

    def serve(self):
        """Waits until a put at each is seen at all."""
        for number, server in enumerate(self.all):
            ver = lab.until("a server takes a put", lambda server=server, number=number: answered(server.put, "serves", str(number)))
            for other in self.all:
                lab.until("another has it", lambda other=other, ver=ver: (answered(other.get, "serves") or ("", 0))[1] >= ver)

    def leave(self):
        for server in self.all:
            server.leave()
        shutil.rmtree(self.folder, ignore_errors=True)


def answered(call, *arguments):
    """What a call answers; `None` where it fails."""
    try:
        return call(*arguments)
    except wire.grpc.RpcError:
        return None
