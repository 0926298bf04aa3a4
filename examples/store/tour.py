"""What a store does while one of its nodes answers late: run by tour.sh against a store that serves.

    python tour.py centralized MASTER SLAVE SLAVE        HOST:PORT of each
    python tour.py decentralized NODE NODE NODE          which weigh 1, 2, 1

The client is made from the table of the wire, as any other would be. Each call is shown with what it answers and how long that took.
"""

import sys
import time
from concurrent.futures import ThreadPoolExecutor

import wire

WIRE = wire.Wire("""
/distributedstore.KeyValueStore/put | {string key=1; string value=2} | {bool success=1}
/distributedstore.KeyValueStore/get | {string key=1} | {string value=1; bool found=2}
/distributedstore.KeyValueStore/slowDown | {int32 seconds=1} | {bool success=1}
/distributedstore.KeyValueStore/restore | {} | {bool success=1}
""")


def show(what, call):
    """Calls, prints what came of it, and returns that and how long it took."""
    begin = time.monotonic()
    answer = call()
    seconds = time.monotonic() - begin
    fields = ", ".join(f"{field.name}={getattr(answer, field.name)!r}" for field in answer.DESCRIPTOR.fields)
    print(f"{what:<44} {fields:<34} {seconds:5.2f} s")
    return answer, seconds


def expect(holds, text):
    if not holds:
        sys.exit(f"\nNOT AS EXPECTED: {text}")


def centralized(master, first, second):
    print("A put at the master is on every node when it is answered:")
    expect(show("put('city', 'Lisboa') at the master", lambda: master.put(key="city", value="Lisboa"))[0].success, "it is stored")
    for name, node in (("slave 1", first), ("slave 2", second)):
        expect(show(f"get('city') at {name}", lambda: node.get(key="city"))[0].value == "Lisboa", "it is there")
    show("get('') at the master, which is a key too", lambda: master.get(key=""))

    print("\nSlave 1 answers 2 s late from now on, to clients and to the other nodes:")
    expect(show("slowDown(2) at slave 1", lambda: first.slowDown(seconds=2))[0].success, "it is slow")
    expect(show("get('city') at slave 1", lambda: first.get(key="city"))[1] >= 2, "it answers late")
    expect(show("get('city') at slave 2", lambda: second.get(key="city"))[1] < 2, "the others answer at once")
    expect(show("put('city', 'Porto') at the master", lambda: master.put(key="city", value="Porto"))[0].success, "it is stored")

    print("\nTen clients put one key, five times each, while it is slow:")
    crowd([master])

    print("\nAnd at once again:")
    expect(show("restore() at slave 1", lambda: first.restore())[0].success, "it is restored")
    expect(show("get('city') at slave 1", lambda: first.get(key="city"))[1] < 2, "it answers at once")


def decentralized(first, heavy, third):
    nodes = {"node 0, which weighs 1": first, "node 1, which weighs 2": heavy, "node 2, which weighs 1": third}
    print("Any node takes a put, and a get at any finds it:")
    for name, node in nodes.items():
        expect(show(f"put at {name}", lambda: node.put(key="city", value=name))[0].success, "it is stored")
        for other in nodes.values():
            expect(other.get(key="city").value == name, "it is found")
    show("get('city') at node 0", lambda: first.get(key="city"))

    print("\nA put needs 3 of 4, a get 2. Node 0 answers 2 s late: the others do without it:")
    expect(show("slowDown(2) at node 0", lambda: first.slowDown(seconds=2))[0].success, "it is slow")
    expect(show("put('city', 'Porto') at node 1", lambda: heavy.put(key="city", value="Porto"))[1] < 2, "they weigh 3")
    expect(show("get('city') at node 2", lambda: third.get(key="city"))[0].value == "Porto", "it is found")
    show("restore() at node 0", lambda: first.restore())

    print("\nNode 1 answers 1 s late: no put does without it:")
    expect(show("slowDown(1) at node 1", lambda: heavy.slowDown(seconds=1))[0].success, "it is slow")
    expect(show("put('city', 'Faro') at node 0", lambda: first.put(key="city", value="Faro"))[1] >= 1, "the others weigh 2")

    print("\nTen clients put one key, five times each, at all nodes, while it is slow:")
    crowd([first, heavy, third])

    print("\nAnd at once again:")
    expect(show("restore() at node 1", lambda: heavy.restore())[0].success, "it is restored")
    expect(show("put('city', 'Lisboa') at node 2", lambda: third.put(key="city", value="Lisboa"))[1] < 1, "it answers at once")


def crowd(nodes):
    begin = time.monotonic()
    with ThreadPoolExecutor(10) as clients:
        puts = [clients.submit(nodes[number % len(nodes)].put, key="city", value=str(number)) for number in range(50)]
        stored = sum(put.result().success for put in puts)
    print(f"{stored} of 50 stored in {time.monotonic() - begin:.2f} s")
    expect(stored == 50, "all are stored")


def main(form, addresses):
    nodes = [WIRE.client("distributedstore.KeyValueStore", wire.channel(address)) for address in addresses]
    {"centralized": centralized, "decentralized": decentralized}[form](*nodes)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
