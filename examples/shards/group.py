"""A range that several servers share: run by tour.sh.

    python group.py MASTER SERVER=PID SERVER=PID SERVER=PID        HOST:PORT of each, and of the servers the process

Each write is at one replica beside the group's master before it is answered. The master is killed, and a replica follows it.
"""

import os
import signal
import sys
import time

import grpc

import wire

WIRE = wire.Wire("""
/KVStore/Get | {uint32 key=1} | {optional string value=1}
/KVStore/Append | {uint32 key=1; string value=2} | {}
/KVStore/RemoveReplica | {string server=1} | {}
/ShardMaster/JoinReplica | {string server=1} | {int32 role=1}
/ShardMaster/QueryReplica | {uint32 key=1; int32 operation=2} | {string server=1}
""")
KEY, GET, APPEND = 42, 0, 2


def expect(holds, text):
    if not holds:
        sys.exit(f"\nNOT AS EXPECTED: {text}")


def until(call):
    """What a call answers, once it does and that is something."""
    for _ in range(300):
        try:
            if found := call():
                return found
        except grpc.RpcError:
            pass
        time.sleep(0.1)
    sys.exit("nobody answers")


def main(address, *servers):
    pids = {server: int(pid) for server, pid in (each.rsplit("=", 1) for each in servers)}
    master = WIRE.client("ShardMaster", wire.channel(address))
    calls = {server: WIRE.client("KVStore", wire.channel(server)) for server in pids}
    named = lambda operation: master.QueryReplica(key=KEY, operation=operation).server
    for server in pids:
        role = until(lambda: master.JoinReplica(server=server) or None).role
        print(f"  {server} is {['the master', 'a replica'][role]}")
    first = named(APPEND)
    for number in range(100):
        calls[first].Append(key=KEY, value=f"{number},")
    print(f"100 times Append({KEY}) at {first}; QueryReplica names for GET: {', '.join(sorted({named(GET) for _ in pids}))}\n")

    print(f"$ kill -9 {pids[first]}        # {first}")
    begin = time.monotonic()
    os.kill(pids[first], signal.SIGKILL)
    follower = until(lambda: (server := named(APPEND)) != first and calls[server].Get(key=KEY).value and server)
    text = calls[follower].Get(key=KEY).value
    print(f"{follower} follows after {time.monotonic() - begin:.1f} s, with {text.count(',')} of 100")
    expect(text == "".join(f"{number}," for number in range(100)), "all that was answered is there")

    other = next(server for server in pids if server not in (first, follower))
    calls[follower].RemoveReplica(server=first)
    left = {named(GET) for _ in range(4)}
    print(f"RemoveReplica({first!r}): QueryReplica names for GET: {', '.join(sorted(left))}")
    expect(left == {follower, other}, "who is out is not named")
    calls[follower].RemoveReplica(server=other)
    print(f"RemoveReplica({other!r}): {other} is a server by itself again, with nothing")
    expect(not until(lambda: calls[other].Get(key=KEY)).HasField("value"), "who is out has nothing")


if __name__ == "__main__":
    main(*sys.argv[1:])
