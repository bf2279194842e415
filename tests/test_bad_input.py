"""What people may get wrong, in files and on the command line, and the one line that answers it.

To add a mistake, add a row: what is wrong, and words of the answer. It may also be in a list of
another module that is given to `check`.
"""

import re
import typing
from dataclasses import dataclass
from pathlib import Path

import pydantic
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from experiment.__main__ import main as command_line
from experiment.config.loading import load_config
from experiment.config.schema import Config
from experiment.config.sweeps import load_sweep
from experiment.core.errors import UserError
from experiment.main import main

NET = "network: {name: lenet5}\n"


@dataclass(frozen=True)
class Mistake:
    """Something wrong, the words that must be answered, and the number of lines."""

    given: str | list[str]  # the text of a file, or a list of texts of the command line
    words: str
    lines: int = 1


# Texts of files; those that name no network are given one in their first line.
IN_FILES = [
    Mistake("trainning: {}", "trainning: unknown key; did you mean 'training'?"),
    Mistake('"train\\ning": {}', "train\\ning: unknown key; did you mean 'training'?"),
    Mistake('"\\e[31mred": 1', "\\x1b[31mred: unknown key"),
    Mistake('"": 1', "'': unknown key"),
    Mistake("1: 2", "key 1 must be a string"),
    Mistake("null: 3", "key None must be a string"),
    Mistake("[a, b]: 3", "a key must be a string, not a mapping or a list"),
    Mistake("training: 3", "training: must be a mapping, not 3"),
    Mistake("training: [1]", "training: must be a mapping, not [1]"),
    Mistake("training: null", "training: must be a mapping, not None"),
    Mistake("training: fast", "training: must be a mapping, not 'fast'"),
    Mistake("training: {epochs: '3'}", "training.epochs: '3' is wrong: it must be a valid integer"),
    Mistake("training: {epochs: 3.0}", "training.epochs: 3.0 is wrong: it must be a valid integer"),
    Mistake(
        "training: {epochs: true}", "training.epochs: True is wrong: it must be a valid integer"
    ),
    Mistake(
        "training: {epochs: -1}",
        "training.epochs: -1 is wrong: it must be greater than or equal to 0",
    ),
    Mistake(
        "training: {epochs: null}", "training.epochs: None is wrong: it must be a valid integer"
    ),
    Mistake("training: {epochs: [3]}", "training.epochs: [3] is wrong: it must be a valid integer"),
    Mistake(
        "training: {epochs: {a: 1}}",
        "training.epochs: {'a': 1} is wrong: it must be a valid integer",
    ),
    Mistake(
        "training: {epochs: 3, warmup_epochs: 3}",
        "training: warmup_epochs (3) must be less than epochs (3): the learning rate would",
    ),
    Mistake(
        "training: {warmup_epochs: -1}",
        "training.warmup_epochs: -1 is wrong: it must be greater than or equal to 0",
    ),
    Mistake(
        "training: {batch_size: 0}",
        "training.batch_size: 0 is wrong: it must be greater than or equal to 1",
    ),
    Mistake(
        "training: {batch_size: 1.5}",
        "training.batch_size: 1.5 is wrong: it must be a valid integer",
    ),
    Mistake(
        "training: {batch_size: many}",
        "training.batch_size: 'many' is wrong: it must be a valid integer",
    ),
    Mistake(
        "training: {optimizer: SGD}",
        "training.optimizer: must be a mapping, not 'SGD' (perhaps {name: SGD})",
    ),
    Mistake("training: {optimizer: []}", "training.optimizer: must be a mapping, not []"),
    Mistake(
        "training: {optimizer: {name: sgd}}",
        "training.optimizer: 'sgd' is not allowed; did you mean 'SGD'?",
    ),
    Mistake("training: {optimizer: {name: 3}}", "training.optimizer: 3 is not allowed"),
    Mistake("training: {optimizer: {name: null}}", "training.optimizer: None is not allowed"),
    Mistake(
        "training: {optimizer: {name: [SGD]}}",
        "training.optimizer: ['SGD'] is not allowed; did you mean 'SGD'?",
    ),
    Mistake(
        "training: {optimizer: {momentun: 0.9}}",
        "training.optimizer.momentun: unknown key; did you mean 'momentum'?",
    ),
    Mistake(
        "training: {optimizer: {momentum: 1}}",
        "training.optimizer.momentum: 1 is wrong: it must be less than 1",
    ),
    Mistake(
        "training: {optimizer: {momentum: -0.1}}",
        "training.optimizer.momentum: -0.1 is wrong: it must be greater than or equal to 0",
    ),
    Mistake(
        "training: {optimizer: {lr: -1}}",
        "training.optimizer.lr: -1 is wrong: it must be greater than or equal to 0",
    ),
    Mistake(
        "training: {optimizer: {lr: fast}}",
        "training.optimizer.lr: 'fast' is wrong: it must be a valid number",
    ),
    Mistake(
        "training: {optimizer: {lr: .inf}}",
        "training.optimizer.lr: inf is wrong: it must be a finite number",
    ),
    Mistake(
        "training: {optimizer: {lr: .nan}}",
        "training.optimizer.lr: nan is wrong: it must be a finite number",
    ),
    Mistake(
        "training: {optimizer: {lr: null}}",
        "training.optimizer.lr: None is wrong: it must be a valid number",
    ),
    Mistake(
        "training: {optimizer: {weight_decay: -1}}",
        "training.optimizer.weight_decay: -1 is wrong: it must be greater than or equal to 0",
    ),
    Mistake(
        "training: {optimizer: {nesterov: 1}}",
        "training.optimizer.nesterov: 1 is wrong: it must be true or false",
    ),
    Mistake(
        "training: {optimizer: {nesterov: true, momentum: 0}}",
        "training.optimizer: nesterov needs a momentum above 0",
    ),
    Mistake(
        "training: {optimizer: {name: Adam, momentum: 0.9}}",
        "training.optimizer.momentum: unknown key",
    ),
    Mistake(
        "training: {optimizer: {name: Adam, betas: [0.9]}}",
        "training.optimizer.betas: must have at least 2 items, not 1",
    ),
    Mistake(
        "training: {optimizer: {name: Adam, betas: [0.9, 0.99, 0.999]}}",
        "training.optimizer.betas: must have at most 2 items, not 3",
    ),
    Mistake(
        "training: {optimizer: {name: Adam, betas: 0.9}}",
        "training.optimizer.betas: 0.9 is wrong: it must be a valid list",
    ),
    Mistake(
        "training: {optimizer: {name: Adam, betas: [0.9, 1]}}",
        "training.optimizer.betas[1]: 1 is wrong: it must be less than 1",
    ),
    Mistake(
        "training: {optimizer: {name: AdamW, eps: 0}}",
        "training.optimizer.eps: 0 is wrong: it must be greater than 0",
    ),
    Mistake(
        "training: {optimizer: {name: AdamW, nesterov: true}}",
        "training.optimizer.nesterov: unknown key",
    ),
    Mistake("training: {lr_drops: [3]}", "training.lr_drops: must be a mapping, not [3]"),
    Mistake(
        "training: {lr_drops: {epochs: 3}}",
        "training.lr_drops.epochs: 3 is wrong: it must be a valid list",
    ),
    Mistake(
        "training: {lr_drops: {epochs: [-1]}}",
        "training.lr_drops.epochs[0]: -1 is wrong: it must be greater than or equal to 0",
    ),
    Mistake(
        "training: {lr_drops: {epochs: [1.5]}}",
        "training.lr_drops.epochs[0]: 1.5 is wrong: it must be a valid integer",
    ),
    Mistake(
        "training: {lr_drops: {factor: 0}}",
        "training.lr_drops.factor: 0 is wrong: it must be greater than 0",
    ),
    Mistake(
        "training: {lr_drops: {facter: 0.1}}",
        "training.lr_drops.facter: unknown key; did you mean 'factor'?",
    ),
    Mistake(
        "training: {precision: float16}",
        "training.precision: 'float16' is not allowed; did you mean 'bfloat16'?",
    ),
    Mistake(
        "training: {precision: bfloat}",
        "training.precision: 'bfloat' is not allowed; did you mean 'bfloat16'?",
    ),
    Mistake("training: {precision: 32}", "training.precision: 32 is not allowed"),
    Mistake("training: {compile: maybe}", "training.compile: 'maybe' is not allowed"),
    Mistake("training: {compile: 1}", "training.compile: 1 is not allowed"),
    Mistake(
        "training: {sync_batchnorm: 'yes'}",
        "training.sync_batchnorm: 'yes' is wrong: it must be true or false",
    ),
    Mistake("retraining: 3", "retraining: must be a mapping, not 3"),
    Mistake(
        "retraining: {epochs: x}", "retraining.epochs: 'x' is wrong: it must be a valid integer"
    ),
    Mistake(
        "retraining: {optimiser: {}}",
        "retraining.optimiser: unknown key; did you mean 'optimizer'?",
    ),
    Mistake("training: {epochs: x}", "training.epochs: 'x' is wrong: it must be a valid integer"),
    Mistake("pruning: []", "pruning: must be a mapping, not []"),
    Mistake("pruning: SiPP", "pruning: must be a mapping, not 'SiPP'"),
    Mistake(
        "pruning: {schedule: cascad}",
        "pruning.schedule: 'cascad' is not allowed; did you mean 'cascade'?",
    ),
    Mistake("pruning: {schedule: null}", "pruning.schedule: None is not allowed"),
    Mistake(
        "pruning: {schedule: [cascade]}",
        "pruning.schedule: ['cascade'] is not allowed; did you mean 'cascade'?",
    ),
    Mistake(
        "pruning: {schedule: rewind, rewind_epoch: 30}",
        "a.yaml: pruning.rewind_epoch (30) must be less than the epochs of training and",
    ),
    Mistake(
        "pruning: {rewind_epoch: -1}",
        "pruning.rewind_epoch: -1 is wrong: it must be greater than or equal to 0",
    ),
    Mistake("pruning: {methods: []}", "pruning.methods: must have at least 1 item, not 0"),
    Mistake("pruning: {methods: null}", "pruning.methods: None is wrong: it must be a valid list"),
    Mistake("pruning: {methods: 3}", "pruning.methods: 3 is wrong: it must be a valid list"),
    Mistake(
        "pruning: {methods: {name: WT}}",
        "pruning.methods: {'name': 'WT'} is wrong: it must be a valid list",
    ),
    Mistake("pruning: {methods: [3]}", "pruning.methods[0]: must be a mapping, not 3"),
    Mistake("pruning: {methods: [[WT]]}", "pruning.methods[0]: must be a mapping, not ['WT']"),
    Mistake("pruning: {methods: [null]}", "pruning.methods[0]: must be a mapping, not None"),
    Mistake("pruning: {methods: [{}]}", "pruning.methods[0].name: is missing"),
    Mistake("pruning: {methods: [{allocation: uniform}]}", "pruning.methods[0].name: is missing"),
    Mistake(
        "pruning: {methods: [{name: 3}]}",
        "pruning.methods[0].name: 3 is wrong: it must be a valid string",
    ),
    Mistake("pruning: {methods: [{name: ''}]}", "pruning.methods[0].name: unknown method ''"),
    Mistake(
        "pruning: {methods: [Sipp]}",
        "pruning.methods[0].name: unknown method 'Sipp'; did you mean 'SiPP'?",
    ),
    Mistake(
        'pruning: {methods: ["Si\\nPP"]}',
        "pruning.methods[0].name: unknown method 'Si\\nPP'; did you mean 'SiPP'?",
    ),
    Mistake('pruning: {methods: ["\\e[2J"]}', "pruning.methods[0].name: unknown method '\\x1b[2J'"),
    Mistake(
        "pruning: {methods: [':']}",
        "pruning.methods[0].name: cannot import method ':': ValueError: Empty module name",
    ),
    Mistake("pruning: {methods: ['a:']}", "pruning.methods[0].name: cannot import method 'a:'"),
    Mistake(
        "pruning: {methods: [':a']}",
        "pruning.methods[0].name: cannot import method ':a': ValueError: Empty module name",
    ),
    Mistake("pruning: {methods: ['.a:b']}", "pruning.methods[0].name: cannot import method '.a:b'"),
    Mistake(
        'pruning: {methods: ["a\\0b:c"]}',
        "pruning.methods[0].name: cannot import method 'a\\x00b:c'",
    ),
    Mistake(
        "pruning: {methods: ['os:path']}",
        "pruning.methods[0].name: method 'os:path' is of type module, not a class or",
    ),
    Mistake(
        "pruning: {methods: ['os:environ']}",
        "pruning.methods[0].name: method 'os:environ' is of type _Environ, not a class or",
    ),
    Mistake(
        "pruning: {methods: ['os:nothing']}",
        "pruning.methods[0].name: cannot import method 'os:nothing': AttributeError: module",
    ),
    Mistake(
        "pruning: {methods: ['builtins:int']}",
        "pruning.methods[0].name: method 'builtins:int' does not tell which arguments it",
    ),
    Mistake(
        "pruning: {methods: ['os:getpid']}",
        "a.yaml: method os:getpid returned a int, not an",
    ),
    Mistake(
        "pruning: {methods: ['builtins:dict']}",
        "pruning.methods[0].name: method 'builtins:dict' does not tell which arguments it",
    ),
    Mistake(
        "pruning: {methods: ['builtins:exit']}",
        "pruning.methods[0].name: method 'builtins:exit' is of type Quitter, not a class or",
    ),
    Mistake(
        "pruning: {methods: ['collections:OrderedDict']}",
        "pruning.methods[0].name: method 'collections:OrderedDict' does not tell which",
    ),
    Mistake(
        "pruning: {methods: ['no_such_module:X']}",
        "pruning.methods[0].name: cannot import method 'no_such_module:X'",
    ),
    Mistake("pruning: {methods: [{name: WT, alpha: 1}]}", "pruning.methods[0].alpha: unknown key"),
    Mistake(
        "pruning: {methods: [{name: WT, allocation: evenly}]}",
        "pruning.methods[0].allocation: 'evenly' is not allowed",
    ),
    Mistake(
        "pruning: {methods: [{name: WT, allocation: 3}]}",
        "pruning.methods[0].allocation: 3 is not allowed",
    ),
    Mistake(
        'pruning: {methods: [{name: WT, "a\\nb": 3}]}', "pruning.methods[0].a\\nb: unknown key"
    ),
    Mistake(
        "pruning: {methods: [WT, WT]}",
        "pruning.methods[1]: WT with the same options is listed twice",
    ),
    Mistake(
        "pruning: {methods: [WT, {name: WT, allocation: global}]}",
        "pruning.methods[1]: WT with the same options is listed twice",
    ),
    Mistake(
        "pruning: {methods: [SiPP, {name: Nope}, {name: WT, x: 1}]}",
        "pruning.methods[1].name: unknown method 'Nope'",
        2,
    ),
    Mistake("pruning: {keep_ratios: []}", "pruning.keep_ratios: must have at least 1 item, not 0"),
    Mistake(
        "pruning: {keep_ratios: 0.5}", "pruning.keep_ratios: 0.5 is wrong: it must be a valid list"
    ),
    Mistake(
        "pruning: {keep_ratios: [0]}",
        "pruning.keep_ratios[0].values[0]: 0 is wrong: it must be greater than or equal to 0.00",
    ),
    Mistake(
        "pruning: {keep_ratios: [1.5]}",
        "pruning.keep_ratios[0].values[0]: 1.5 is wrong: it must be less than or equal to 1",
    ),
    Mistake(
        "pruning: {keep_ratios: [true]}",
        "pruning.keep_ratios[0].values[0]: True is wrong: it must be a valid number",
    ),
    Mistake(
        "pruning: {keep_ratios: [.nan]}",
        "pruning.keep_ratios[0].values[0]: nan is wrong: it must be a finite number",
    ),
    Mistake(
        "pruning: {keep_ratios: ['0.5']}", "pruning.keep_ratios[0]: must be a mapping, not '0.5'"
    ),
    Mistake(
        "pruning: {keep_ratios: [null]}", "pruning.keep_ratios[0]: must be a mapping, not None"
    ),
    Mistake(
        "pruning: {keep_ratios: [[0.5]]}", "pruning.keep_ratios[0]: must be a mapping, not [0.5]"
    ),
    Mistake(
        "pruning: {keep_ratios: [0.5, 0.7]}",
        "pruning.keep_ratios: keep ratios must decrease: 0.7 comes after 0.5",
    ),
    Mistake(
        "pruning: {keep_ratios: [{spacing: linear, first: 2, last: 0.1, count: 3}]}",
        "pruning.keep_ratios[0].first: 2 is wrong: it must be less than or equal to 1",
    ),
    Mistake(
        "pruning: {keep_ratios: [{spacing: linear, first: 0.5, last: 0.1, count: 0}]}",
        "pruning.keep_ratios[0].count: 0 is wrong: it must be greater than or equal to 1",
    ),
    Mistake(
        "pruning: {keep_ratios: [{spacing: linear, first: 0.5, last: 0.1, count: 1}]}",
        "pruning.keep_ratios[0]: with count 1, first and last must be equal",
    ),
    Mistake(
        "pruning: {keep_ratios: [{spacing: linear, first: 0.5, last: 0.1}]}",
        "pruning.keep_ratios[0].count: is missing",
    ),
    Mistake(
        "pruning: {keep_ratios: [{spacing: linear, first: 0.1, last: 0.5, count: 3}]}",
        "pruning.keep_ratios: keep ratios must decrease: 0.5 comes after 0.1",
    ),
    Mistake(
        "pruning: {keep_ratios: [{spacing: lineer, first: 0.5, last: 0.1, count: 3}]}",
        "pruning.keep_ratios[0]: 'lineer' is not allowed; did you mean 'linear'?",
    ),
    Mistake(
        "pruning: {keep_ratios: [{first: 0.5, last: 0.1, count: 3}]}",
        "pruning.keep_ratios[0]: needs a key 'spacing'",
    ),
    Mistake(
        "pruning: {keep_ratios: [{spacing: manual}]}", "pruning.keep_ratios[0].values: is missing"
    ),
    Mistake(
        "pruning: {keep_ratios: [{spacing: manual, values: []}]}",
        "pruning.keep_ratios[0].values: must have at least 1 item, not 0",
    ),
    Mistake(
        "pruning: {keep_ratios: [{spacing: manual, values: 0.5}]}",
        "pruning.keep_ratios[0].values: 0.5 is wrong: it must be a valid list",
    ),
    Mistake(
        "pruning: {keep_ratios: [{spacing: manual, values: [0.5], first: 1}]}",
        "pruning.keep_ratios[0].first: unknown key",
    ),
    Mistake(
        "pruning: {keep_ratios: [{spacing: geometric, first: 0.5, last: 0.1, count: 2, step: 3}]}",
        "pruning.keep_ratios[0].step: unknown key",
    ),
    Mistake(
        "pruning: {retrain_count: -1}",
        "pruning.retrain_count: -1 is wrong: it must be greater than or equal to 0",
    ),
    Mistake(
        "pruning: {retrain_count: all}",
        "pruning.retrain_count: 'all' is wrong: it must be a valid integer",
    ),
    Mistake("pruning: {delta: 0}", "pruning.delta: 0 is wrong: it must be greater than 0"),
    Mistake("pruning: {delta: -1}", "pruning.delta: -1 is wrong: it must be greater than 0"),
    Mistake("pruning: {delta: .inf}", "pruning.delta: inf is wrong: it must be a finite number"),
    Mistake(
        "pruning: {sample_size: 0}",
        "pruning.sample_size: 0 is wrong: it must be greater than or equal to 1",
    ),
    Mistake(
        "pruning: {sample_size: 1.5}",
        "pruning.sample_size: 1.5 is wrong: it must be a valid integer",
    ),
    Mistake(
        "pruning: {min_kept_per_layer: -1}",
        "pruning.min_kept_per_layer: -1 is wrong: it must be greater than or equal to 0",
    ),
    Mistake(
        "pruning: {commensurate_margin: 1}",
        "pruning.commensurate_margin: 1 is wrong: it must be less than 1",
    ),
    Mistake(
        "pruning: {commensurate_margin: -0.1}",
        "pruning.commensurate_margin: -0.1 is wrong: it must be greater than or equal to 0",
    ),
    Mistake(
        "dataset: CIFAR10", "dataset: must be a mapping, not 'CIFAR10' (perhaps {name: CIFAR10})"
    ),
    Mistake("dataset: {}", "dataset.name: is missing"),
    Mistake(
        "dataset: {name: Digits}", "dataset.name: unknown dataset 'Digits'; did you mean 'digits'?"
    ),
    Mistake("dataset: {name: digits, x: 1}", "dataset.x: unknown key"),
    Mistake(
        "dataset: {name: CIFAR10, rooot: x}", "dataset.rooot: unknown key; did you mean 'root'?"
    ),
    Mistake(
        "dataset: {name: CIFAR10, root: 3}", "dataset.root: 3 is wrong: it must be a valid string"
    ),
    Mistake("dataset: {name: ImageFolder}", "dataset.root: is missing"),
    Mistake(
        'dataset: {name: ImageFolder, root: "a\\0b"}',
        "a.yaml: dataset ImageFolder: no folder a\\x00b/train; images belong in",
    ),
    Mistake(
        'dataset: {name: ImageFolder, root: "nowhere\\nat all"}',
        "a.yaml: dataset ImageFolder: no folder nowhere\\nat all/train; images belong in",
    ),
    Mistake(
        "dataset: {name: ImageFolder, root: nowhere}",
        "a.yaml: dataset ImageFolder: no folder nowhere/train; images belong in",
    ),
    Mistake(
        "dataset: {name: ImageFolder, root: nowhere, image_size: big}",
        "dataset.image_size: 'big' is wrong: it must be a valid integer",
    ),
    Mistake(
        "dataset: {name: ImageNet, root: 5}", "dataset.root: 5 is wrong: it must be a valid string"
    ),
    Mistake(
        "dataset: {name: digits, validation_fraction: 0}",
        "dataset.validation_fraction: 0 is wrong: it must be greater than 0",
    ),
    Mistake(
        "dataset: {name: digits, validation_fraction: 1}",
        "dataset.validation_fraction: 1 is wrong: it must be less than 1",
    ),
    Mistake(
        "dataset: {name: digits, validation_fraction: half}",
        "dataset.validation_fraction: 'half' is wrong: it must be a valid number",
    ),
    Mistake(
        "dataset: {name: 'os:getcwd'}",
        "a.yaml: dataset os:getcwd: a str has no method shape and no load; derive it from",
    ),
    Mistake(
        "network: lenet5\n", "network: must be a mapping, not 'lenet5' (perhaps {name: lenet5})"
    ),
    Mistake("network: {}\n", "network.name: is missing"),
    Mistake(
        "network: {name: resnet}\n",
        "network.name: unknown network 'resnet'; did you mean 'resnet20'?",
    ),
    Mistake("network: {name: lenet5, width: 3}\n", "network.width: unknown key"),
    Mistake(
        "network: {name: resnet20, width: 0}\n",
        "network.width: 0 is wrong: it must be greater than or equal to 1",
    ),
    Mistake(
        "network: {name: resnet20, width: wide}\n",
        "network.width: 'wide' is wrong: it must be a valid integer",
    ),
    Mistake("network: {name: vgg16_bn, wdth: 1}\n", "network.wdth: unknown key"),
    Mistake("num_nets: 0", "num_nets: 0 is wrong: it must be greater than or equal to 1"),
    Mistake("num_nets: 1.5", "num_nets: 1.5 is wrong: it must be a valid integer"),
    Mistake("num_nets: many", "num_nets: 'many' is wrong: it must be a valid integer"),
    Mistake("num_nets: null", "num_nets: None is wrong: it must be a valid integer"),
    Mistake(
        "num_repetitions: 0", "num_repetitions: 0 is wrong: it must be greater than or equal to 1"
    ),
    Mistake("num_repetitions: x", "num_repetitions: 'x' is wrong: it must be a valid integer"),
    Mistake("seed: -1", "seed: -1 is wrong: it must be greater than or equal to 0"),
    Mistake("seed: 1.0", "seed: 1.0 is wrong: it must be a valid integer"),
    Mistake("seed: x", "seed: 'x' is wrong: it must be a valid integer"),
    Mistake("checkpoints: none", "checkpoints: 'none' is not allowed"),
    Mistake("checkpoints: [all]", "checkpoints: ['all'] is not allowed; did you mean 'all'?"),
    Mistake(
        "checkpoint_minutes: -1",
        "checkpoint_minutes: -1 is wrong: it must be greater than or equal to 0",
    ),
    Mistake(
        "checkpoint_minutes: .inf", "checkpoint_minutes: inf is wrong: it must be a finite number"
    ),
    Mistake(
        "checkpoint_minutes: soon", "checkpoint_minutes: 'soon' is wrong: it must be a valid number"
    ),
    Mistake(
        "nets_at_once: 0",
        "nets_at_once: must be auto or a whole number of at least 1 and at most 10000, not 0",
    ),
    Mistake(
        "nets_at_once: many",
        "nets_at_once: must be auto or a whole number of at least 1 and at most 10000, not 'many'",
    ),
    Mistake(
        "nets_at_once: true",
        "nets_at_once: must be auto or a whole number of at least 1 and at most 10000, not True",
    ),
    Mistake("include: nowhere.yaml", "include: no such file: nowhere.yaml"),
    Mistake('include: "now\\nhere.yaml"', "include: no such file: now\\nhere.yaml"),
    Mistake('include: "a\\0b"', "include: no such file: a\\x00b"),
    Mistake("include: [3]", "include must be a file name or a list of them, not 3"),
    Mistake("include: 3", "include must be a file name or a list of them, not 3"),
    Mistake("include: {a: b}", "include must be a file name or a list of them, not {'a': 'b'}"),
    Mistake("include: .", "include: no such file: ."),
    Mistake("include: a.yaml", "include of a.yaml is circular"),
    Mistake("seed: [1", "not valid YAML: expected ',' or ']'"),
    Mistake("seed: ]", "not valid YAML: expected the node content, but found ']'"),
    Mistake('seed: "abc', "not valid YAML"),
    Mistake("seed: *nothing", "not valid YAML: found undefined alias 'nothing'"),
    Mistake("seed: %a", "not valid YAML: found character '%' that cannot start any token"),
    Mistake("seed: @a", "not valid YAML: found character '@' that cannot start any token"),
    Mistake("\tseed: 1", "not valid YAML: found character '\\t' that cannot start any token"),
    Mistake("seed: 1: 2", "not valid YAML: mapping values are not allowed here"),
    Mistake("x: !!python/object/apply:os.system ['true']", "not valid YAML"),
    Mistake("x: !own {}", "not valid YAML"),
    Mistake("seed: &a [*a]", "a.yaml: an alias contains itself"),
    Mistake(
        "<<: 3",
        "not valid YAML: expected a mapping or list of mappings for merging, but found scalar",
    ),
    Mistake("<<: [3]", "not valid YAML: expected a mapping for merging, but found scalar"),
    Mistake("<<: {sed: 1}", "sed: unknown key; did you mean 'seed'?"),
    Mistake("? {a: b}\n: 3", "a key must be a string, not a mapping or a list"),
    Mistake("sweep: 3", "sweep: must have one key, grid or list, not 3"),
    Mistake("sweep: {}", "sweep: must have one key, grid or list, not {}"),
    Mistake(
        "sweep: {grid: {seed: [1]}, list: [{seed: 1}]}",
        "sweep: must have one key, grid or list, not {grid: {seed: [1]}, list: [{seed: 1}]}",
    ),
    Mistake(
        "sweep: {list: {seed: 1}}", "sweep.list: must be a list of at least one item, not {seed: 1}"
    ),
    Mistake(
        "sweep: {list: [{}]}", "sweep.list[0]: must map at least one key path to a value, not {}"
    ),
    Mistake(
        "sweep: {grid: {training.epochs: [1, x]}}",
        "sweep.grid.training.epochs: training.epochs: 'x' is wrong: it must be a valid",
    ),
    Mistake(
        'sweep: {grid: {"se\\ned": [1]}}',
        "sweep.grid.se\\ned: se\\ned: unknown key; did you mean 'seed'?",
    ),
    Mistake('sweep: {grid: {"\\e[1m": [1]}}', "sweep.grid.\\x1b[1m: \\x1b[1m: unknown key"),
    Mistake(
        "sweep: {grid: {sweep.grid: [1]}}",
        "sweep.grid.sweep.grid: 'sweep.grid' is not a key path that can be swept",
    ),
    Mistake(
        "sweep: {grid: {network: [lenet5]}}",
        "sweep.grid.network: network: must be a mapping, not 'lenet5' (perhaps {name:",
    ),
    Mistake(
        "sweep: {grid: {network.name: [lenet5, nonet]}}",
        "sweep.grid.network.name: network.name: unknown network 'nonet'",
    ),
    Mistake('sweep: {"li\\nst": []}', "sweep.li\\nst: unknown key; did you mean 'list'?"),
    Mistake(
        "seed: x\nnum_nets: y\nnum_netz: 1", "num_nets: 'y' is wrong: it must be a valid integer", 3
    ),
    Mistake(
        "training: {optimizer: {lr: -1}}\nretraining: {optimizer: {lr: -2}}",
        "training.optimizer.lr: -1 is wrong: it must be greater than or equal to 0",
        2,
    ),
    Mistake(
        "sweep: {grid: {pruning.dleta: [1]}}",
        "sweep.grid.pruning.dleta: pruning.dleta: unknown key; did you mean 'delta'?",
    ),
    Mistake(
        "sweep: {grid: {pruning.delta: [1, 0]}}",
        "sweep.grid.pruning.delta: pruning.delta: 0 is wrong: it must be greater than 0",
    ),
    Mistake(
        "training: {epochs: 2}\nsweep: {grid: {training.warmup_epochs: [0, 2]}}",
        "sweep.grid.training.warmup_epochs: training: warmup_epochs (2) must be less than",
    ),
    Mistake(
        "sweep: {grid: {pruning.methods: [[SiPP], [Wt]]}}",
        "sweep.grid.pruning.methods: pruning.methods[0].name: unknown method 'Wt'; did you",
    ),
    Mistake(
        "sweep: {list: [{seed: 0}, {sed: 1}]}",
        "sweep.list[1].sed: sed: unknown key; did you mean 'seed'?",
    ),
    Mistake(
        "sweep: {grid: {seed: 3}}", "sweep.grid.seed: must be a list of at least one item, not 3"
    ),
    Mistake(
        "sweep: {grid: {seed: []}}", "sweep.grid.seed: must be a list of at least one item, not []"
    ),
    Mistake("sweep: {grid: {}}", "sweep.grid: must map at least one key path to a value, not {}"),
    Mistake(
        "sweep: {list: [3]}", "sweep.list[0]: must map at least one key path to a value, not 3"
    ),
    Mistake(
        "sweep: {grid: {include: [a.yaml]}}",
        "sweep.grid.include: 'include' is not a key path that can be swept",
    ),
    Mistake(
        "sweep: {grid: {seed..x: [1]}}",
        "sweep.grid.seed..x: 'seed..x' is not a key path that can be swept",
    ),
    Mistake("sweep: {gird: {seed: [1]}}", "sweep.gird: unknown key; did you mean 'grid'?"),
    Mistake("sweep: [1]", "sweep: must have one key, grid or list, not [1]"),
    Mistake("sweep: {grid: {seed: [1, 1]}}", "sweep: seed=1 and seed=1 are the same experiment"),
    Mistake("seed: 1\nseed: 2", "key 'seed' is given twice"),
]

