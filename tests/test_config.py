"""What YAML files may say, how they are merged, and what the validator answers to mistakes."""

import json
import re

import pytest
import yaml
from conftest import ROOT

from experiment.config.documents import merge
from experiment.config.json_schema import json_schema
from experiment.config.loading import load_config
from experiment.core.errors import UserError

SHIPPED = sorted((ROOT / "paper").rglob("*.yaml"))


def write(path, text):
    path.write_text(text)
    return path


def message(path, *overrides) -> str:
    with pytest.raises(UserError) as error:
        load_config(path, overrides)
    return str(error.value)


def test_values_are_merged_deeply_and_the_including_file_wins(tmp_path):
    write(
        tmp_path / "below.yaml",
        "training: {epochs: 7, optimizer: {name: SGD, lr: 0.3, momentum: 0.5}}\n",
    )
    path = write(
        tmp_path / "a.yaml",
        "include: below.yaml\nnetwork: {name: lenet5}\n"
        "training: {optimizer: {lr: 1e-2}}\nretraining: {epochs: 3}\n",
    )
    config = load_config(path)
    assert config.training.epochs == 7 and config.retraining.epochs == 3
    assert config.training.optimizer.lr == 0.01  # 1e-2 is a number, without a dot too
    assert config.training.optimizer.momentum == 0.5 == config.retraining.optimizer.momentum


def test_a_later_include_wins_over_an_earlier_one(tmp_path):
    write(tmp_path / "one.yaml", "seed: 1\nnum_nets: 5\n")
    write(tmp_path / "two.yaml", "seed: 2\n")
    config = load_config(
        write(tmp_path / "a.yaml", "include: [one.yaml, two.yaml]\nnetwork: {name: lenet5}\n")
    )
    assert (config.seed, config.num_nets) == (2, 5)


def test_options_do_not_outlive_their_name():
    below = {"optimizer": {"name": "SGD", "momentum": 0.9}, "x": 1}
    assert merge(below, {"optimizer": {"name": "Adam"}}) == {"optimizer": {"name": "Adam"}, "x": 1}
    assert merge(below, {"optimizer": {"lr": 1}})["optimizer"] == {
        "name": "SGD",
        "momentum": 0.9,
        "lr": 1,
    }


def test_overrides_are_yaml_values(small_config):
    config = load_config(
        small_config, ["training.optimizer.lr=2e-3", "pruning.methods=[WT]", "retraining.epochs=1"]
    )
    assert config.training.optimizer.lr == config.retraining.optimizer.lr == 0.002
    assert [method.name for method in config.pruning.methods] == ["WT"]
    assert (config.training.epochs, config.retraining.epochs) == (2, 1)


def test_a_resolved_configuration_resolves_to_itself(small_config, tmp_path):
    config = load_config(small_config, ["retraining.epochs=1"])
    again = load_config(write(tmp_path / "resolved.yaml", yaml.safe_dump(config.model_dump())))
    assert again == config and again.run_id() == config.run_id()


def test_run_id_depends_on_what_affects_numbers_only(small_config):
    run_id = load_config(small_config).run_id()
    assert load_config(small_config, ["checkpoints=all"]).run_id() == run_id
    assert load_config(small_config, ["seed=1"]).run_id() != run_id
    cifar = [
        load_config(small_config, ["dataset.name=CIFAR10", f"dataset.root={root}"])
        for root in ("a", "b")
    ]
    assert cifar[0].run_id() == cifar[1].run_id()


def test_a_mistake_in_an_included_file_is_placed_there(tmp_path):
    write(tmp_path / "below.yaml", "seed: 0\ntraining:\n  epochs: -1\n")
    answer = message(write(tmp_path / "a.yaml", "include: below.yaml\nnetwork: {name: lenet5}\n"))
    assert f"{tmp_path / 'below.yaml'}:3: training.epochs: -1" in answer


def test_a_mistake_in_an_override_is_placed_there(small_config):
    assert message(small_config, "pruning.methods=[SiPP, Wt]").startswith(
        "--set pruning.methods: pruning.methods[1]"
    )
    assert "must have the form" in message(small_config, "seed")


def test_missing_file_and_missing_network(tmp_path):
    assert message(tmp_path / "none.yaml").endswith("none.yaml: no such file")
    assert "network: is missing" in message(write(tmp_path / "a.yaml", "seed: 1\n"))


def test_the_shipped_json_schema_is_up_to_date():
    assert json.loads((ROOT / "paper" / "config.schema.json").read_text()) == json.loads(
        json.dumps(json_schema())
    )


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_shipped_file_points_to_the_schema_and_every_experiment_validates(path):
    schema = re.match(r"# yaml-language-server: \$schema=(\S+)\n", path.read_text())
    assert (path.parent / schema[1]).resolve() == ROOT / "paper" / "config.schema.json"
    if "recipes" not in path.parts:
        load_config(path)


def test_a_file_may_include_a_file_that_includes(tmp_path):
    (tmp_path / "lowest.yaml").write_text("network: {name: lenet5}\nnum_nets: 2\nseed: 4\n")
    (tmp_path / "middle.yaml").write_text("include: lowest.yaml\nnum_nets: 3\n")
    (tmp_path / "top.yaml").write_text("include: [middle.yaml]\nseed: 5\n")
    config = load_config(tmp_path / "top.yaml")
    assert (config.network.name, config.num_nets, config.seed) == ("lenet5", 3, 5)


@pytest.mark.parametrize("value", ["0", "-1", "many", "1.5", "true", "null"])
def test_nets_at_once_is_auto_or_a_count(tmp_path, value):
    path = tmp_path / "a.yaml"
    path.write_text("network: {name: lenet5}\n")
    with pytest.raises(
        UserError, match=r"nets_at_once.*auto or a whole number of at least 1"
    ) as error:
        load_config(path, [f"nets_at_once={value}"])
    assert len(str(error.value).splitlines()) == 1


@pytest.mark.parametrize(
    "override",
    [
        "training.optimizer.weight_decay=1e300",
        "training.optimizer={name: Adam, eps: 1e300}",
        "training.lr_drops.factor=1e300",
        "training.batch_size=1000000001",
        "pruning.sample_size=1000000001",
        "pruning.min_kept_per_layer=1000000001",
        "pruning.retrain_count=1000000001",
        "pruning.keep_ratios=[1e-300]",
        "pruning.keep_ratios=[{spacing: harmonic, first: 0.5, last: 1e-320, count: 10}]",
        "pruning.keep_ratios=[{spacing: linear, first: 0.5, last: 0.49999999999999994, count: 3}]",
        "pruning.keep_ratios=[{spacing: linear, first: 0.5, last: 0.1, count: 1000000000000}]",
        f"pruning.methods=[{', '.join(['WT'] * 101)}]",
        "checkpoint_minutes=1e300",
        "nets_at_once=10001",
        "num_nets=1000000",
        "training.epochs=1000000000",
        "seed=9223372036854775808",
    ],
)
def test_absurd_numbers_are_refused(small_config, override):
    answer = message(small_config, override)
    assert answer.startswith(f"--set {override.partition('=')[0]}: ") and "\n" not in answer


def test_prunings_are_counted_unless_nothing_is_pruned(small_config):
    many = ["num_nets=10000", "num_repetitions=6"]
    assert "are 240,000 prunings; at most 100,000 are possible" in message(small_config, *many)
    assert load_config(small_config, [*many, "pruning.schedule=train"]).num_prunings == 0
