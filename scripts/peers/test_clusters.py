"""How clusters are started and stopped. Run with: python3 -m unittest discover scripts/peers"""

import pathlib
import socket
import sys
import tempfile
import unittest

import clusters


class ProcessTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)

    def start(self, program):
        process = clusters.spawn([sys.executable, "-c", program], self.folder / "p.log")
        self.addCleanup(clusters.end, [process])
        return process

    def test_process_that_ends_early_is_reported_with_what_it_said(self):
        process = self.start("print('no such disk')")
        with self.assertRaisesRegex(clusters.Failed, "no such disk"):
            clusters.wait(lambda: False, process, self.folder)

    def test_process_is_ended_by_its_id(self):
        process = self.start("import time; print('here', flush=True); time.sleep(600)")
        clusters.wait(lambda: "here" in (self.folder / "p.log").read_text(), process, self.folder)
        self.assertTrue(clusters.lives(process.pid))
        clusters.end([process])
        self.assertFalse(clusters.lives(process.pid))

    def test_command_that_fails_is_reported_with_what_it_said(self):
        with self.assertRaisesRegex(clusters.Failed, "exit code 3: away"):
            clusters.run([sys.executable, "-c", "import sys; print('away', file=sys.stderr); sys.exit(3)"])


class PortsTest(unittest.TestCase):
    def test_port_in_use_is_not_free(self):
        with socket.socket() as server:
            server.bind(("127.0.0.1", 0))
            server.listen()
            self.assertFalse(clusters.is_free(server.getsockname()[1]))

    def test_ports_are_free_at_all_offsets(self):
        base = clusters.free_ports([1, 21])
        self.assertIn(base, clusters.PORTS)
        self.assertTrue(clusters.is_free(base + 1) and clusters.is_free(base + 21))


if __name__ == "__main__":
    unittest.main()
