"""The options of a comparison and its tables. Run with: python3 -m unittest discover scripts/peers"""

import contextlib
import io
import pathlib
import sys
import unittest

from compare import arguments, lines, size
from figures import Figures


def round_of(ops):
    return Figures(ops, 1000 / ops, 4000 / ops, 5.0, 10.0)


class TableTest(unittest.TestCase):
    def check(self, names, expected):
        found = {
            (names[store], work): [round_of(ops)]
            for store, work, ops in [(0, "put", 100), (1, "put", 250), (0, "get", 100), (1, "get", 400), (1, "echo", 500)]
        }
        rows = [line.split() for line in lines(found, names)]
        self.assertEqual([" ".join(row[:-5]) for row in rows], expected)
        self.assertEqual([row[-5] for row in rows], ["100", "250", "2.50", "100", "400", "4.00", "500", "0.80"])

    def test_table_of_a_size_has_all_works_and_ratios(self):
        expected = ["put etcd", "Capstan", "ratio", "get etcd", "Capstan", "ratio", "echo Capstan", "get / echo"]
        self.check(("etcd", "Capstan"), expected)

    def test_table_of_two_builds_says_before_and_now(self):
        expected = ["put before", "now", "ratio", "get before", "now", "ratio", "echo now", "get / echo"]
        self.check(("before", "now"), expected)

    def test_size_says_how_many_connections(self):
        self.assertEqual(size(1, 1, 1), "1 node, 1 shard, 1 client; 1 connection to the leading node")
        self.assertIn("256 clients; 4 connections to each leading node", size(3, 64, 256))
        self.assertLessEqual(len(size(5, 1024, 10_000)), 80)


class ArgumentsTest(unittest.TestCase):
    def test_lists_are_read(self):
        args = arguments(["etcd", "--nodes", "3", "--shards", "1,4,64", "--clients", "1,256", "--seconds", "2"])
        self.assertEqual((args.nodes, args.shards, args.clients, args.seconds), ([3], [1, 4, 64], [1, 256], 2))

    def test_usual_run_is_of_one_and_three_nodes(self):
        args = arguments(["etcd"])
        self.assertEqual((args.nodes, args.shards, args.clients, args.rounds), ([1, 3], [1], [1, 64, 256], 3))

    def test_program_is_another_build(self):
        self.assertEqual(arguments([sys.executable]).peer, pathlib.Path(sys.executable))
        self.assertEqual(arguments(["etcd"]).peer, "etcd")

    def test_wrong_use_is_refused(self):
        for words in [[], ["redis"], ["/"], [__file__], ["etcd", "--nodes", "0"], ["etcd", "--clients", "1,x"], ["etcd", "--nodes", "4"]]:
            with self.assertRaises(SystemExit) as exit, contextlib.redirect_stderr(io.StringIO()):
                arguments(words)
            self.assertEqual(exit.exception.code, 2, words)


if __name__ == "__main__":
    unittest.main()
