"""Programs of Capstan as their users run them: servers, clients in pipes and files, clients at a terminal.

`$CAPSTAN` is the binary (default target/release/capstan). Every server has a folder of its own, which is its home, its place
for temporary files and where it is started. What runs is ended when its `with` is left, on failure too.
"""

import os
import pathlib
import pty
import random
import select
import shutil
import signal
import socket
import subprocess
import tempfile
import termios
import time
from typing import NamedTuple

from grpc_health.v1 import health_pb2, health_pb2_grpc

import wire

ROOT = pathlib.Path(__file__).resolve().parents[2]
CAPSTAN = os.path.abspath(os.environ.get("CAPSTAN", ROOT / "target" / "release" / "capstan"))
# Whoever has not started, answered or ended by then never will. Nothing is concluded from how long it took.
PATIENCE_SECONDS = 30
# Below the ports that the kernel gives to outgoing connections, so that none of those is in the way.
PORTS = range(20_000, 32_000)
# What a server finds of its own in the file system: where it is started, its home, its place for temporary files.
OWN = ["cwd", "home", "tmp"]


class Failed(Exception):
    """Something is not as promised."""


def sentence(text):
    """Marks a function as the check of what `text` says."""

    def mark(function):
        function.sentence = text
        return function

    return mark


def fail(text):
    raise Failed(text)


def check(what, got, wanted):
    if got != wanted:
        fail(f"{what}: expected {short(wanted)}, got {short(got)}")


def check_that(what, holds, got):
    if not holds:
        fail(f"{what}: got {short(got)}")


def short(value):
    text = repr(value)
    return text if len(text) <= 600 else f"{text[:400]} ... {text[-100:]} ({len(text)} characters)"


def until(what, ask):
    """Asks until the answer is true, and answers that."""
    end = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < end:
        if answer := ask():
            return answer
        time.sleep(0.01)
    fail(f"{what}: not within {PATIENCE_SECONDS} s")


def has_ipv6():
    """Whether this machine has the address ::1."""
    try:
        with socket.socket(socket.AF_INET6) as one:
            one.bind(("::1", 0))
    except OSError:
        return False
    return True


def bind(port):
    """Takes the port at all addresses, without SO_REUSEADDR: an error when any trace of its last owner is there."""
    with socket.socket() as one:
        one.bind(("0.0.0.0", port))
        one.listen()
    if has_ipv6():
        with socket.socket(socket.AF_INET6) as one:
            one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            one.bind(("::", port))
            one.listen()


def free_port():
    while True:
        port = random.choice(PORTS)
        try:
            bind(port)
        except OSError:
            continue
        return port


def own_names():
    """What the fully qualified name of this machine may be: as Python says it, and as `hostname --fqdn` does."""
    canonical = socket.getaddrinfo(socket.gethostname(), None, flags=socket.AI_CANONNAME)[0][3]
    return {socket.getfqdn(), canonical}


def files(folder):
    """Everything below a folder."""
    return sorted(str(path.relative_to(folder)) for path in pathlib.Path(folder).rglob("*"))


class Server:
    """A server that is started as `capstan classic PROGRAM PORT OPTION..`; `calls` is a client of it, made from `wire`.

    It may be ended and started again, on the same port and in the same folder. It must never print on stdout.
    """

    def __init__(self, program, options, table, service):
        self.arguments = (program, options)
        self.table = (table, service)
        self.port = free_port()
        self.address = f"127.0.0.1:{self.port}"
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="capstan-lab-"))
        self.own = self.folder / "own"
        for name in OWN:
            (self.own / name).mkdir(parents=True)
        self.process = None
        self.channel = None
        self.calls = None

    def __enter__(self):
        try:
            self.start()
        except BaseException:
            self.leave()
            raise
        return self

    def __exit__(self, kind, *_):
        self.leave()
        if kind is None:
            check(f"{self.arguments[0]} on stdout", self.printed, "")

    def command(self):
        program, options = self.arguments
        return [CAPSTAN, "classic", program, str(self.port), *options]

    def start(self):
        """Starts it and waits until it says that it serves."""
        self.launch()
        self.wait_until_ready()

    def launch(self):
        """Starts it."""
        variables = {**os.environ, "HOME": str(self.own / "home"), "TMPDIR": str(self.own / "tmp")}
        for name in ("XDG_DATA_HOME", "XDG_CACHE_HOME", "XDG_STATE_HOME", "XDG_RUNTIME_DIR"):
            variables.pop(name, None)
        with (self.folder / "stdout").open("ab") as out, (self.folder / "stderr").open("ab") as err:
            self.process = subprocess.Popen(
                self.command(), stdin=subprocess.DEVNULL, stdout=out, stderr=err, cwd=self.own / "cwd", env=variables
            )

    def wait_until_ready(self):
        until(f"{self.arguments[0]} listens", self.listens)
        self.channel = wire.channel(self.address)
        self.calls = self.table[0].client(self.table[1], self.channel)
        health = health_pb2_grpc.HealthStub(self.channel)
        serving = health_pb2.HealthCheckResponse.SERVING
        request = health_pb2.HealthCheckRequest()
        until(f"{self.arguments[0]} serves", lambda: health.Check(request, timeout=PATIENCE_SECONDS).status == serving)

    def listens(self):
        if self.process.poll() is not None:
            fail(f"{self.arguments[0]} ended with {self.process.returncode} instead of serving: {self.complaints()}")
        with socket.socket() as one:
            return one.connect_ex(("127.0.0.1", self.port)) == 0

    def complaints(self):
        return (self.folder / "stderr").read_text(errors="replace")[-2000:]

    def kill(self):
        """kill -9."""
        self.process.kill()
        self.process.wait()
        self.channel.close()

    def ended(self):
        """Waits until it ends by itself."""
        try:
            code = self.process.wait(PATIENCE_SECONDS)
        except subprocess.TimeoutExpired:
            fail(f"{self.arguments[0]} goes on for {PATIENCE_SECONDS} s: {self.complaints()}")
        self.channel.close()
        return code

    def leave(self):
        if self.process is not None:
            self.process.kill()
            self.process.wait()
        if self.channel is not None:
            self.channel.close()
        out = self.folder / "stdout"
        self.printed = out.read_text(errors="replace") if out.exists() else ""
        shutil.rmtree(self.folder)

    def memory_bytes_max(self):
        """The most memory that it has held so far."""
        for line in pathlib.Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) << 10
        fail(f"/proc/{self.process.pid}/status has no VmHWM")


