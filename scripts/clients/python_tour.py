#!/usr/bin/env python3
"""A tour of capstan.v1 with a client that was made from the .proto just now.

    python_tour.py HOST:PORT [HOST:PORT ..]

Goes to the first address that says it serves, does what users do, and compares each answer with what the .proto promises.
Exits 0 when all is as promised, 1 at the first difference (and says which), 2 when used wrongly. It works under keys of its
own and removes them in the end. Packages: requirements.txt.
"""

import importlib
import pathlib
import secrets
import sys
import tempfile
import time

import grpc
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from grpc_status import rpc_status
from grpc_tools import protoc

PROTO = pathlib.Path(__file__).resolve().parents[2] / "crates" / "dialects" / "proto"
MESSAGE_BYTES_MAX = (9 << 20) + (64 << 10)
VALUE_BYTES_MAX = 8 << 20
SECONDS_TO_START = 30


def fail(text):
    print(f"python_tour: {text}", file=sys.stderr)
    sys.exit(1)


def check(what, got, wanted):
    if got != wanted:
        fail(f"{what}: expected {wanted!r}, got {got!r}")


def check_that(what, holds, got):
    if not holds:
        fail(f"{what}: got {got!r}")


def generate():
    """Makes the client's code and imports it."""
    with tempfile.TemporaryDirectory(prefix="capstan-python-") as folder:
        arguments = ["protoc", f"-I{PROTO}", f"--python_out={folder}", f"--grpc_python_out={folder}"]
        if protoc.main([*arguments, "capstan/v1/capstan.proto"]) != 0:
            fail(f"cannot compile {PROTO}/capstan/v1/capstan.proto")
        sys.path.insert(0, folder)
        return tuple(importlib.import_module(f"capstan.v1.capstan_{kind}") for kind in ("pb2", "pb2_grpc"))


def connect(addresses):
    """A channel to the first address that says it serves."""
    options = [("grpc.max_receive_message_length", MESSAGE_BYTES_MAX), ("grpc.max_send_message_length", MESSAGE_BYTES_MAX)]
    end = time.monotonic() + SECONDS_TO_START
    last = None
    while time.monotonic() < end:
        for address in addresses:
            channel = grpc.insecure_channel(address, options=options)
            try:
                answer = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=2)
                if answer.status == health_pb2.HealthCheckResponse.SERVING:
                    return address, channel
                last = f"{address} does not serve"
            except grpc.RpcError as error:
                last = f"{address}: {error.details()}"
            channel.close()
        time.sleep(0.1)
    fail(f"no node of {', '.join(addresses)} serves: {last}")


