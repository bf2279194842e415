"""The columns of a run's tables, and what each of them means."""

from dataclasses import dataclass

from experiment.core.columns import column, columns
from experiment.training.records import EpochRecord

REFERENCE = "reference"  # in the column `method`: the trained net before any pruning

# In the column `corruption`:
CLEAN = "clean"  # the test images as they are
MEAN_OF_CORRUPTIONS = "mean_of_corruptions"  # on average over all corruptions and severities


@dataclass(frozen=True, kw_only=True)
class Subject:
    """What is pruned."""

    network: str = column("name of the network")
    dataset: str = column("name of the data set")


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where in an experiment a row belongs. No two rows of results.csv have the same place."""

    method: str = column(f"the method with its options; `{REFERENCE}` for the unpruned net")
    net_seed: int = column("number of the net, from 0")
    repetition: int = column("number of the repetition of pruning, from 0")
    step: int = column("number of the keep ratio in the schedule, from 1; 0 for the unpruned net")

    @property
    def title(self) -> str:
        """The place without its step, to show to people."""
        if self.method == REFERENCE:
            return f"net {self.net_seed}"
        return f"net {self.net_seed}  {self.method}  repetition {self.repetition}"

    @property
    def label(self) -> str:
        """The place with its step, but without its repetition."""
        if self.method == REFERENCE:
            return self.title
        return f"net {self.net_seed}, {self.method}, step {self.step}"


@dataclass(frozen=True, kw_only=True)
class ResultRecord(Place, Subject):
    """A row of results.csv: one net, pruned or not, its size and its accuracy."""

    keep_ratio_requested: float = column("share of the parameters that was to be kept")
    keep_ratio: float = column(
        "share that was kept: parameters that are not masked away over all parameters of the "
        "original net (weights, biases and normalisations)"
    )
    prune_ratio: float = column("1 - `keep_ratio`")
    flop_keep_ratio: float = column(
        "share of the FLOPs of prunable weights that is left if masked weights cost nothing"
    )
    retrained: bool = column("whether the net was retrained at this step")
    accuracy_before_retraining: float = column("test accuracy right after pruning")
    validation_accuracy: float = column("accuracy on the validation images, after any retraining")
    test_accuracy: float = column("accuracy on the test images, after any retraining")
    test_top5: float = column("share of test images whose class is among the five likeliest")
    test_loss: float = column("mean cross entropy on the test images")
    prune_seconds: float = column(
        "time to prune, including the sensitivities even where several methods share them"
    )
    retrain_seconds: float = column(
        "time to retrain; for the unpruned net, to train. Nets trained at once share it equally"
    )
    empty_layers: int = column("number of prunable layers without a weight")
    constant_output: bool = column(
        "whether the net gives the same output for all validation images"
    )
    note: str | None = column(
        "why the size is not the one requested, and what in the net no longer works; mostly empty"
    )

    @property
    def line(self) -> str:
        """The row as one line, to show to people."""
        note = f"  [{self.note}]" if self.note else ""
        if self.method == REFERENCE:
            return (
                f"{self.title}  unpruned: test accuracy {self.test_accuracy:.2%}, "
                f"trained in {self.retrain_seconds:.0f} s{note}"
            )
        retraining = ""
        if self.retrained:
            retraining = (
                f" ({self.accuracy_before_retraining:.2%} before retraining, "
                f"{self.retrain_seconds:.0f} s)"
            )
        return (
            f"{self.title}  step {self.step}: "
            f"kept {self.keep_ratio:.2%} (requested {self.keep_ratio_requested:.2%}), "
            f"test accuracy {self.test_accuracy:.2%}{retraining}{note}"
        )


@dataclass(frozen=True, kw_only=True)
class TrainingRecord(EpochRecord, Place):
    """A row of training.csv: one epoch of a training or retraining."""


@dataclass(frozen=True, kw_only=True)
class LayerRecord(Place):
    """A row of layers.csv: what a pruning has left of one layer."""

    layer: str = column("name of the layer in the network")
    keep_ratio: float = column("share of its weights that was kept")


@dataclass(frozen=True, kw_only=True)
class HoldoutRecord(Place):
    """A row of holdout.csv: the test of a pruned net on the images set aside."""

    loss: str = column(
        "`accuracy_drop`, or `disagreement`: the share of images whose predicted class changes"
    )
    observed: float = column("the loss on the images set aside, against the unpruned net")
    at_most: float = column("the limit of the loss on new images that is tested")
    confidence: float = column("of the guarantee")
    p_value: float = column("of the hypothesis that the loss on new images is above the limit")
    passes: bool = column(
        "whether the p-value is at most 1 - `confidence`. A net is guaranteed if it passes and so "
        "do all of its method that keep more"
    )
    images: int = column("how many are set aside")
    images_needed: int | None = column(
        "about how many it would take to pass; empty if it passes, or if the observed loss is too "
        "large"
    )


@dataclass(frozen=True, kw_only=True)
class CorruptionRecord(Place):
    """A row of corruptions.csv: what one net can do on test images after one corruption."""

    corruption: str = column("how the test images were corrupted")
    severity: int = column("how much, from 1 to 5")
    accuracy: float = column("accuracy on the corrupted test images, after any retraining")
    loss: float = column("mean cross entropy on the same images")


@dataclass(frozen=True, kw_only=True)
class PrunePotentialRecord:
    """A row of corruption_summary.csv: how far a method can prune on images after a corruption."""

    corruption: str = column(
        f"how the test images were corrupted; `{CLEAN}` if they were not, `{MEAN_OF_CORRUPTIONS}` "
        f"for the mean accuracy over all corruptions and severities, if there are several"
    )
    severity: int = column(f"how much, from 1 to 5; 0 for `{CLEAN}` and `{MEAN_OF_CORRUPTIONS}`")
    method: str = column("the method with its options")
    nets: int = column("number of nets over which means and deviations are taken")
    commensurate_margin: float = column(
        "by how much the error may exceed that of the unpruned net, as a share of images"
    )
    unpruned_accuracy_mean: float = column("accuracy of the unpruned nets on the same images")
    prune_potential_mean: float = column(
        "the largest prune ratio at which the error is at most the margin above that of the same "
        "net before pruning, on the same images, by which it is also chosen; 0 if there is none"
    )
    prune_potential_std: float | None = column(
        "its standard deviation over nets; empty for a single net"
    )


@dataclass(frozen=True, kw_only=True)
class FailureRecord(Place):
    """A row of failures.csv: a task that failed, so that what follows from it was not done."""

    task: str = column("what failed: `train`, `prune`, `retrain` or `evaluate`")
    reason: str = column("why, and where in your own code if it was that; more is in `log.txt`")
    num_given_up: int = column("how many other tasks, which follow from it, were given up")


KEY = tuple(columns(Place))