# Texts of `--set`.
IN_OVERRIDES = [
    Mistake(["sweep.grid=?"], "--set sweep.grid: key None must be a string"),
    Mistake(["sweep.grid={1: [2]}"], "--set sweep.grid: "),
    Mistake(
        ["training.epochs=x"],
        "--set training.epochs: training.epochs: 'x' is wrong: it must be a valid integer",
    ),
    Mistake(["training.epochs"], "--set training.epochs: must have the form key.path=value"),
    Mistake(["=3"], "--set =3: must have the form key.path=value"),
    Mistake(["training.=3"], "--set training.=3: must have the form key.path=value"),
    Mistake([".=3"], "--set .=3: must have the form key.path=value"),
    Mistake(["training..epochs=3"], "--set training..epochs=3: must have the form key.path=value"),
    Mistake(["include=a.yaml"], "--set include=a.yaml: include works only in files"),
    Mistake(["seed=[1"], "--set: '[1': not valid YAML: expected ',' or ']'"),
    Mistake(["seed=\x1b[31m"], "--set: '\\x1b[31m': not valid YAML"),
    Mistake(["seed='\n'"], "--set seed: seed: ' ' is wrong: it must be a valid integer"),
    Mistake(["seed="], "--set seed: seed: None is wrong: it must be a valid integer"),
    Mistake(["see\nd=1"], "--set see\\nd: see\\nd: unknown key; did you mean 'seed'?"),
    Mistake(
        ["see\x1b[2Jd=1"], "--set see\\x1b[2Jd: see\\x1b[2Jd: unknown key; did you mean 'seed'?"
    ),
    Mistake(["training=3"], "--set training: training: must be a mapping, not 3"),
    Mistake(
        ["pruning.methods=[SiPP, Wt]"],
        "--set pruning.methods: pruning.methods[1].name: unknown method 'Wt'; did you mean",
    ),
    Mistake(
        ["pruning.methods.0=WT"],
        "--set pruning.methods.0: pruning.methods: {'0': 'WT'} is wrong: it must be a valid",
    ),
    Mistake(["network.name=nonet"], "--set network.name: network.name: unknown network 'nonet'"),
    Mistake(
        ["network=lenet5"],
        "--set network: network: must be a mapping, not 'lenet5' (perhaps {name: lenet5})",
    ),
    Mistake(["dataset.root=x"], "--set dataset.root: dataset.name: is missing"),
    Mistake(
        ["sweep.grid.seed=3"],
        "--set sweep.grid.seed: sweep.grid.seed: must be a list of at least one item, not 3",
    ),
    Mistake(["sweep=[1]"], "--set sweep: sweep: must have one key, grid or list, not [1]"),
    Mistake(["seed=!!python/name:os.system"], "--set: '!!python/name:os.system': not valid YAML"),
    Mistake(["a=1", "b=2"], "--set a: a: unknown key", 2),
    Mistake(["seed=1: 2"], "--set seed: key 1 must be a string"),
    Mistake(
        ["training.optimizer.lr=fast"],
        "--set training.optimizer.lr: training.optimizer.lr: 'fast' is wrong: it must be a",
    ),
    Mistake(
        ["nets_at_once=-1"],
        "--set nets_at_once: nets_at_once: must be auto or a whole number of at least 1 and at",
    ),
    Mistake(
        ["nets_at_once=1.5"],
        "--set nets_at_once: nets_at_once: must be auto or a whole number of at least 1 and at",
    ),
    Mistake(
        ["nets_at_once=null"],
        "--set nets_at_once: nets_at_once: must be auto or a whole number of at least 1 and at",
    ),
    Mistake(
        ["seed=@"], "--set: '@': not valid YAML: found character '@' that cannot start any token"
    ),
    Mistake(
        ["pruning.keep_ratios=0.5"],
        "--set pruning.keep_ratios: pruning.keep_ratios: 0.5 is wrong: it must be a valid",
    ),
    Mistake(["no equals\nsign"], "--set no equals\\nsign: must have the form key.path=value"),
    Mistake([f"seed={'9' * 150}x"], "9...9"),
    Mistake([f"{'k' * 300}=1"], f"--set {'k' * 97}...: {'k' * 97}...: unknown key"),
]