class Ran(NamedTuple):
    """How a program ended: its exit code, what it printed, what it said on stderr."""

    code: int
    out: bytes
    err: str


def run(*arguments, feed=b"", as_file=False, seconds=2 * PATIENCE_SECONDS):
    """Runs `capstan classic ..` with `feed` on its stdin: from a pipe, or from a file."""
    command = [CAPSTAN, "classic", *arguments]
    with tempfile.TemporaryFile() as file:
        if as_file:
            file.write(feed)
            file.seek(0)
        source = {"stdin": file} if as_file else {"input": feed}
        try:
            ran = subprocess.run(command, capture_output=True, timeout=seconds, check=False, **source)
        except subprocess.TimeoutExpired as late:
            fail(f"{' '.join(arguments)} goes on for {late.timeout} s: {short(late.stdout)}, {short(late.stderr)}")
    return Ran(ran.returncode, ran.stdout, ran.stderr.decode(errors="replace"))


class Talk:
    """A program that is fed and read a line at a time: through pipes, or (a `Terminal`) at a terminal."""

    def __init__(self, *arguments):
        self.start([CAPSTAN, "classic", *arguments])
        self.buffer = b""

    def start(self, command):
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self.into, self.out = self.process.stdin.fileno(), self.process.stdout.fileno()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout, self.process.stderr):
            if pipe is not None:
                pipe.close()

    def type(self, text):
        """Writes all of it, or as much as the program takes before it ends."""
        while text:
            try:
                text = text[os.write(self.into, text) :]
            except BrokenPipeError:
                return

    def line(self):
        """The next line that it prints, without its end; what is left when it ended."""
        while b"\n" not in self.buffer:
            ready, _, _ = select.select([self.out], [], [], PATIENCE_SECONDS)
            if not ready:
                fail(f"{self.process.args}: no line within {PATIENCE_SECONDS} s, only {self.buffer!r}")
            if not (more := self.read()):
                break
            self.buffer += more
        line, _, self.buffer = self.buffer.partition(b"\n")
        return line.decode(errors="replace")

    def read(self):
        return os.read(self.out, 1 << 16)

    def end_of_input(self):
        self.process.stdin.close()

    def ended(self):
        """Its exit code once it has ended by itself."""
        try:
            return self.process.wait(PATIENCE_SECONDS)
        except subprocess.TimeoutExpired:
            fail(f"{self.process.args} goes on for {PATIENCE_SECONDS} s")


class Terminal(Talk):
    """A program at a terminal of its own, which echoes nothing: what is read is what the program printed."""

    def start(self, command):
        self.master, slave = pty.openpty()
        mode = termios.tcgetattr(slave)
        mode[1] &= ~termios.ONLCR
        mode[3] &= ~termios.ECHO
        termios.tcsetattr(slave, termios.TCSANOW, mode)
        # setsid makes the terminal that of the program, so that Ctrl-C reaches it.
        command = ["setsid", "--ctty", *command]
        self.process = subprocess.Popen(command, stdin=slave, stdout=slave, stderr=subprocess.PIPE)
        os.close(slave)
        self.into = self.out = self.master

    def __exit__(self, *rest):
        super().__exit__(*rest)
        os.close(self.master)

    def read(self):
        try:
            return super().read()
        except OSError:
            # The other side is closed: the program has ended.
            return b""

    def end_of_input(self):
        self.type(b"\x04")

    def interrupt(self):
        """Ctrl-C."""
        self.type(b"\x03")


def end_on_signals():
    """Has SIGTERM and SIGHUP end this process as Ctrl-C does: what it started is ended first."""

    def end(number, _):
        raise SystemExit(128 + number)

    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, end)
