"""What is on the disk: nothing without --data, everything that was answered with it."""

import itertools
import random
import secrets
import threading
import time

from grpc import RpcError

import lab
from lab import check, check_that, sentence
from pairs.servers import central_server, pair_server

KILLS = 3
WRITERS = 8
# A kill comes after so many seconds at most: while some requests are answered and others are not.
KILL_SECONDS_MAX = 0.5


def by_request(server):
    server.calls.Terminate()
    server.ended()


def by_signal(server):
    server.process.terminate()
    server.ended()


@sentence("Without --data each start is empty, and nothing is left on the disk, not by kill -9 either")
def nothing_left():
    with pair_server() as pair, central_server() as central:
        for end in (by_request, by_signal, lab.Server.kill):
            check("Consult after a start", pair.calls.Consult(key=1).value, "")
            check("Map after a start", central.calls.Map(key=1).host, "")
            check("Insert", pair.calls.Insert(key=1, value="x" * (1 << 20)).result, 0)
            check("Register", central.calls.Register(host="a:1", keys=range(1000)).result, 1000)
            for server in (pair, central):
                end(server)
                server.start()
                check(f"files of the {server.arguments[0]}", lab.files(server.own), lab.OWN)


class Writers:
    """Threads that ask a server, each for one key after another, until it is killed.

    `answered` are the keys whose request was answered; `in_doubt` those whose request was not; `wrong` are answers that are
    not as they must be, and errors before the kill.
    """

    def __init__(self, ask, numbers):
        self.answered, self.in_doubt, self.wrong = set(), set(), []
        self.ask, self.numbers = ask, numbers
        self.killed = False
        self.threads = [threading.Thread(target=self.write) for _ in range(WRITERS)]
        for thread in self.threads:
            thread.start()

    def write(self):
        for key in self.numbers:
            try:
                self.ask(key)
            except (RpcError, ValueError, lab.Failed) as wrong:
                # Asking on a channel that was closed meanwhile is a ValueError.
                if self.killed and not isinstance(wrong, lab.Failed):
                    self.in_doubt.add(key)
                    return
                self.wrong.append(str(wrong))
                return
            self.answered.add(key)

    def join(self):
        for thread in self.threads:
            thread.join()
        check("answers that are wrong", self.wrong, [])
        check_that("requests that were answered before the kill", self.answered, self.answered)


def kill_at_random(server, ask, seed):
    """Kills the server again and again while it is asked, and starts it; answers with the keys (answered, in doubt)."""
    drawn = random.Random(seed)
    numbers = itertools.count(-1000)
    answered, in_doubt = set(), set()
    for _ in range(KILLS):
        writers = Writers(ask, numbers)
        lab.until("an answer", lambda writers=writers: writers.answered or writers.wrong)
        time.sleep(drawn.uniform(0, KILL_SECONDS_MAX))
        writers.killed = True
        server.kill()
        writers.join()
        answered |= writers.answered
        in_doubt |= writers.in_doubt
        server.start()
    return answered, in_doubt


@sentence("With --data a pair server loses nothing that it answered, whenever it is killed")
def pair_killed():
    seed = secrets.randbits(32)
    with pair_server("--activate", "--data", "data") as pair, central_server() as central:

        def insert(key):
            check(f"Insert of {key}, seed {seed}", pair.calls.Insert(key=key, value=f"value {key}").result, 0)

        answered, in_doubt = kill_at_random(pair, insert, seed)
        values = {key: pair.calls.Consult(key=key).value for key in answered | in_doubt}
        stored = {key for key, value in values.items() if value}
        check(f"keys that were answered and are lost, seed {seed}", answered - stored, set())
        check(f"values that are stored, seed {seed}", {key: values[key] for key in stored}, {key: f"value {key}" for key in stored})
        check("Insert of a key that is in use", pair.calls.Insert(key=min(stored), value="other").result, -1)
        check("Activate", pair.calls.Activate(host=central.address).result, len(stored))
        check("Terminate", pair.calls.Terminate().result, 0)
        pair.ended()
        pair.start()
        check("Consult after Terminate and a start", pair.calls.Consult(key=min(stored)).value, f"value {min(stored)}")


def host_of(number):
    return f"host{number}.invalid:5001"


@sentence("With --data a central server loses nothing that it answered, whenever it is killed")
def central_killed():
    seed = secrets.randbits(32)
    with central_server("--data", "data") as central:

        def register(number):
            keys = [number * 10 + each for each in range(10)]
            check(f"Register of {keys}, seed {seed}", central.calls.Register(host=host_of(number), keys=keys).result, 10)

        answered, _ = kill_at_random(central, register, seed)
        for number in answered:
            for key in (number * 10, number * 10 + 9):
                check(f"owner of {key}, seed {seed}", central.calls.Map(key=key).host, host_of(number))
        count = central.calls.Terminate().result
        check_that(f"keys in the directory, of {len(answered)} answers, seed {seed}", count >= 10 * len(answered), count)


@sentence("A pair-client whose server is killed has printed what was done, says where it ended, and ends with 3 or 4")
def client_of_killed():
    seed = secrets.randbits(32)
    with pair_server("--data", "data") as pair, lab.Talk("pair-client", pair.address) as client:
        feed = b"".join(b"I,%d,value %d\n" % (key, key) for key in range(100_000))
        writer = threading.Thread(target=client.type, args=(feed,))
        writer.start()
        check("the first answer", client.line(), "0")
        time.sleep(random.Random(seed).uniform(0, KILL_SECONDS_MAX))
        pair.kill()
        answers = 1
        while client.line() == "0":
            answers += 1
        code = client.ended()
        writer.join()
        check_that(f"exit code, seed {seed}", code in (3, 4), code)
        said = client.process.stderr.read().decode().splitlines()
        check_that(f"one line on stderr, which names line {answers + 1}", len(said) == 1 and f"line {answers + 1}" in said[0], said)
        pair.start()
        for key in {0, answers // 2, answers - 1}:
            check(f"value of {key}, seed {seed}", pair.calls.Consult(key=key).value, f"value {key}")
        after = pair.calls.Consult(key=answers).value
        # 3 says that it was not done, 4 that it may have been.
        check_that(f"value of the first key without an answer, code {code}", after == "" or code == 4, after)
        check("value of the key after that", pair.calls.Consult(key=answers + 1).value, "")