# Arguments after the name of a file that is right.
IN_ARGUMENTS = [
    Mistake(["--device", "gpu"], "argument --device: invalid choice: 'gpu'"),
    Mistake(["--device", "\x1b[31m"], "argument --device: invalid choice: '\\x1b[31m'"),
    Mistake(
        ["--workers", "0"], "argument --workers: must be a whole number of at least 1, not '0'"
    ),
    Mistake(
        ["--workers", "x"], "argument --workers: must be a whole number of at least 1, not 'x'"
    ),
    Mistake(
        ["--threads", "-1"], "argument --threads: must be a whole number of at least 1, not '-1'"
    ),
    Mistake(
        ["--threads", "1.5"], "argument --threads: must be a whole number of at least 1, not '1.5'"
    ),
    Mistake(["--engine", "spark"], "argument --engine: invalid choice: 'spark'"),
    Mistake(
        ["--cpus-per-worker", "1.5"],
        "argument --cpus-per-worker: must be from 0 to 1, or a whole number, not '1.5'",
    ),
    Mistake(
        ["--gpus-per-worker", "x"],
        "argument --gpus-per-worker: must be from 0 to 1, or a whole number, not 'x'",
    ),
    Mistake(
        ["--gpus-per-worker", "nan"],
        "argument --gpus-per-worker: must be from 0 to 1, or a whole number, not 'nan'",
    ),
    Mistake(["--set"], "argument --set: expected one argument"),
    Mistake(["--unknown"], "unrecognized arguments: --unknown"),
    Mistake(["--unk\nnown"], "unrecognized arguments: --unk\\nnown"),
    Mistake(["--results"], "argument --results: expected one argument"),
    Mistake(["--d", "cpu"], "ambiguous option: --d could match --device, --dry-run"),
]

