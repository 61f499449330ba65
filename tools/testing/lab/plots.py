# SPDX-License-Identifier: GPL-2.0
"""Plots of what `lab bench dma` has measured, as SVG and PNG. The drawing itself is done in the tool root, by this file as a program."""

import json
import re
import statistics
import sys
from pathlib import Path

# The usual library for it; Debian maintains it. A layer of its own, which only the benchmark fetches.
PACKAGES = ("python3-matplotlib",)

CONFIGURATIONS = {"none": "no encryption", "swiotlb": "SEV, swiotlb", "shim": "SEV, guest helper"}
COLOURS = {"none": "#999999", "swiotlb": "#d95f02", "shim": "#1b9e77"}


def draw(root, results, directory):
    """Draw dma-throughput, dma-requests and dma-instructions from a file of results."""
    # Not at the top: in the tool root this file is no part of the package.
    from . import sandbox, toolroot
    layer = toolroot.packages_layer(root, "plots", PACKAGES)
    sandbox.output(root, ["python3", "-B", __file__, results, directory], layers=(layer,), env={"MPLCONFIGDIR": "/tmp", "MPLBACKEND": "agg"},
                   binds=[(directory, directory, False)])


def bars(pyplot, directory, name, title, unit, figures):
    """A group of bars for each key, one for each configuration: the median, and from the smallest to the largest as a line."""
    keys = list(figures["none"])
    figure, axes = pyplot.subplots(figsize=(1 + 0.9 * len(keys), 4.5), layout="constrained")
    width = 0.8 / len(CONFIGURATIONS)
    for number, (configuration, label) in enumerate(CONFIGURATIONS.items()):
        values = [figures[configuration].get(key, [0]) for key in keys]
        medians = [statistics.median(own) for own in values]
        spread = [[middle - min(own) for middle, own in zip(medians, values)], [max(own) - middle for middle, own in zip(medians, values)]]
        axes.bar([at + (number - 1) * width for at in range(len(keys))], medians, width, label=label, color=COLOURS[configuration],
                 yerr=spread, error_kw={"linewidth": 0.8})
    axes.set_xticks(range(len(keys)), [key.split(".", 1)[1].replace(".", "\n", 1) for key in keys])
    axes.set_ylabel(unit)
    axes.set_title(title)
    axes.legend()
    for suffix in ("svg", "png"):
        # No date: the same figures make the same file.
        figure.savefig(Path(directory) / f"{name}.{suffix}", dpi=120, metadata={"Date": None} if suffix == "svg" else None)


def main():
    from matplotlib import pyplot, rcParams
    rcParams["svg.hashsalt"] = "lab"
    results, directory = sys.argv[1:]
    figures = json.loads(Path(results).read_text())["figures"]

    def chosen(pattern):
        return {name: {key: values for key, values in own.items() if re.match(pattern, key)} for name, own in figures.items()}

    fio = "fio on a null disk (how, size, requests at once, jobs)"
    bars(pyplot, directory, "dma-throughput", fio, "MiB/s", chosen(r"disk\.\w+\.(64k|1m|4m)\."))
    bars(pyplot, directory, "dma-requests", fio, "requests per second", chosen(r"iops\.\w+\.4k\."))
    bars(pyplot, directory, "dma-instructions", "Direct I/O of 1 MiB", "instructions of the guest's kernel", chosen(r"instructions\."))


if __name__ == "__main__":
    main()
