"""Tests of the guarantee: of pruned nets, on validation images that are set aside for them."""

import numpy

from experiment.certification.holdout_tests import (
    can_pass,
    fewest_images,
    images_needed,
    losses_of_pairs,
    p_value,
)
from experiment.config.doubts import doubts
from experiment.config.schema import Config, Guarantee
from experiment.core.columns import as_dict
from experiment.data.loading import num_choosing
from experiment.reporting.records import HoldoutRecord, Place
from experiment.runs.records import EvaluatedRecord


def all_doubts(config: Config, num_train: int, num_validation: int) -> list[str]:
    """What may be a mistake in a configuration; see `doubts`."""
    found = doubts(config, num_train, num_validation)
    guarantee = config.guarantee
    if guarantee is not None:
        num_images = num_validation - num_choosing(num_validation, True)
        settings = (guarantee.at_most, guarantee.confidence)
        if not can_pass(guarantee.loss, num_images, *settings):
            fewest = fewest_images(guarantee.loss, *settings)
            found.append(
                f"guarantee: no net can pass with the {num_images} images set aside, half of the "
                f"validation images; even if no prediction changes it takes "
                f"{'millions' if fewest is None else fewest}: choose a larger "
                f"dataset.validation_fraction, or a guarantee.at_most above {guarantee.at_most:g}"
            )
    return found


def holdout_row(
    place: Place, before: EvaluatedRecord, after: EvaluatedRecord, guarantee: Guarantee
) -> HoldoutRecord:
    """The test of a pruned net, from what it and the unpruned net have predicted."""
    assert before.holdout_classes is not None and before.holdout_correct is not None
    assert after.holdout_classes is not None and after.holdout_correct is not None
    found = losses_of_pairs(
        guarantee.loss,
        changed=numpy.array(before.holdout_classes) != numpy.array(after.holdout_classes),
        right_before=numpy.array(before.holdout_correct),
        right_after=numpy.array(after.holdout_correct),
    )
    settings = (guarantee.at_most, guarantee.confidence)
    p = p_value(guarantee.loss, found, *settings)
    passes = bool(p <= 1 - guarantee.confidence)
    needed = None if passes else images_needed(guarantee.loss, found, *settings)
    return HoldoutRecord(
        **as_dict(place),
        loss=guarantee.loss,
        observed=float(found.mean()),
        at_most=guarantee.at_most,
        confidence=guarantee.confidence,
        p_value=p,
        passes=passes,
        images=len(found),
        images_needed=needed,
    )