# Names of files.
IN_NAMES = [
    Mistake(["missing.yaml"], "missing.yaml: no such file"),
    Mistake(["mis\nsing.yaml"], r"mis\nsing.yaml: no such file"),
    Mistake(["mis\x1b[31msing.yaml"], r"mis\x1b[31msing.yaml: no such file"),
    Mistake(["mis\udc80sing.yaml"], r"mis\udc80sing.yaml: no such file"),
    Mistake(["mis\0sing.yaml"], r"mis\x00sing.yaml: cannot be read: "),
    Mistake(["x" * 300], "cannot be read: "),
    Mistake(["."], ".: is a directory, not a YAML file"),
    Mistake([""], ".: is a directory, not a YAML file"),
    Mistake(["/dev/null/x"], "/dev/null/x: cannot be read: "),
    Mistake(["a.yaml", "missing.yaml"], "missing.yaml: no such file"),
]

# Arguments of the whole command line, which begins with a command.
IN_COMMANDS = [
    Mistake(["guarante"], "unknown command 'guarante'; did you mean 'guarantee'? (there are: "),
    Mistake(["ru\nn"], r"unknown command 'ru\nn'; did you mean 'run'?"),
    Mistake(["\x1b[31m"], r"unknown command '\x1b[31m' (there are: "),
    Mistake(["x" * 300], f"unknown command '{'x' * 97}...'"),
    Mistake([""], "unknown command ''"),
    Mistake(["_errors"], "unknown command '_errors'"),
    Mistake(["run"], "arguments are required: CONFIG"),
    Mistake(["schema", "a.yaml"], "unrecognized arguments: a.yaml"),
    Mistake(["guarantee"], "arguments are required: CONFIG"),
    Mistake(["guarantee", "missing.yaml"], "missing.yaml: no such file"),
    Mistake(["guarantee", "a.yaml", "--fresh", "x"], "argument --fresh: invalid int value: 'x'"),
    Mistake(
        ["guarantee", "a.yaml", "--fresh", "0"], "--fresh, --points and --sample-sizes must be"
    ),
    Mistake(["guarantee", "a.yaml", "--points", "-1"], "must be at least 1"),
    Mistake(["guarantee", "a.yaml", "--sample-sizes", "3", "0"], "must be at least 1"),
    Mistake(["guarantee", "a.yaml", "--set", "seed=x"], "seed: 'x' is wrong"),
    Mistake(["run", "a.yaml", "--time"], "--time: only measures what a run would take"),
    Mistake(["run", "a.yaml", "--address", "auto"], "--address: belongs to a Ray cluster"),
]