class Tour:
    """Each method is a stop. Keys share a {tag}, so that transactions can span them."""

    def __init__(self, channel, pb, services):
        self.channel = channel
        self.pb = pb
        self.keys = services.KeyValueStub(channel)
        self.cluster = services.ClusterStub(channel)
        self.tag = "{tour-" + secrets.token_hex(6) + "}"

    def key(self, name):
        return f"{self.tag}{name}".encode()

    def put(self, name, value, **rest):
        return self.keys.Put(self.pb.PutRequest(key=self.key(name), value=value, **rest))

    def get(self, name, **rest):
        return self.keys.Get(self.pb.GetRequest(key=self.key(name), **rest))

    def refused(self, what, call, code, reason):
        """The details of a call that must fail so."""
        try:
            call()
        except grpc.RpcError as error:
            check(f"{what}: status", error.code(), code)
            status = rpc_status.from_call(error)
            check_that(f"{what}: there are details", status is not None, error)
            details = {detail.type_url.rsplit(".", 1)[-1]: detail for detail in status.details}
            info = error_details_pb2.ErrorInfo()
            check_that(f"{what}: there is an ErrorInfo", "ErrorInfo" in details, sorted(details))
            details["ErrorInfo"].Unpack(info)
            check(f"{what}: domain and reason", (info.domain, info.reason), ("capstan", reason))
            check(f"{what}: outcome", info.metadata["outcome"], "failed")
            check_that(f"{what}: there is a text", len(error.details()) > 0, error.details())
            return info, details
        fail(f"{what}: expected status {code}, got an answer")

    def stop_health(self):
        health = health_pb2_grpc.HealthStub(self.channel)
        for service in ("", "capstan.v1.KeyValue", "capstan.v1.Cluster"):
            answer = health.Check(health_pb2.HealthCheckRequest(service=service))
            check(f"health of {service!r}", answer.status, health_pb2.HealthCheckResponse.SERVING)

    def stop_reflection(self):
        services = ProtoReflectionDescriptorDatabase(self.channel).get_services()
        for service in ("capstan.v1.KeyValue", "capstan.v1.Cluster", "grpc.health.v1.Health"):
            check_that(f"reflection lists {service}", service in services, services)

    def stop_cluster(self):
        status = self.cluster.Status(self.pb.StatusRequest())
        check_that("status names nodes", len(status.nodes) > 0, status)
        check_that("status names shards", len(status.shards) > 0, status)
        check_that("status tells the time", status.now_micros > 1_600_000_000_000_000, status.now_micros)
        place = self.cluster.Locate(self.pb.LocateRequest(key=b"foo"))
        check("slot of 'foo'", place.slot, 12182)
        shard = next((s for s in status.shards if s.slot_first <= place.slot <= s.slot_last), None)
        check_that("a shard has that slot", shard is not None and shard.id == place.shard, place)

    def stop_put_and_get(self):
        check_that("get of an absent key has no row", not self.get("a").HasField("row"), "a row")
        put = self.put("a", b"one", previous=True)
        check_that("first put tells no previous row", not put.HasField("previous"), put)
        receipt = put.receipt
        check_that("receipt has version, shard, epoch, node", all((receipt.version, receipt.shard, receipt.epoch, receipt.node)), receipt)
        row = self.get("a").row
        check("row after put", (row.key, row.value, row.version, row.changes), (self.key("a"), b"one", receipt.version, 1))
        again = self.put("a", b"two", previous=True)
        check("put tells the previous row", again.previous.value, b"one")
        check_that("versions rise", again.receipt.version > receipt.version, again.receipt.version)
        row = self.get("a").row
        check("row after second put", (row.value, row.created, row.changes), (b"two", receipt.version, 2))
        kinds = self.pb.Level
        local = self.get("a", header=self.pb.RequestHeader(level=kinds(kind=kinds.KIND_LINEARIZABLE)))
        check("level reached", local.receipt.level_reached.kind, kinds.KIND_LINEARIZABLE)

    def stop_large_value(self):
        value = bytes(range(256)) * (VALUE_BYTES_MAX // 256)
        self.put("large", value)
        check_that("a value of 8 MiB comes back as it was", self.get("large").row.value == value, "another value")

    def stop_expiry(self):
        now = self.cluster.Status(self.pb.StatusRequest()).now_micros
        self.put("brief", b"x", expiry=self.pb.Expiry(ttl_ms=600_000))
        deadline = self.get("brief").row.deadline
        check_that("ttl became a deadline some minutes from now", 0 < deadline - now < 1_200_000_000, deadline - now)
        expire = self.keys.Expire(self.pb.ExpireRequest(key=self.key("brief")))
        check("expire finds the key", expire.found, True)
        check_that("the deadline is taken away", not self.get("brief").row.HasField("deadline"), "a deadline")
        self.keys.Expire(self.pb.ExpireRequest(key=self.key("brief"), expiry=self.pb.Expiry(deadline=1)))
        check_that("a key past its deadline is gone", not self.get("brief").HasField("row"), "a row")

    def stop_updates(self):
        pb = self.pb
        insert = self.keys.Insert(pb.InsertRequest(key=self.key("text"), value=b"bc"))
        check("insert of an absent key", insert.inserted, True)
        insert = self.keys.Insert(pb.InsertRequest(key=self.key("text"), value=b"no"))
        check("insert of a present key", (insert.inserted, insert.current.value), (False, b"bc"))
        append = self.keys.Append(pb.AppendRequest(key=self.key("text"), value="é".encode()))
        check("length after append", append.length, 4)
        append = self.keys.Append(pb.AppendRequest(key=self.key("text"), value=b"a", side=pb.SIDE_LEFT))
        check("length after append at the left", append.length, 5)
        pop = self.keys.Pop(pb.PopRequest(key=self.key("text"), count=1))
        check("pop takes a whole character", pop.value, "é".encode())
        pop = self.keys.Pop(pb.PopRequest(key=self.key("text"), count=2, side=pb.SIDE_LEFT))
        check("pop at the left", pop.value, b"ab")
        pop = self.keys.Pop(pb.PopRequest(key=self.key("none"), count=1))
        check_that("pop of an absent key has no value", not pop.HasField("value"), pop)
        for by, number in ((5, 5), (-7, -2)):
            increment = self.keys.Increment(pb.IncrementRequest(key=self.key("number"), by=by))
            check(f"increment by {by}", increment.number, number)

    def stop_compare_and_put(self):
        pb = self.pb

        def ask(expect, value):
            return self.keys.CompareAndPut(pb.CompareAndPutRequest(key=self.key("cas"), expect=expect, value=value))

        check("compare-and-put on absent", ask(pb.Expect(exists=False), b"1").stored, True)
        missed = ask(pb.Expect(value=b"other"), b"2")
        check("compare-and-put on another value", (missed.stored, missed.current.value), (False, b"1"))
        stored = ask(pb.Expect(value=b"1"), b"2")
        check("compare-and-put on the value", stored.stored, True)
        check("compare-and-put on the version", ask(pb.Expect(version=stored.receipt.version), b"3").stored, True)
        check("value after compare-and-put", self.get("cas").row.value, b"3")

    def stop_history_and_trim(self):
        versions = [self.put("history", str(number).encode()).receipt.version for number in range(3)]
        revisions = self.keys.History(self.pb.HistoryRequest(key=self.key("history"))).revisions
        told = [(revision.version, revision.value) for revision in revisions]
        wanted = [(version, str(number).encode()) for number, version in enumerate(versions)][::-1]
        check_that("history is the newest revisions, newest first", 0 < len(told) and told == wanted[: len(told)], told)
        limited = self.keys.History(self.pb.HistoryRequest(key=self.key("history"), limit=1)).revisions
        check("history with a limit", len(limited), 1)
        trim = self.keys.Trim(self.pb.TrimRequest(key=self.key("history")))
        check("trim forgets all but the newest", trim.count, len(told) - 1)
        revisions = self.keys.History(self.pb.HistoryRequest(key=self.key("history"))).revisions
        check("history after trim", [(r.version, r.value) for r in revisions], wanted[:1])

    def stop_range(self):
        pb = self.pb
        pairs = [pb.PutAllRequest.Pair(key=self.key(f"row{number}"), value=str(number).encode()) for number in range(5)]
        put = self.keys.PutAll(pb.PutAllRequest(pairs=pairs))
        check("put-all tells each key", [r.WhichOneof("result") for r in put.results], ["row"] * 5)
        keys = [pair.key for pair in pairs]
        many = self.keys.GetAll(pb.GetAllRequest(keys=[*keys[:2], self.key("none")]))
        check("get-all tells rows and absences", [r.WhichOneof("result") for r in many.results], ["row", "row", None])
        bounds = {"from": self.key("row"), "to": self.key("row~")}

        def ask(**rest):
            return self.keys.Range(pb.RangeRequest(**bounds, **rest))

        check("range", [row.key for row in ask().rows], keys)
        check("range backward", [row.key for row in ask(order=pb.RangeRequest.ORDER_BACKWARD).rows], keys[::-1])
        first = ask(limit=2)
        check("first page", [row.key for row in first.rows], keys[:2])
        check_that("first page tells where to go on", first.HasField("next"), first)
        second = ask(limit=2, page=first.next)
        check("second page", [row.key for row in second.rows], keys[2:4])
        check("keys only", [row.value for row in ask(keys_only=True).rows], [b""] * 5)
        count = ask(count_only=True)
        check("count only", (count.count, len(count.rows)), (5, 0))
        delete = self.keys.DeleteRange(pb.DeleteRangeRequest(**{**bounds, "to": keys[3]}))
        check("delete-range", (delete.count, delete.HasField("next")), (3, False))
        check("range after delete-range", [row.key for row in ask().rows], keys[3:])

    def stop_transaction(self):
        pb = self.pb

        def ask():
            return self.keys.Transaction(
                pb.TransactionRequest(
                    conditions=[pb.TransactionRequest.Condition(key=self.key("lock"), expect=pb.Expect(exists=False))],
                    then=[
                        pb.Operation(put=pb.PutRequest(key=self.key("lock"), value=b"mine")),
                        pb.Operation(increment=pb.IncrementRequest(key=self.key("locks"), by=1)),
                    ],
                    otherwise=[pb.Operation(get=pb.GetRequest(key=self.key("lock")))],
                )
            )

        first = ask()
        check("transaction runs `then`", (first.succeeded, first.results[1].increment.number), (True, 1))
        second = ask()
        check("transaction runs `otherwise`", (second.succeeded, second.results[0].get.row.value), (False, b"mine"))

    def stop_batch(self):
        pb = self.pb
        batch = pb.BatchRequest(
            operations=[
                pb.Operation(put=pb.PutRequest(key=self.key("batch"), value=b"x")),
                pb.Operation(get=pb.GetRequest(key=b"")),
                pb.Operation(get=pb.GetRequest(key=self.key("none"))),
            ]
        )
        results = self.keys.Batch(batch).results
        check("batch answers each in its kind", [r.WhichOneof("result") for r in results], ["put", "error", "get"])
        check_that("batch gives each a receipt", results[0].put.receipt.version > 0, results[0])
        check("batch tells an error", (results[1].error.reason, results[1].error.metadata["outcome"]), ("INVALID", "failed"))

    def stop_retry(self):
        pb = self.pb
        far = self.put("retry", b"").receipt.version + ((600 * 1_000_000) << 10)
        identity = pb.RequestId(client=secrets.randbits(63) + 1, sequence=1, valid_until=far, answered_below=1)
        asked = pb.AppendRequest(header=pb.RequestHeader(id=identity), key=self.key("retry"), value=b"x")
        first, again = self.keys.Append(asked), self.keys.Append(asked)
        check("a retry under the same id runs once", (first.length, again.length), (1, 1))
        check("and has the same version", again.receipt.version, first.receipt.version)

    def stop_errors(self):
        pb = self.pb
        codes = grpc.StatusCode
        _, details = self.refused("get of an empty key", lambda: self.keys.Get(pb.GetRequest()), codes.INVALID_ARGUMENT, "INVALID")
        check_that("an invalid request has a BadRequest", "BadRequest" in details, sorted(details))
        large = b"x" * (VALUE_BYTES_MAX + 1)
        info, _ = self.refused("put of too large a value", lambda: self.put("a", large), codes.INVALID_ARGUMENT, "TOO_LARGE")
        check("its metadata", (info.metadata["size"], info.metadata["limit"]), (str(len(large)), str(VALUE_BYTES_MAX)))
        self.put("word", b"word")
        increment = pb.IncrementRequest(key=self.key("word"), by=1)
        _, details = self.refused("increment of a word", lambda: self.keys.Increment(increment), codes.FAILED_PRECONDITION, "CONFLICT")
        check_that("a conflict has a PreconditionFailure", "PreconditionFailure" in details, sorted(details))
        future = (1 << 63) - 1
        info, _ = self.refused("get in the future", lambda: self.get("a", at=future), codes.OUT_OF_RANGE, "FUTURE")
        check("its metadata", info.metadata["asked"], str(future))
        other = pb.RequestHeader(keyspace="no-such-keyspace")
        info, _ = self.refused("another keyspace", lambda: self.get("a", header=other), codes.NOT_FOUND, "NO_KEYSPACE")
        check("its metadata", info.metadata["keyspace"], "no-such-keyspace")

    def stop_delete(self):
        delete = self.keys.Delete(self.pb.DeleteRequest(key=self.key("a"), previous=True))
        check("delete", (delete.count, delete.previous.value), (1, b"two"))
        check("delete of an absent key", self.keys.Delete(self.pb.DeleteRequest(key=self.key("a"))).count, 0)
        check_that("get after delete has no row", not self.get("a").HasField("row"), "a row")
        bounds = {"from": self.key(""), "to": self.key("~")}
        self.keys.DeleteRange(self.pb.DeleteRangeRequest(**bounds))
        check("nothing is left", self.keys.Range(self.pb.RangeRequest(**bounds, count_only=True)).count, 0)


def main():
    addresses = sys.argv[1:]
    if not addresses or any(address.startswith("-") for address in addresses):
        print(__doc__, file=sys.stderr)
        sys.exit(2)
    pb, services = generate()
    address, channel = connect(addresses)
    tour = Tour(channel, pb, services)
    stops = [name for name in vars(Tour) if name.startswith("stop_")]
    for name in stops:
        try:
            getattr(tour, name)()
        except grpc.RpcError as error:
            fail(f"{name.removeprefix('stop_')}: {error.code().name}: {error.details()}")
    channel.close()
    print(f"python_tour: all {len(stops)} stops of the tour at {address} are as promised")


if __name__ == "__main__":
    main()
