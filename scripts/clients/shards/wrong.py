"""What cannot be, and is said."""

import pathlib
import tempfile

import grpc

import lab
from lab import check, check_that, run, sentence
from shards.servers import Shards, refused


@sentence("An address that is none, a port in use, a folder of something else: exit code 2 and a text")
def started():
    with Shards(1) as shards, tempfile.TemporaryDirectory(prefix="capstan-lab-") as folder:
        (pathlib.Path(folder) / "other").write_text("x")
        taken = shards.servers[0].address
        free = f"localhost:{lab.free_port()}"
        for program in ("shard-master", "shard-server"):
            for arguments in (["nonsense"], [taken], [free, "--data", folder], [free, "--data", "/proc/no"], [free, "--nonsense"], []):
                ran = run(program, *arguments)
                what = f"{program} {arguments}"
                check(f"{what}: exit code, {ran.err}", ran.code, 2)
                check_that(f"{what}: text", ran.err and "panic" not in ran.err, ran.err)


@sentence("Join of what is no server or nobody, Leave of who never joined, Join of another master's: refused with a text, and nothing changes")
def asked():
    with Shards(2) as shards:
        calls = shards.master.calls
        shards.join(shards.servers[0])
        before = shards.ranges()
        for text in ("", "nonsense", "h:0", "h:x", ":1"):
            refused(f"join of {text!r}", lambda: calls.Join(server=text), grpc.StatusCode.INVALID_ARGUMENT)
        refused("join of nobody", lambda: calls.Join(server=f"localhost:{lab.free_port()}"), grpc.StatusCode.UNAVAILABLE)
        refused("leave of a stranger", lambda: calls.Leave(server=shards.servers[1].address), grpc.StatusCode.INVALID_ARGUMENT)
        other = shards.servers[0].address.replace("localhost", "127.0.0.1")
        refused("join by another text", lambda: calls.Join(server=other))
        with Shards(0) as others:
            refused("join of another master's", lambda: others.master.calls.Join(server=shards.servers[0].address), grpc.StatusCode.FAILED_PRECONDITION)
        check("ranges", shards.ranges(), before)