# What shows only when the parts of an experiment are tried.
IN_PARTS = [
    Mistake("network: {name: vgg16_bn}", "a.yaml: network vgg16_bn: "),
    Mistake("network: {name: 'os:getpid'}", "a.yaml: "),
    Mistake(f"{NET}pruning: {{methods: ['os:getpid']}}", "a.yaml: method os:getpid "),
    Mistake(f"{NET}dataset: {{name: 'os:getcwd'}}", "a.yaml: dataset os:getcwd: a str has no"),
]


@pytest.fixture
def check(tmp_path, monkeypatch, capfd):
    """A function that checks what a command line is answered, beside the files of a mapping."""
    monkeypatch.chdir(tmp_path)

    def check(mistake: Mistake, call, files: dict[str, str]) -> None:
        for name, text in files.items():
            Path(name).write_text(text, encoding="utf-8")
        assert call() == 2
        out, err = capfd.readouterr()
        assert (out, err[-1:]) == ("", "\n")
        lines = err[:-1].split("\n")
        assert mistake.words in err and lines[0].startswith("error: "), err
        assert len(lines) == mistake.lines and all(map(str.isprintable, lines)), err
        assert max(map(len, lines)) < 1_000 and "Traceback" not in err
        assert {path.name for path in tmp_path.rglob("*")} == set(files)

    return check


