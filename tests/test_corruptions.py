"""Corrupted test images: that they are the same for all, and what comes of them."""

from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import numpy
import pandas
import pytest
import torch
from conftest import CORRUPTED
from made_up_runs import made_up_rows, made_up_run
from PIL import Image

import experiment
from experiment.config.loading import load_config
from experiment.config.schema import Config, CorruptionName, DatasetPart
from experiment.core.columns import columns
from experiment.core.registry import DATASETS
from experiment.core.seeding import Stream
from experiment.data.corrupted_images import Corruption
from experiment.data.corruptions.kinds import KINDS
from experiment.data.loading import load_data
from experiment.data.split import Split
from experiment.main import main
from experiment.reporting.corruption_summary import summarise_corruptions
from experiment.reporting.plots.prune_potential import prune_potential
from experiment.reporting.records import CorruptionRecord, PrunePotentialRecord
from experiment.reporting.report.page import page
from experiment.reporting.summary_text import corruption_text
from experiment.runs.found import FoundRun
from experiment.runs.tasks import EvaluateCorrupted, tasks

NAMES = get_args(CorruptionName)
TWO = CORRUPTED.replace(": ", "=", 1)  # as an override; workers and teams of processes do them too


# That it is the same for all.


def digits(**options) -> Split:
    values = DATASETS.complete("digits", options)
    return load_data(DatasetPart(name="digits", **values), Stream(0)).test


def all_images(split: Split, batch_size: int) -> torch.Tensor:
    return torch.cat([images for images, _ in split.batches(batch_size)])


def noise(severity: int = 5, seed: int = 0) -> Corruption:
    return Corruption("gaussian_noise", severity, Stream(seed))


def test_an_image_is_corrupted_alike_whatever_its_batch_and_its_place():
    split = digits()
    images = all_images(split.corrupted(noise()), 32)
    assert torch.equal(images, all_images(split.corrupted(noise()), 7))
    order = Stream(1).permutation(len(split))[:50]
    assert torch.equal(images[order], all_images(split.subset(order).corrupted(noise()), 11))
    assert torch.equal(images[order], all_images(split.corrupted(noise()).subset(order), 11))


def test_other_seeds_and_severities_give_other_images():
    split = digits().subset(torch.arange(5))
    first = all_images(split.corrupted(noise()), 5)
    assert not torch.equal(first, all_images(split.corrupted(noise(seed=1)), 5))
    assert not torch.equal(first, all_images(split.corrupted(noise(severity=4)), 5))
    assert not torch.equal(first, all_images(split, 5))


def test_images_of_one_split_have_noise_of_their_own():
    split = digits().subset(torch.arange(2))
    difference = all_images(split.corrupted(noise()), 2) - all_images(split, 2)
    assert not torch.equal(difference[0], difference[1])


def test_uniform_noise_is_on_the_normalised_pixels_and_not_clipped():
    split = digits()
    level = KINDS["uniform_noise"].strength(3, 8, 8)
    changed = split.corrupted(Corruption("uniform_noise", 3, Stream(0)))
    difference = all_images(changed, 32) - all_images(split, 32)
    assert difference.abs().max() == pytest.approx(level, rel=1e-3)
    assert difference.std() == pytest.approx(level / 3**0.5, rel=0.01)
    assert all_images(changed, 32).min() < all_images(split, 32).min() - 0.9 * level


@pytest.fixture
def folder(tmp_path) -> Path:
    """Colour images of two classes."""
    random = numpy.random.default_rng(0)
    for part in ("train/a", "train/b", "test/a", "test/b"):
        (tmp_path / part).mkdir(parents=True)
        for index in range(6):
            pixels = random.integers(0, 256, (9, 12, 3), dtype=numpy.uint8)
            Image.fromarray(pixels).save(tmp_path / part / f"{index}.png")
    return tmp_path


