"""The table of `make bench` in Markdown."""

from collections.abc import Iterable, Mapping
from typing import Any

ROWS = "", "what", "ms", "baseline", "ms", "ratio", "repeats", "rate", "of roofline", "peak MiB"
GROWTH = "of", "over", "sizes", "ms", "exponent", "peak MiB", "exponent"


def as_markdown(found: Mapping[str, Any]) -> str:
    """Machine, roofline, rows, shares of a step, growth; ms are medians [quartiles]."""
    roofline, shares = found["roofline"], found["shares"]
    rates = [
        [str(threads), *(f"{rate:,.0f}" for rate in reached.values())]
        for threads, reached in roofline.items()
    ]
    parts = [
        [step, part, f"{1e3 * one['s']:,.4g}", f"{one['share']:.0%}"]
        for step, of_step in shares.items()
        for part, one in of_step.items()
    ]
    return "\n\n".join(
        [
            f"# {found['machine']['name']}",
            ", ".join(f"{name} {value}" for name, value in found["machine"].items()),
            "Milliseconds are medians [quartiles]. A ratio is baseline / ours.",
            "## Roofline",
            _table(["threads", *next(iter(roofline.values()))], rates),
            "## Against a baseline",
            _table(ROWS, map(_row, found["rows"])),
            "## Parts of a step",
            _table(["step", "part", "ms", "share"], parts),
            "## Growth\n\nAn exponent a is that of size ** a.",
            _table(GROWTH, map(_growth, found["growth"])) + "\n",
        ]
    )


def _row(row: Mapping[str, Any]) -> list[str]:
    if "absent" in row:
        return [row["group"], row["what"], "", row["baseline"], row["absent"], *[""] * 5]
    per = row["unit"].removeprefix("s")  # of "s an image"
    return [
        *(row["group"], row["what"], _ms(row["median"], row["quartiles"]) + per, row["baseline"]),
        _ms(row["baseline_median"], row["baseline_quartiles"]) + per,
        f"{row['ratio']:.2f}" + (", **slower**" if row["slower"] else ""),
        str(row["repeats"]),
        f"{row['rate']:,.3g} of {row['rate_unit']}" if "rate" in row else "",
        f"{row['share']:.1%}" if "share" in row else "",
        f"{_mib(row['peak_mib'])}, baseline {_mib(row['baseline_peak_mib'])}"
        if "peak_mib" in row
        else "",
    ]


def _growth(row: Mapping[str, Any]) -> list[str]:
    times = map(_ms, row["medians"], row["quartiles"])
    exponents = (
        "" if row[name] is None else f"{row[name]:.2f}" for name in ("exponent", "peak_exponent")
    )
    of_time, of_peak = exponents
    return [
        *(row["what"], row["over"], "; ".join(map(str, row["sizes"])), "; ".join(times), of_time),
        *("; ".join(map(_mib, row["peaks_mib"])), of_peak),
    ]


def _ms(median: float, quartiles: list[float]) -> str:
    low, high = quartiles
    return f"{1e3 * median:,.4g} [{1e3 * low:,.4g}, {1e3 * high:,.4g}]"


def _mib(peak: float | None) -> str:
    return "not told" if peak is None else f"{peak:,.0f}"


def _table(columns: Iterable[str], rows: Iterable[list[str]]) -> str:
    columns = list(columns)
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