def names(mistakes: list[Mistake]) -> list[str]:
    """What tests of mistakes are called."""
    return [re.sub(r"[^\w:.=-]+", " ", str(mistake.given))[:60].strip() for mistake in mistakes]


@pytest.mark.parametrize("mistake", IN_FILES, ids=names(IN_FILES))
def test_a_mistake_in_a_file_is_answered(check, mistake):
    assert isinstance(mistake.given, str)
    text = mistake.given if mistake.given.startswith("network:") else NET + mistake.given
    check(mistake, lambda: main(["a.yaml", "--dry-run"]), {"a.yaml": f"{text}\n"})


@pytest.mark.parametrize("mistake", IN_OVERRIDES, ids=names(IN_OVERRIDES))
def test_a_mistake_in_an_override_is_answered(check, mistake):
    overrides = [word for text in mistake.given for word in ("--set", text)]
    check(mistake, lambda: main(["a.yaml", "--dry-run", *overrides]), {"a.yaml": NET})


@pytest.mark.parametrize("mistake", IN_ARGUMENTS, ids=names(IN_ARGUMENTS))
def test_a_mistake_in_an_argument_is_answered(check, mistake):
    check(mistake, lambda: main(["a.yaml", "--dry-run", *mistake.given]), {"a.yaml": NET})