@pytest.mark.parametrize("name", NAMES)
def test_images_from_files_are_corrupted_as_those_in_memory(folder, name):
    def test_images(**options):
        values = DATASETS.complete("ImageFolder", {"root": str(folder), "image_size": 8, **options})
        part = DatasetPart(name="ImageFolder", validation_fraction=0.2, **values)
        return load_data(part, Stream(0)).test

    corruption = Corruption(name, 5, Stream(0))
    memory = all_images(test_images().corrupted(corruption), 3)
    files = test_images(in_memory=False, num_workers=0)
    assert not torch.equal(memory, all_images(files, 3))
    assert torch.equal(memory, all_images(files.corrupted(corruption), 2))
    if name == "gaussian_noise":  # workers that are processes of their own
        helped = test_images(in_memory=False, num_workers=2)
        assert torch.equal(memory, all_images(helped.corrupted(corruption), 2))


def test_a_kind_of_split_that_cannot_be_corrupted_says_so():
    class Own(Split):
        def __len__(self) -> int:
            return 1

        def subset(self, indices: torch.Tensor) -> Split:
            return self

        def to(self, device: torch.device | str) -> Split:
            return self

        def batches(self, batch_size: int) -> Iterator:
            yield torch.zeros(1, 1, 8, 8), torch.zeros(1)

        def training_batches(self, batch_size: int, generator: torch.Generator) -> Iterator:
            yield from self.batches(batch_size)

    with pytest.raises(
        experiment.UserError, match=r"evaluation\.corruptions: .* a Own, which cannot be corrupted"
    ):
        Own().corrupted(noise())


# What a file says.


def planned(config: Path, *settings: str) -> list[tuple[str, str, int]]:
    return [
        (task.inputs[0], task.corruption, task.severity)
        for task in tasks(load_config(config, settings))
        if isinstance(task, EvaluateCorrupted)
    ]


def test_the_unpruned_and_the_judged_nets_are_evaluated(small_config):
    assert planned(small_config) == []
    one = "evaluation={corruptions: [contrast], severities: [3]}"
    nets = [net for net, _, _ in planned(small_config, one)]
    chains = ["net0/repetition0/0-SiPP", "net0/repetition0/1-WT"]
    steps = [f"{chain}/00{step}-retrain" for chain in chains for step in (1, 2)]
    assert nets == ["net0/train", *steps]
    once = planned(small_config, one, "pruning.retrain_count=1")
    assert [net for net, _, _ in once] == ["net0/train", *steps[1::2]]
    never = planned(small_config, one, "pruning.retrain_count=0")
    assert [net for net, _, _ in never] == [
        "net0/train",
        *(step.replace("retrain", "prune") for step in steps),
    ]
    assert planned(small_config, TWO)[:4] == [
        ("net0/train", name, severity)
        for name in ("gaussian_noise", "contrast")
        for severity in (1, 5)
    ]


def test_the_run_and_its_other_tasks_do_not_depend_on_corruptions(small_config):
    without, with_two = load_config(small_config), load_config(small_config, [TWO])
    assert without.run_id() == with_two.run_id()
    others = [task for task in tasks(with_two) if not isinstance(task, EvaluateCorrupted)]
    assert others == tasks(without)


