"""How keys move between servers: run by tour.sh.

    python tour.py MASTER SERVER SERVER SERVER        HOST:PORT of each

The clients are made from the table of the wire, as any others would be. A client asks the master who has a key, and then that server.
"""

import sys
import time

import grpc

import wire

WIRE = wire.Wire("""
/KVStore/Get | {uint32 key=1} | {optional string value=1}
/KVStore/RPop | {uint32 key=1} | {optional string value=1}
/KVStore/Put | {uint32 key=1; string value=2} | {}
/KVStore/Append | {uint32 key=1; string value=2} | {}
/ShardMaster/Join | {string server=1} | {}
/ShardMaster/Leave | {string server=1} | {}
/ShardMaster/Query | {uint32 key=1} | {string server=1}
""")
KEYS = range(0, 101)


def expect(holds, text):
    if not holds:
        sys.exit(f"\nNOT AS EXPECTED: {text}")


class Cluster:
    def __init__(self, master, servers):
        self.master = WIRE.client("ShardMaster", wire.channel(master))
        self.servers = {server: WIRE.client("KVStore", wire.channel(server)) for server in servers}
        for call in [lambda: self.master.Query(key=0), *(lambda s=s: s.Get(key=0) for s in self.servers.values())]:
            until_served(call)

    def owner(self, key):
        return self.master.Query(key=key).server

    def get(self, key):
        found = self.servers[self.owner(key)].Get(key=key)
        return found.value if found.HasField("value") else None

    def show_ranges(self):
        first, owner = 0, self.owner(0)
        for key in [*KEYS[1:], None]:
            other = None if key is None else self.owner(key)
            if other != owner:
                print(f"  keys {first:3} to {(KEYS[-1] if key is None else key - 1):3}   {owner}")
                first, owner = key, other

    def change(self, what, call):
        begin = time.monotonic()
        call()
        print(f"{what}: the data has moved after {time.monotonic() - begin:.1f} s")
        self.show_ranges()


def until_served(call):
    for _ in range(300):
        try:
            return call()
        except grpc.RpcError:
            time.sleep(0.1)
    sys.exit("a program does not serve")


def main(master, *servers):
    cluster = Cluster(master, servers)
    one, two, three = servers

    cluster.change(f"Join({one!r})", lambda: cluster.master.Join(server=one))
    for key in KEYS:
        cluster.servers[one].Put(key=key, value=f"text {key}")
    print(f"{len(KEYS)} texts are put.\n")

    for server in (two, three):
        cluster.change(f"Join({server!r})", lambda server=server: cluster.master.Join(server=server))
    owners = {cluster.owner(key) for key in KEYS}
    expect(owners == set(servers), "each server has a range")
    expect(all(cluster.get(key) == f"text {key}" for key in KEYS), "all texts are there")
    other = next(server for server in servers if server != cluster.owner(7))
    answered = cluster.servers[other].Get(key=7).HasField("value")
    print(f"{other} is asked for key 7, which it has not: {'a text' if answered else 'absent'}\n")
    expect(not answered, "a server answers for its own keys only")

    owner = cluster.servers[cluster.owner(42)]
    owner.Append(key=42, value="!")
    print(f"Append(42, '!'), then RPop(42): {owner.RPop(key=42).value!r}, and {cluster.get(42)!r} is left\n")

    cluster.change(f"Leave({one!r})", lambda: cluster.master.Leave(server=one))
    expect(all(cluster.get(key) == f"text {key}" for key in KEYS), "all texts are there")
    print("Each text is where the master says.")


if __name__ == "__main__":
    main(*sys.argv[1:])
