"""The arithmetic of comparisons and how it is printed. Run with: python3 -m unittest discover scripts/peers"""

import unittest

import figures
from figures import Figures


def round_of(ops, server=10.0):
    return Figures(ops, 1000 / ops, 4000 / ops, 5.0, server)


class FiguresTest(unittest.TestCase):
    def test_answer_of_the_bench_is_read(self):
        answer = {
            "ops_per_second": 2000.5,
            "p50_us": 480,
            "p99_us": 1200,
            "p999_us": 2000,
            "max_us": 3000,
            "errors": 0,
            "in_doubt": 0,
            "cpu_us_per_op": {"client": 12.5, "nodes": {"n1": 30.0, "n2": 10.5}},
        }
        self.assertEqual(figures.read(answer), Figures(2000.5, 0.48, 1.2, 12.5, 40.5))
        answer["cpu_us_per_op"]["nodes"]["n2"] = None
        self.assertIsNone(figures.read(answer).server_us)
        answer["cpu_us_per_op"]["nodes"] = {}
        self.assertIsNone(figures.read(answer).server_us)

    def test_median_leaves_one_bad_round_out(self):
        self.assertEqual(figures.middle([round_of(100), round_of(1), round_of(120)]).ops_per_second, 100)
        self.assertIsNone(figures.middle([round_of(100), round_of(100, None)]).server_us)

    def test_ratio_is_of_pairs_of_a_round(self):
        ours, theirs = [round_of(200), round_of(20), round_of(90)], [round_of(100), round_of(10), round_of(30)]
        ratio = figures.ratio(ours, theirs)
        self.assertEqual(ratio.ops_per_second, 2.0)
        self.assertAlmostEqual(ratio.p50_ms, 0.5)
        self.assertEqual(ratio.server_us, 1.0)
        self.assertIsNone(figures.ratio(ours, [round_of(100, None)] * 3).server_us)
        self.assertIsNone(figures.ratio(ours, [round_of(100, 0)] * 3).server_us)

    def test_lines_fit_80_columns(self):
        wide = Figures(1234567.8, 12345.678, 12345.678, 123456.7, 123456.7)
        lines = [figures.head(), figures.row("get    Capstan", wide), figures.ratio_row("       ratio", wide)]
        for line in lines:
            self.assertLessEqual(len(line), 80, line)
        self.assertEqual(
            lines[1].split(), ["get", "Capstan", "1234568", "12345.678", "12345.678", "123456.7", "123456.7"]
        )
        self.assertTrue(figures.row("put", wide._replace(server_us=None)).endswith(" -"))


if __name__ == "__main__":
    unittest.main()