def test_more_evaluations_than_can_be_listed_are_a_mistake():
    several = {"corruptions": list(NAMES), "severities": [1, 2, 3, 4, 5]}
    pruning = {"methods": ["WT"], "keep_ratios": [0.5, 0.2]}
    with pytest.raises(ValueError, match="are 2,850,000 evaluations; at most 1,000,000"):
        Config(network={"name": "lenet5"}, pruning=pruning, num_nets=10_000, evaluation=several)


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        ("corruptions=[gausian_noise]", "did you mean 'gaussian_noise'? (allowed: gaussian_"),
        ("corruptions=[contrast, frost]", "evaluation.corruptions: frost cannot be made: it needs"),
        ("corruptions=[contrast, contrast]", "evaluation.corruptions: contrast is listed twice"),
        ("severities=[0]", "must be greater than or equal to 1"),
        ("severities=[6]", "must be less than or equal to 5"),
        ("severities=[]", "must have at least 1 item"),
        ("corruption=[contrast]", "did you mean 'corruptions'?"),
    ],
)
def test_mistakes_end_in_one_line(small_config, capsys, setting, expected):
    assert main([str(small_config), "--set", f"evaluation.{setting}", "--dry-run"]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert "--set evaluation" in line
    assert expected in line


def test_a_dry_run_says_how_many_evaluations_it_takes(small_config, capsys):
    assert main([str(small_config), "--dry-run"]) == 0
    assert "corrupted" not in capsys.readouterr().out
    assert main([str(small_config), "--dry-run", "--set", TWO]) == 0
    assert "# cost: 20 evaluations on 360 corrupted test images" in capsys.readouterr().out


# What a run does.


@pytest.fixture(scope="module")
def done(alone) -> Path:
    """The directory of a run of two nets with corruptions, which a process alone has done."""
    return the_run(alone)


def the_run(results: Path) -> Path:
    [directory] = {path.parent for path in results.rglob("config.yaml")}
    return directory


def test_each_judged_net_has_a_row_for_each_corruption(done, small, tmp_path):
    table = pandas.read_csv(done / "corruptions.csv")
    assert list(table) == list(columns(CorruptionRecord))
    assert len(table) == 4 * (2 + 2 * 2 * 2)
    results = pandas.read_csv(done / "results.csv")
    key = ["method", "net_seed", "repetition", "step"]
    assert table.groupby(key).size().to_dict() == dict.fromkeys(
        results[key].itertuples(index=False, name=None), 4
    )
    assert table["accuracy"].between(0, 1).all() and (table["loss"] > 0).all()
    mild = table[(table["corruption"] == "gaussian_noise") & (table["severity"] == 1)]
    clean = results.set_index(key)["test_accuracy"]
    difference = mild.set_index(key)["accuracy"] - clean
    assert difference.abs().max() < 0.1 and difference.abs().max() > 0
    # All else is as in the same run without corruptions.
    without = run(
        small, tmp_path, "evaluation.corruptions=[]", "pruning.methods=[WT]", "num_nets=1"
    )
    of_its_nets = results[(results["method"] != "SiPP") & (results["net_seed"] == 0)]
    one, other = (
        table.drop(columns=["prune_seconds", "retrain_seconds"]).reset_index(drop=True)
        for table in (of_its_nets, pandas.read_csv(without / "results.csv"))
    )
    pandas.testing.assert_frame_equal(one, other, check_exact=True)
    assert not (without / "corruptions.csv").exists()


def test_an_evaluation_is_that_of_the_stored_net_on_the_corrupted_images(done):
    rows = pandas.read_csv(done / "corruptions.csv").set_index(
        ["method", "net_seed", "step", "corruption", "severity"]
    )
    expected = rows.loc[("WT", 1, 2, "contrast", 5)]
    net = experiment.load_network(done, method="WT", keep_ratio=0.2, net_seed=1)
    stream = Stream(0).child("corruption")
    split = digits(crop_padding=1).corrupted(Corruption("contrast", 5, stream))
    images, labels = next(split.batches(len(split)))
    with torch.no_grad():
        outputs = net.eval()(images)
    assert (outputs.argmax(1) == labels).float().mean().item() == pytest.approx(
        expected["accuracy"]
    )
    loss = torch.nn.functional.cross_entropy(outputs, labels).item()
    assert loss == pytest.approx(expected["loss"], rel=1e-4)


def test_the_summary_is_that_of_the_tables_and_begins_with_clean_images(done):
    summary = pandas.read_csv(done / "corruption_summary.csv")
    assert list(summary) == list(columns(PrunePotentialRecord))
    assert summary[["corruption", "severity", "method"]].values.tolist() == [
        [name, severity, method]
        for name, severity in (
            ("clean", 0),
            ("gaussian_noise", 1),
            ("gaussian_noise", 5),
            ("contrast", 1),
            ("contrast", 5),
            ("mean_of_corruptions", 0),
        )
        for method in ("SiPP", "WT")
    ]
    clean = summary[summary["corruption"] == "clean"].set_index("method")
    usual = pandas.read_csv(done / "summary.csv").set_index("method")
    for statistic in ("mean", "std"):
        assert clean[f"prune_potential_{statistic}"].tolist() == pytest.approx(
            usual[f"prune_ratio_chosen_on_test_{statistic}"].tolist()
        )
    for suffix in (".png", ".pdf"):
        assert (done / "plots" / f"prune_potential{suffix}").stat().st_size > 1000
    assert "Prune potential on corrupted images" in (done / "report.html").read_text()
    found = experiment.load_results(done)
    assert len(found) == 10 and FoundRun(done).state == "done"


def modified(directory: Path) -> dict[str, int]:
    steps = directory / "steps"
    return {str(p.relative_to(steps)): p.stat().st_mtime_ns for p in steps.rglob("*.json")}


def run(config: Path, results: Path, *settings: str) -> Path:
    return experiment.run(config, settings, results=results, device="cpu").directory


def test_a_damaged_evaluation_is_done_again_and_nothing_else(small_config, tmp_path, capsys):
    settings = [TWO, "checkpoints=all"]
    directory = run(small_config, tmp_path / "r", *settings)
    tables = [directory / "corruptions.csv", directory / "corruption_summary.csv"]
    expected = [table.read_bytes() for table in tables]
    name = "net0/repetition0/1-WT/002-evaluate-contrast-5.json"
    record = directory / "steps" / name
    record.write_text(record.read_text().replace('"severity": 5', '"severity": 4'))
    tables[0].unlink()
    before = modified(directory)
    run(small_config, tmp_path / "r", *settings)
    assert "its digest is wrong" in "".join(capsys.readouterr())
    changed = {name for name, time in modified(directory).items() if before.get(name) != time}
    assert changed == {name, f"damaged/{name}"}
    assert [table.read_bytes() for table in tables] == expected


def test_a_finished_run_gets_corruptions_without_training_its_nets_again(small_config, tmp_path):
    directory = run(small_config, tmp_path / "r", "checkpoints=all")
    before = modified(directory)
    assert run(small_config, tmp_path / "r", "checkpoints=all", TWO) == directory
    after = modified(directory)
    assert {name: after[name] for name in before} == before  # all nets are there
    assert len(after) - len(before) == 20
    assert FoundRun(directory).state == "done"

    # A further severity adds what is missing.
    more = TWO.replace("[1, 5]", "[1, 2, 5]")
    run(small_config, tmp_path / "r", "checkpoints=all", more)
    last = modified(directory)
    assert {name: last[name] for name in after} == after and len(last) - len(after) == 10
    table = pandas.read_csv(directory / "corruptions.csv")
    assert table["severity"].tolist() == [1, 2, 5] * 10

    # Without them, there are no tables of them; the evaluations stay stored.
    run(small_config, tmp_path / "r", "checkpoints=all")
    for name in ("corruptions.csv", "corruption_summary.csv", "plots/prune_potential.png"):
        assert not (directory / name).exists()
    assert modified(directory) == last


def test_nets_that_are_no_longer_kept_are_pruned_again_from_the_trained_one(small_config, tmp_path):
    directory = run(small_config, tmp_path / "r")
    before = modified(directory)
    table = experiment.load_results(directory).drop(columns=["prune_seconds", "retrain_seconds"])
    run(small_config, tmp_path / "r", TWO)
    after = modified(directory)
    again = {name for name in before if after[name] != before[name]}
    chains = [f"net0/repetition0/{chain}/001-{{}}.json" for chain in ("0-SiPP", "1-WT")]
    assert again == {chain.format(kind) for chain in chains for kind in ("prune", "retrain")}
    found = experiment.load_results(directory).drop(columns=["prune_seconds", "retrain_seconds"])
    pandas.testing.assert_frame_equal(found, table, check_exact=True)


def test_results_from_python(small_config, tmp_path):
    settings = [TWO, "pruning.methods=[WT]"]
    found = experiment.run(small_config, settings, results=tmp_path / "r", device="cpu")
    assert list(found.corruptions) == list(columns(CorruptionRecord))
    assert len(found.corruptions) == 12
    without = experiment.run(small_config, settings[1:], results=tmp_path / "r", device="cpu")
    assert len(without.corruptions) == 0 and list(without.corruptions) == list(found.corruptions)
    swept = small_config.with_name("swept.yaml")
    swept.write_text(small_config.read_text() + "\nsweep: {grid: {seed: [0, 1]}}\n")
    both = experiment.run(swept, settings, results=tmp_path / "r", device="cpu").corruptions
    assert both["run"].value_counts().to_dict() == {"seed=0": 12, "seed=1": 12}
    pandas.testing.assert_frame_equal(
        both[both["run"] == "seed=0"].drop(columns="run"), found.corruptions
    )


# What is said of many rows.


def made_up_corruptions(rows: pandas.DataFrame, losses: dict[str, float]) -> pandas.DataFrame:
    """Each pruned net loses so much accuracy at each step, the unpruned nets have 0.8."""
    place = rows[["method", "net_seed", "repetition", "step"]]
    loss = place["method"].map(losses).fillna(0.0) * place["step"]
    return place.assign(corruption="fog", severity=3, accuracy=0.8 - loss, loss=1.0)


def test_the_prune_potential_is_the_largest_ratio_within_the_margin_on_the_same_images():
    rows = made_up_rows()  # of two nets; 50%, 80% and 90% are pruned at the steps
    corrupted_rows = made_up_corruptions(rows, {"SiPP": 0.01, "WT": 0.03})
    better = (corrupted_rows["method"] == "SiPP") & (corrupted_rows["net_seed"] == 1)
    corrupted_rows.loc[better, "accuracy"] = 0.9
    summary = summarise_corruptions(rows, corrupted_rows, 0.02)
    fog = summary[summary["corruption"] == "fog"].set_index("method")
    # SiPP: steps cost 1 point each, so that 80% is the last of net 0; net 1 is good throughout.
    assert fog.loc["SiPP", "prune_potential_mean"] == pytest.approx((0.8 + 0.9) / 2)
    assert fog.loc["SiPP", "prune_potential_std"] == pytest.approx(0.1 / 2**0.5)
    assert fog.loc["WT", ["prune_potential_mean", "prune_potential_std"]].tolist() == [0, 0]
    assert fog["unpruned_accuracy_mean"].tolist() == pytest.approx([0.8, 0.8])
    assert fog["nets"].tolist() == [2, 2] and fog["commensurate_margin"].tolist() == [0.02, 0.02]
    clean = summary[summary["corruption"] == "clean"].set_index("method")
    assert clean.loc["SiPP", "prune_potential_mean"] == pytest.approx(0.8)
    assert clean.loc["WT", "prune_potential_mean"] == pytest.approx(0.5)
    assert clean["severity"].tolist() == [0, 0]


def several_corruptions(rows: pandas.DataFrame, losses: dict[str, float]) -> pandas.DataFrame:
    """The same on three kinds of images: worse by twice that, by nothing, and by 1 point."""
    mild = made_up_corruptions(rows, {}).assign(corruption="snow", severity=1)
    even = made_up_corruptions(rows, {}).assign(corruption="snow", severity=5)
    even.loc[even["method"] != "reference", "accuracy"] -= 0.01
    twice = {method: 2 * loss for method, loss in losses.items()}
    return pandas.concat([made_up_corruptions(rows, twice), mild, even], ignore_index=True)


def test_the_mean_of_corruptions_is_that_of_the_accuracies_on_all_of_them():
    rows = made_up_rows()
    summary = summarise_corruptions(rows, several_corruptions(rows, {"SiPP": 0.03}), 0.02)
    assert summary["corruption"].unique().tolist() == [
        "clean",
        "fog",
        "snow",
        "mean_of_corruptions",
    ]
    last = summary[summary["corruption"] == "mean_of_corruptions"].set_index("method")
    # At step k, SiPP loses 6k, 0 and 1 points: 2k + 1/3 on average, which is too much at all steps.
    # WT loses 1/3 of a point.
    assert last["prune_potential_mean"].to_dict() == {"SiPP": 0, "WT": 0.9}
    assert last["severity"].tolist() == [0, 0] and last["nets"].tolist() == [2, 2]
    assert last["unpruned_accuracy_mean"].tolist() == pytest.approx([0.8, 0.8])
    wider = summarise_corruptions(rows, several_corruptions(rows, {"SiPP": 0.03}), 0.045)
    wider = wider.set_index(["corruption", "method"])["prune_potential_mean"]
    assert wider["mean_of_corruptions", "SiPP"] == 0.8  # steps 1 and 2 lose 2.33 and 4.33
    assert wider["fog", "SiPP"] == 0


def test_nets_that_are_not_measured_on_all_corruptions_have_no_mean():
    rows = made_up_rows()
    table = several_corruptions(rows, {})
    late = (table["net_seed"] == 1) & (table["method"] == "WT") & (table["severity"] == 5)
    summary = summarise_corruptions(rows, table[~late], 0.02).set_index(["corruption", "method"])
    nets = summary.loc["mean_of_corruptions", "nets"]
    assert nets.to_dict() == {"SiPP": 2, "WT": 1}
    missing = (table["method"] == "reference") & (table["severity"] == 5)
    names = summarise_corruptions(rows, table[~missing], 0.02)["corruption"].unique()
    assert names.tolist() == ["clean", "fog", "snow"]
    one = summarise_corruptions(rows, made_up_corruptions(rows, {}), 0.02)["corruption"].unique()
    assert one.tolist() == ["clean", "fog"]  # the mean of one is that one


def test_repetitions_of_a_net_are_averaged_first():
    first = made_up_rows(methods=("SiPP",), num_nets=1)
    second = first[first["step"] > 0].assign(repetition=1)
    rows = pandas.concat([first, second], ignore_index=True)
    corrupted_rows = made_up_corruptions(rows, {"SiPP": 0.0})
    # At 90% one repetition loses 4 points, and the other none: 2 on average.
    corrupted_rows.loc[
        (corrupted_rows["repetition"] == 1) & (corrupted_rows["step"] == 3), "accuracy"
    ] = 0.76
    for margin, expected in ((0.02, 0.9), (0.019, 0.8)):
        summary = summarise_corruptions(rows, corrupted_rows, margin).set_index("corruption")
        assert summary.loc["fog", "prune_potential_mean"] == pytest.approx(expected)
        assert numpy.isnan(summary.loc["fog", "prune_potential_std"])


def test_nets_whose_unpruned_one_is_not_measured_yet_are_left_out():
    rows = made_up_rows()
    corrupted_rows = made_up_corruptions(rows, {})
    missing = (corrupted_rows["method"] == "reference") & (corrupted_rows["net_seed"] == 1)
    summary = summarise_corruptions(rows, corrupted_rows[~missing], 0.02)
    assert summary.set_index("corruption").loc["fog", "nets"].tolist() == [1, 1]
    unpruned = corrupted_rows[corrupted_rows["method"] == "reference"]
    assert len(summarise_corruptions(rows, unpruned, 0.02)) == 0
    assert len(summarise_corruptions(rows, corrupted_rows[:0], 0.02)) == 0


def made_up_summary() -> pandas.DataFrame:
    rows = made_up_rows()
    return summarise_corruptions(rows, made_up_corruptions(rows, {"WT": 0.03}), 0.02)


def made_up_potentials(*images: tuple[str, int], methods=("SiPP", "WT")) -> pandas.DataFrame:
    """Rows of corruption_summary.csv: 90% for SiPP and 80% for WT, less the severity."""
    return pandas.DataFrame(
        [
            {
                "corruption": corruption,
                "severity": severity,
                "method": method,
                "nets": 2,
                "commensurate_margin": 0.01,
                "unpruned_accuracy_mean": 0.9,
                "prune_potential_mean": {"SiPP": 0.9, "WT": 0.8}[method] - severity / 100,
                "prune_potential_std": 0.05,
            }
            for corruption, severity in images
            for method in methods
        ]
    )


def test_people_are_told_of_clean_images_and_of_the_mean():
    means = made_up_potentials(("mean_of_corruptions", 0), methods=["SiPP"])
    all_images = made_up_potentials(("clean", 0), ("fog", 1), ("fog", 5))
    heading, titles, *lines = corruption_text(pandas.concat([all_images, means])).splitlines()
    assert heading.startswith("largest prune ratio with an error at most 1 points above")
    assert titles.split() == ["method", "clean", "mean_of_corruptions"]
    shown = [line.split() for line in lines]
    assert shown == [
        ["SiPP", "90.0%", "+-", "5.0%", "90.0%", "+-", "5.0%"],
        ["WT", "80.0%", "+-", "5.0%", "-"],
    ]


def test_people_are_told_of_the_last_images_where_there_is_no_mean():
    several = made_up_potentials(("clean", 0), ("fog", 1), ("fog", 5))
    _, titles, *lines = corruption_text(several).splitlines()
    assert titles.split() == ["method", "clean", "fog,", "severity", "5"]
    assert lines[1].split()[-3:] == ["75.0%", "+-", "5.0%"]


def test_the_figure_shows_each_method_beside_clean_images():
    figure = prune_potential(made_up_summary())
    [axes] = figure.axes
    drawn = {
        container.get_label(): [round(float(y), 6) for y in container.lines[0].get_ydata()]
        for container in axes.containers
    }
    assert drawn == {"SiPP": [80, 90], "WT": [50, 0]}
    assert [label.get_text() for label in axes.get_xticklabels()] == ["clean", "3"]
    assert "chosen on these test images" in figure.get_suptitle()


def test_the_figure_has_a_panel_of_the_mean_of_corruptions():
    rows = made_up_rows()
    summary = summarise_corruptions(rows, several_corruptions(rows, {"SiPP": 0.03}), 0.02)
    figure = prune_potential(summary)
    panels = {axes.get_title(): axes for axes in figure.axes if axes.get_title()}
    assert list(panels) == ["fog", "snow", "mean of corruptions"]
    mean = panels["mean of corruptions"]
    drawn = {
        container.get_label(): [round(float(y), 6) for y in container.lines[0].get_ydata()]
        for container in mean.containers
    }
    assert drawn == {"SiPP": [80, 0], "WT": [50, 90]}
    assert [label.get_text() for label in mean.get_xticklabels()] == ["clean", "mean"]
    ticks = [label.get_text() for label in panels["snow"].get_xticklabels()]
    assert ticks == ["clean", "1", "3", "5"]


def test_the_report_has_a_table_of_prune_potentials():
    html = page([made_up_run(corruptions=made_up_summary())], "title")
    text = " ".join(html.split())
    assert "Prune potential on corrupted images" in text and "by which it is also chosen" in text
    row = '<th scope="row">fog</th> <td class="number">3</td> <td class="number">80.0%</td> '
    assert row + '<td class="number">90.0% ± 0.0</td> <td class="number">0.0% ± 0.0</td>' in text
    assert "Prune potential" not in page([made_up_run()], "title")
    mean = made_up_summary().replace({"fog": "mean_of_corruptions", 3: 0})
    text = " ".join(page([made_up_run(corruptions=mean)], "title").split())
    assert '<th scope="row">mean of corruptions</th> <td class="number"></td>' in text
    assert "The mean of corruptions is that of the accuracies on all of them" in text


def test_settings_by_default():
    config = Config(network={"name": "lenet5"})
    assert config.evaluation.corrupted == []
    assert config.evaluation.severities == [1, 3, 5]