@pytest.mark.parametrize("mistake", IN_NAMES, ids=names(IN_NAMES))
def test_a_file_that_cannot_be_read_is_answered(check, mistake):
    check(mistake, lambda: main([*mistake.given, "--dry-run"]), {"a.yaml": NET})


@pytest.mark.parametrize("mistake", IN_COMMANDS, ids=names(IN_COMMANDS))
def test_a_mistake_in_a_command_is_answered(check, mistake):
    check(mistake, lambda: command_line(mistake.given), {"a.yaml": NET})


@pytest.mark.parametrize("mistake", IN_PARTS, ids=names(IN_PARTS))
def test_a_part_that_does_not_work_is_answered(check, mistake):
    files = {"a.yaml": f"{mistake.given}\n"}
    check(mistake, lambda: main(["a.yaml", "--device", "cpu"]), files)


# Anything at all: it is either right, or answered.

TEXTS = st.text(st.characters(exclude_characters=":"), max_size=12)  # a colon imports modules
ATOMS = st.one_of(
    st.none(), st.booleans(), st.integers(-3, 3), st.integers(), st.floats(), TEXTS, st.dates()
)
VALUES = st.recursive(
    ATOMS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(ATOMS, inner, max_size=3),
    max_leaves=6,
)
NAMES = {
    "network": ["lenet5", "resnet20", "vit"],
    "dataset": ["digits", "CIFAR10", "ImageFolder"],
    "methods": ["SiPP", "WT", "PFP", "ThiNet"],
    "optimizer": ["SGD", "Adam", "AdamW"],
}


