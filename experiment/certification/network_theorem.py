"""The certified error of a whole net compared with that of its output on fresh images."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy
import pandas
import torch
from torch import Tensor, nn

from experiment.certification.output_errors import relative_to
from experiment.core.errors import UserError
from experiment.core.seeding import Stream
from experiment.core.text import shown
from experiment.nets.batches import as_batches
from experiment.nets.checks import positive, whole_number
from experiment.nets.feed_forward import feed_forward
from experiment.nets.running import copy_of, run_in_eval_mode, split_batch
from experiment.nets.tensors import map_tensors
from experiment.pruning.analysis import Analysis
from experiment.pruning.network_bound import NetworkBound
from experiment.pruning.prune import named_method
from experiment.pruning.pruned import Pruned
from experiment.pruning.pruner import Pruner
from experiment.sensitivity.constants import DEFAULT_DELTA, C
from experiment.sensitivity.empirical import measure
from experiment.sensitivity.sign_complexity import sign_complexities

SLACK = 1 + 1e-6  # for sensitivities, which are in single precision
ROUNDING = 1e-9  # of the output's relative error, which is in double precision


@torch.inference_mode(False)
def certify_network(
    net: nn.Module,
    batches: Iterable[Any],
    fresh: Iterable[Any],
    errors: Sequence[float],
    *,
    method: str = "SiPP",
    seed: int = 0,
    delta: float = DEFAULT_DELTA,
) -> pandas.DataFrame:
    """Prune copies of a net to certified errors of its output, and measure those on fresh data.

    Args:
        net, batches, seed, delta: as for `experiment.prune`.
        fresh: batches that are not in S, in the same form.
        errors: relative errors that no entry of the output may exceed.
        method: `SiPP` or `SiPPRand`.

    Returns:
        One row per error, with the columns that `compare_outputs` describes.

    Raises:
        UserError: for whatever cannot be used, for instance a net to which the theorem does not
            apply, in one sentence that says what would be right.

    Example:
        >>> table = experiment.certify_network(net, loader, test_loader, [0.1, 1.0])
        >>> table[["error", "keep_ratio", "certified", "measured_max"]]
    """
    if isinstance(errors, str) or not isinstance(errors, Sequence) or not errors:
        raise UserError(f"errors must be a list of numbers, as [0.1, 1.0] is, not {shown(errors)}")
    methods = [
        named_method({"name": method, "error": positive("errors", error)}) for error in errors
    ]
    seeds = Stream(whole_number("seed", seed))
    pruner = Pruner(net, batches, delta=delta)
    fresh = list(as_batches(net, fresh, "fresh"))
    pruned = [pruner.prune(one, None, seeds.child("prune")) for one in methods]
    return compare_outputs(pruner.analysis, pruned, fresh)


def compare_outputs(
    analysis: Analysis, pruned: Sequence[Pruned], fresh: Sequence[Any]
) -> pandas.DataFrame:
    """One row per pruned net, each of a method with an error, with these columns.

    - `error`, what was asked for; `keep_ratio_requested`, the share of the parameters that it asks
      for, and `keep_ratio`, without those that are dead then.
    - `layers`, and `exact_layers`, those that keep all weights with any sensitivity.
    - `sign_complexity`, the largest of all layers on S.
    - `certified`, the relative error that no entry of the output exceeds.
    - `measured_*`, over the fresh images, of the largest relative error of any output: median, 95th
      percentile and maximum; infinite where an output is 0 before pruning alone.
    - `images`, their number; `share_above`, the share whose measured error is above the certified.
    - `share_within`, the share that meets the premises of the theorem, and `share_above_within`,
      the share of all images that meets them and is above all the same.
    """
    outputs = _outputs(analysis.net, fresh)
    within = _within_premises(analysis, pruned, fresh)
    rows = [
        _row(one, _largest_errors(outputs, _outputs(one.net, fresh)), meets)
        for one, meets in zip(pruned, within)
    ]
    return pandas.DataFrame(rows)


def _row(pruned: Pruned, errors: numpy.ndarray, within: numpy.ndarray) -> dict[str, Any]:
    bound = _bound(pruned)
    above = errors > bound.certified * SLACK + ROUNDING
    median, p95, largest = numpy.quantile(errors, [0.5, 0.95, 1], method="higher")
    return {
        "error": bound.error,
        "keep_ratio_requested": pruned.keep_ratio_requested,
        "keep_ratio": pruned.keep_ratio,
        "layers": len(bound.by_layer),
        "exact_layers": bound.exact_layers,
        "sign_complexity": bound.sign_complexity,
        "certified": bound.certified,
        "measured_median": float(median),
        "measured_p95": float(p95),
        "measured_max": float(largest),
        "images": len(errors),
        "share_above": float(above.mean()),
        "share_within": float(within.mean()),
        "share_above_within": float((above & within).mean()),
    }


def _bound(pruned: Pruned) -> NetworkBound:
    if pruned.bound is None:
        raise UserError("nothing is certified about the output of a net pruned without an error")
    return pruned.bound


def _outputs(net: nn.Module, batches: Sequence[Any]) -> Tensor:
    """The outputs for all images [images, outputs], in double precision."""
    precise = copy_of(net).double()
    found = []
    for batch in batches:
        inputs, _ = split_batch(batch)
        output = run_in_eval_mode(precise, (map_tensors(Tensor.double, inputs), None))
        found.append(output.flatten(1).cpu())
    return torch.cat(found)


def _largest_errors(before: Tensor, after: Tensor) -> numpy.ndarray:
    """The largest relative error of any output of each image [images]."""
    return relative_to(before.abs(), (after - before).abs()).amax(1).numpy()


def _within_premises(
    analysis: Analysis, pruned: Sequence[Pruned], batches: Sequence[Any]
) -> numpy.ndarray:
    """Which images meet the premises for each pruned net [nets, images].

    No contribution of a weight on which a unit's certificate depends is above C times its
    sensitivity, and no sign complexity of a layer with an error is above the largest on S.
    """
    chain = feed_forward(analysis.net)
    limits = {
        name: C * SLACK * sensitivity for name, sensitivity in analysis.sensitivities("max").items()
    }
    concerned = [_concerned(analysis, one) for one in pruned]
    found = []
    for image in _images(batches):
        own = measure(analysis.net, analysis.layers, [image], ("max",))["max"]
        beyond = {name: own[name] > limits[name] for name in limits}
        largest = sign_complexities(chain, [image])
        found.append(
            [
                _meets(_bound(one), beyond, weights, largest)
                for one, weights in zip(pruned, concerned)
            ]
        )
    return numpy.array(found).T


def _meets(
    bound: NetworkBound,
    beyond: dict[str, Tensor],
    concerned: dict[str, Tensor],
    sign_complexity: dict[str, float],
) -> bool:
    """Whether an image meets the premises for a pruned net."""
    if any(bool((beyond[name] & concerned[name]).any()) for name in beyond):
        return False
    return all(
        layer.output_error == 0 or sign_complexity[layer.layer] <= layer.sign_complexity * SLACK
        for layer in bound.by_layer
    )


def _concerned(analysis: Analysis, pruned: Pruned) -> dict[str, Tensor]:
    """The weights on whose sensitivities certificates depend: dropped ones, or those of draws."""
    concerned = ~pruned.decision.kept
    draws = pruned.decision.draws
    if draws is not None:
        drawn = torch.from_numpy(numpy.isfinite(draws)).reshape(-1, 2)  # positive, negative weights
        signs = {name: (weight < 0).long() for name, weight in analysis.weights.items()}
        rows = drawn.split([shape[0] for shape in analysis.flat.shapes.values()])
        sampled = {
            name: own.to(sign.device).gather(1, sign.flatten(1)).reshape(sign.shape)
            for own, (name, sign) in zip(rows, signs.items())
        }
        concerned = concerned | analysis.flat.join(sampled)
    return analysis.flat.split(concerned)


def _images(batches: Sequence[Any]) -> Iterator[Any]:
    """The images one by one, as batches."""
    for batch in batches:
        inputs, _ = split_batch(batch)
        for index in range(len(inputs)):
            yield inputs[index : index + 1], None
