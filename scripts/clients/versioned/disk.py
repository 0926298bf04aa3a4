"""A store on the disk, and one that is not."""

import tempfile

from lab import check, sentence
from versioned.servers import Server


@sentence("With --data everything that was answered is there after kill -9: values, versions, deletes and trims")
def killed():
    with tempfile.TemporaryDirectory(prefix="capstan-lab-") as folder, Server("--data", folder) as server:
        first, second = server.put("k", "1"), server.put("k", "2")
        server.put("gone", "1")
        old, new = server.put("trimmed", "1"), server.put("trimmed", "2")
        server.calls.Del(key="gone")
        server.calls.Trim(key="trimmed")
        for _ in range(2):
            server.kill()
            server.start()
            check("the newest", server.get("k"), ("2", second))
            check("at a version", server.get("k", first), ("1", first))
            check("what was removed", server.get("gone"), ("", 0))
            check("what was trimmed", (server.get("trimmed"), server.get("trimmed", old)), (("2", new), ("", 0)))
        check("exit code after SIGTERM", server.stop(), 0)
        server.start()
        check("after a stop", server.get("k"), ("2", second))


@sentence("Without --data a server starts empty, and leaves nothing behind")
def volatile():
    with Server() as server:
        server.put("k", "1")
        check("exit code after SIGTERM", server.stop(), 0)
        server.start()
        check("after a start", server.get("k"), ("", 0))
