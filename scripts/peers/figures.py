"""What measurements come to: medians, ratios, and the lines of a table of 80 columns."""

from statistics import median
from typing import NamedTuple, Optional

HEAD = ("", "OPS/S", "P50 MS", "P99 MS", "CLIENT US/OP", "SERVER US/OP")
WIDTHS = (16, 9, 11, 11, 14, 14)


class Figures(NamedTuple):
    """One measurement. CPU is in microseconds per request that was answered, the servers' of all nodes together."""

    ops_per_second: float
    p50_ms: float
    p99_ms: float
    client_us: Optional[float]
    server_us: Optional[float]


def read(answer):
    """The figures of what `capstan bench --json` printed. A node whose CPU is not known leaves that of all unknown."""
    cpu = answer["cpu_us_per_op"]
    nodes = list(cpu["nodes"].values())
    known = nodes and all(node is not None for node in nodes)
    return Figures(
        ops_per_second=answer["ops_per_second"],
        p50_ms=answer["p50_us"] / 1000,
        p99_ms=answer["p99_us"] / 1000,
        client_us=cpu["client"],
        server_us=sum(nodes) if known else None,
    )


def middle(rounds):
    """The median of each figure over the rounds; of one that is not known in every round, none."""
    return Figures(*(None if None in column else median(column) for column in zip(*rounds, strict=True)))


def ratio(ours, theirs):
    """The median, over the rounds, of each figure of ours through theirs of the same round: what changes from round to
    round, such as who else uses the machine, changes both."""
    return middle([Figures(*map(quotient, our, their)) for our, their in zip(ours, theirs, strict=True)])


def quotient(one, other):
    """One number through another; none where either is not known, or nothing can be said."""
    return one / other if one is not None and other else None


def head():
    """The line above all tables."""
    return line(HEAD)


def row(name, figures):
    """A line of figures."""
    whole, thousandths, tenths = "{:.0f}".format, "{:.3f}".format, "{:.1f}".format
    formats = (whole, thousandths, thousandths, tenths, tenths)
    return line((name, *(field(one, figure) for one, figure in zip(formats, figures, strict=True))))


def ratio_row(name, figures):
    """A line of ratios."""
    return line((name, *(field("{:.2f}".format, figure) for figure in figures)))


def field(write, figure):
    """A figure as text."""
    return "-" if figure is None else write(figure)


def line(fields):
    """Fields in columns, names to the left and numbers to the right."""
    name, *numbers = fields
    columns = (number.rjust(width) for number, width in zip(numbers, WIDTHS[1:], strict=True))
    return (name.ljust(WIDTHS[0]) + "".join(columns)).rstrip()
