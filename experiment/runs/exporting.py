"""Taking a net out of a run: as small as it can be, checked on real images, and measured."""

import re
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from torch import nn

from experiment.core.devices import choose_device
from experiment.core.errors import UserError
from experiment.deployment.cost import Cost, FileSize
from experiment.deployment.fidelity import relative_difference
from experiment.deployment.latency import measure_latency
from experiment.deployment.latency_text import latency_lines
from experiment.deployment.metadata import Metadata
from experiment.deployment.shrinking import Shrunk
from experiment.deployment.subject import Subject
from experiment.deployment.writing import FORMATS, format_for, write_checked
from experiment.reporting.records import REFERENCE
from experiment.runs.net_source import Source
from experiment.runs.stored_nets import MeasuredNet

if TYPE_CHECKING:
    import pandas

SECONDS = 3.0  # for which latency is measured
HANDY = 8  # numbers of channels that are multiples of it suit most runtimes
COUNTS = ("parameters", "nonzero_parameters", "macs", "nonzero_macs", "file", "zipped")
FOLDER = "exports"  # in the directory of the run, unless a file is named


@dataclass(frozen=True)
class Exported:
    """A net that was written to a file, and what pruning has gained."""

    path: Path
    metadata: Metadata
    widths: dict[str, tuple[int, int]]  # by layer that got narrower: before and after
    difference: float  # of outputs from the pruned net's, relative to the largest
    sizes: "pandas.DataFrame"  # a row for the unpruned net, in the same format, and one for this
    num_images: int  # on which outputs were compared
    notes: list[str]  # what the numbers do not say
    latency: "pandas.DataFrame | None"  # of the unpruned net and of this one, if it was measured

    def __repr__(self) -> str:
        return "\n".join(self.lines())

    def lines(self) -> list[str]:
        """What to tell people."""
        about = self.metadata
        name = "unpruned" if about.method == REFERENCE else about.method
        table = self.sizes.to_string(index=False, formatters=dict.fromkeys(COUNTS, "{:,}".format))
        return [
            f"{about.network}, {name}: {about.keep_ratio:.2%} of the parameters are kept "
            f"(requested {about.keep_ratio_requested:.2%}), "
            f"test accuracy {about.test_accuracy:.2%}",
            *table.splitlines(),
            *([] if self.latency is None else latency_lines(self.latency)),
            *(f"note: {note}" for note in self.notes),
            f"checked on {self.num_images} test images: outputs differ by at most "
            f"{self.difference:.1g} of the largest",
            f"file: {self.path}",
        ]


def export(
    run: str | Path,
    method: str | None = None,
    keep_ratio: float | None = None,
    net_seed: int = 0,
    *,
    repetition: int = 0,
    format: str | None = None,
    output: str | Path | None = None,
    round_channels: int = 1,
    seconds: float = SECONDS,
    recompute: bool = False,
    say: Callable[[str], None] = lambda line: None,
) -> Exported:
    """Write a pruned net of a run to a file, as small as it can be.

    What pruning has made superfluous is cut out, the file is read back, and its outputs on 64 test
    images are compared with those of the pruned net.

    Args:
        run: the directory of a run, which may still be running.
        method: as in results.csv; None for the unpruned net.
        keep_ratio: one of those that were asked for.
        net_seed: which of several nets.
        repetition: of the pruning.
        format: `safetensors`, to be read by `experiment.load_network`; `onnx`; `torch-export`, to
            be read by torch.export.load; or `openvino`. By default what the suffix of the output
            says, or safetensors.
        output: the file; by default one in `exports/` of the run.
        round_channels: so many superfluous channels stay, as zeros, that the layers' widths are
            multiples of this.
        seconds: for which the latency of batches of 1 and of 64 images is measured, each; 0 for
            not at all.
        recompute: whether a net that is not kept is computed again.
        say: hears what takes long, line by line.

    Returns:
        The path, and the sizes and latencies of the unpruned net and of this one.

    Raises:
        UserError: if there is no such net, a package is missing or outputs differ.
        StorageError: if the file cannot be written.

    Example:
        >>> experiment.export("results/mine/4a1c0d27be", "PFP", 0.2, format="onnx").path
    """
    format = format_for(format, output)
    device = choose_device("auto") if recompute else "cpu"
    source = Source.of(run, device, say)
    found = source.stored.find(method, keep_ratio, net_seed, repetition)
    net = source.stored.load(found, recompute)
    unpruned = source.stored.find(None, None, net_seed, 0)
    original = source.stored.load(unpruned, recompute)
    path = Path(output) if output else default_path(source, found, format)
    smaller = source.shrunk(net, round_channels, len(source.images))
    before = _size_of_original(source, original, unpruned, format)
    metadata = source.metadata(found, smaller.net)
    written = write_checked(smaller.net, format, path, metadata, source.images)
    return Exported(
        path=written.path,
        metadata=metadata,
        widths=smaller.widths,
        difference=relative_difference(written.outputs, source.outputs_of(net)),
        sizes=_sizes(
            source, {"original": (original, before), "exported": (smaller.net, written.size)}
        ),
        num_images=len(source.images),
        notes=notes_on(smaller),
        latency=_latency(source, original, smaller.net, seconds, say) if seconds else None,
    )


