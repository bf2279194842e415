"""Latencies as text for people."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas


def latency_lines(table: "pandas.DataFrame") -> list[str]:
    """Latencies, as `measure_latency` returns them, for people."""
    shown = table.assign(
        median=table["median_ms"].map("{:.3g} ms".format),
        quartiles=[
            f"{lower:.3g} to {upper:.3g}"
            for lower, upper in zip(table["quartile_1_ms"], table["quartile_3_ms"])
        ],
        # It is missing where the first net was not measured on the same device.
        faster=[f"{one:.2f} x" if one == one else "" for one in table["speedup"]],
    )
    extra = [name for name in ("parameters", "macs") if name in table]
    columns = ["net", *extra, "median", "quartiles", "faster"]
    lines = []
    for (runtime, version, size), rows in shown.groupby(
        ["runtime", "version", "batch_size"], sort=False
    ):
        first = rows.iloc[0]
        threads = ""
        if first["threads"] == first["threads"] and first["threads"] is not None:  # on a CPU
            threads = f", {first['threads']:g} thread{'s' if first['threads'] > 1 else ''}"
        lines.append(f"{runtime} {version}, batches of {size}, {first['device']}{threads}:")
        text = rows[columns].to_string(index=False, formatters=dict.fromkeys(extra, "{:,}".format))
        lines += [f"  {line}" for line in text.splitlines()]
    return lines