def trees(model: type[pydantic.BaseModel], place: str) -> st.SearchStrategy:
    """Mappings with the keys of a model, whose values may be right, wrong or of the wrong type."""
    fields = {name: values_of(field, name) for name, field in model.model_fields.items()}
    if place in NAMES:
        fields["name"] = st.sampled_from(NAMES[place]) | TEXTS
    mappings = st.fixed_dictionaries({}, optional=fields)
    strange = st.dictionaries(TEXTS | st.integers(), VALUES, max_size=1)
    return st.builds(lambda known, unknown: known | unknown, mappings, st.just({}) | strange)


def values_of(field: pydantic.fields.FieldInfo, place: str) -> st.SearchStrategy:
    """What may be written for a field."""
    choices = [VALUES, *literals_in(field.annotation)]
    for model in models_in(field.annotation):
        choices += [trees(model, place), st.lists(trees(model, place), max_size=2)]
    return st.one_of(choices)


def literals_in(annotation) -> list[st.SearchStrategy]:
    return [
        st.just(inner) if isinstance(inner, str) else st.one_of(literals_in(inner) or [st.none()])
        for inner in typing.get_args(annotation)
    ]


def models_in(annotation) -> list[type[pydantic.BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, pydantic.BaseModel):
        return [annotation]
    return [model for inner in typing.get_args(annotation) for model in models_in(inner)]


FILES = trees(Config, "") | st.builds(
    lambda tree: {"network": {"name": "lenet5"}} | tree, trees(Config, "")
)
SWEEPS = st.fixed_dictionaries(
    {
        "network": st.just({"name": "lenet5"}),
        "sweep": VALUES
        | st.dictionaries(
            st.sampled_from(["grid", "list", "x"]),
            VALUES | st.dictionaries(st.sampled_from(["seed", "training.epochs", "a.b"]), VALUES),
            max_size=2,
        ),
    }
)
YAML_TEXTS = st.text(max_size=60) | st.text("abs:,-[]{}&*!|>%@`'\"?#<\n\t 01.~", max_size=40)
often = settings(max_examples=150, deadline=None, suppress_health_check=[*HealthCheck])


def require_answer(path: Path, overrides: tuple[str, ...] = ()) -> None:
    """Check that a file is right, or answered with one line for each mistake."""
    try:
        load_sweep(path, overrides) or load_config(path, overrides)
    except UserError as error:
        assert error.mistakes and all(error.mistakes)
        assert all(map(str.isprintable, error.mistakes))
        assert str(error).split("\n") == list(error.mistakes)


@pytest.fixture(scope="module")
def path(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("files") / "a.yaml"


@often
@given(tree=FILES | SWEEPS)
def test_any_tree_is_right_or_answered(path, tree):
    path.write_text(yaml.safe_dump(tree, allow_unicode=True), encoding="utf-8")
    require_answer(path)


@often
@given(text=YAML_TEXTS)
def test_any_text_is_right_or_answered(path, text):
    path.write_text(text, encoding="utf-8")
    require_answer(path)


@often
@given(content=st.binary(max_size=40))
def test_any_bytes_are_right_or_answered(path, content):
    path.write_bytes(content)
    require_answer(path)


@often
@given(
    key=TEXTS | st.sampled_from(["training.epochs", "pruning.methods", "dataset", "sweep.grid"]),
    value=YAML_TEXTS,
    has_equals=st.booleans(),
)
def test_any_override_is_right_or_answered(path, key, value, has_equals):
    path.write_text(NET)
    require_answer(path, (f"{key}={value}" if has_equals else f"{key}{value}",))