def _size_of_original(
    source: Source, original: nn.Module, unpruned: MeasuredNet, format: str
) -> FileSize:
    """The size of a file of the unpruned net. Raises UserError if there cannot be one."""
    chosen = FORMATS[format]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, f"original{chosen.SUFFIX}")
        chosen.write(original, source.images, path, source.metadata(unpruned, original))
        return FileSize.of(sorted(Path(folder).iterdir()))


def default_path(source: Source, found: MeasuredNet, format: str) -> Path:
    """A file in the directory of the run, named by what it holds."""
    values = found.values
    parts = [
        source.stored.config.network.name,
        found.short_title,
        f"net{values['net_seed']}",
        f"repetition{values['repetition']}" if values["repetition"] else "",
    ]
    name = "-".join(re.sub(r"[^\w.=]+", "_", part) for part in parts if part)
    return source.stored.run.directory / FOLDER / f"{name}{FORMATS[format].SUFFIX}"


def notes_on(smaller: Shrunk) -> list[str]:
    """What a reader of the sizes should know."""
    notes = [smaller.note] if smaller.note else []
    odd = [
        layer
        for layer, (before, after) in smaller.widths.items()
        if not before % HANDY and after % HANDY
    ]
    if odd:
        named = ", ".join(odd[:3]) + (" ..." if len(odd) > 3 else "")
        notes.append(
            f"the number of channels of {named} is no multiple of {HANDY}, with which some "
            f"runtimes are several times slower; --round-channels {HANDY} leaves zeros in them, "
            f"and pruning.round_channels: {HANDY} prunes multiples to begin with"
        )
    zeros = sum(int((one == 0).sum()) for one in smaller.net.parameters())
    total = sum(one.numel() for one in smaller.net.parameters())
    if zeros > 0.01 * total:
        notes.append(
            f"{zeros / total:.0%} of the parameters are zeros within layers: they make the file "
            f"smaller when it is compressed, but dense kernels multiply by them all the same, so "
            f"that they make nothing faster by themselves"
        )
    return notes


def _sizes(source: Source, nets: dict[str, tuple[nn.Module, FileSize]]) -> "pandas.DataFrame":
    """What the nets and their files cost, side by side."""
    import pandas

    return pandas.DataFrame(
        [
            {
                "net": name,
                **asdict(Cost.of(net, source.images)),
                "file": size.plain,
                "zipped": size.compressed,
            }
            for name, (net, size) in nets.items()
        ]
    )


def _latency(
    source: Source,
    original: nn.Module,
    smaller: nn.Module,
    seconds: float,
    say: Callable[[str], None],
) -> "pandas.DataFrame | None":
    """The latencies of the unpruned net and of the written one; None if that is impossible."""
    nets = {"original": original, "exported": smaller}
    subjects = [Subject(name, net, source.images) for name, net in nets.items()]
    try:
        return measure_latency(subjects, seconds=seconds, say=say)
    except UserError as error:  # the file is there, and right
        say(f"latency is not measured: {error}")
        return None
