"""The paper's experiments, file by file: networks, keep ratios, trainings and sample sizes."""

import numpy
import pytest
import torch
from conftest import ROOT

import experiment
from experiment.config.sweeps import load_sweep
from experiment.data.loading import open_dataset

G, L = numpy.geomspace, numpy.linspace
START = [*G(0.99, 0.855, 2)]
RESNET = (
    128,
    0.1,
    1e-4,
    False,
    182,
    [91, 136],
    0.1,
    5,
)  # batch, lr, decay, nesterov, epochs, drops, factor, warm-up
VGG = (256, 0.05, 5e-4, False, 300, list(range(30, 300, 30)), 0.5, 10)
DENSENET = (64, 0.1, 1e-4, True, 300, [150, 225], 0.1, 10)
WIDE = (128, 0.1, 5e-4, True, 200, [60, 120, 160], 0.2, 5)
MNIST = (64, 0.01, 1e-4, False, 50, [30, 45], 0.1, 0)
IMAGENET = (256, 0.1, 1e-4, False, 90, [30, 60, 80], 0.1, 5)
SIPPS = ["SiPP", "SiPPRand", "SiPPHybrid"]
FIVE = [*SIPPS, "WT", "SNIP"]
FILTERS = ["PFP", "PFPRand", "PFPTop", "FT", "SoftNet", "ThiNet", "UniformFilters"]
CIFAR_NETS = {  # file: network, training, |S|, parameters
    "resnet20": ("resnet20", RESNET, 183, 272_474),
    "resnet56": ("resnet56", RESNET, 194, 869_530),
    "resnet110": ("resnet110", RESNET, 196, 1_704_154),
    "vgg16": ("vgg16_bn", VGG, 188, 14_728_266),
    "densenet22": ("densenet22", DENSENET, 188, 71_686),
    "wrn16_8": ("wrn16_8", WIDE, 195, 10_961_370),
    "wrn28_2": ("wrn28_2", WIDE, 188, 1_467_610),
}
CASCADES = {  # keep ratios, retrainings
    "resnet20": ([*START, *G(0.85, 0.15, 58), *L(0.132, 0.02, 9)], 23),
    "resnet56": ([*START, *G(0.85, 0.02, 58)], 20),
    "resnet110": ([*START, *G(0.85, 0.02, 58)], 20),
    "vgg16": ([*START, *G(0.85, 0.02, 58)], 20),
    "densenet22": ([*START, *G(0.85, 0.10, 58), *L(0.0918, 0.0469, 6)], 22),
    "wrn16_8": ([*START, *G(0.85, 0.10, 58), *L(0.09182, 0.02, 9)], 23),
    "wrn28_2": ([*G(0.70, 0.05, 20)], 20),
}
MNIST_NETS = {
    "lenet300_100": (152, 266_610),
    "lenet5": (170, 81_194),
    "fcnet_nettrim": (None, 637_610),
}
IMAGENET_NETS = {
    "resnet18": ([*G(0.90, 0.35, 12), *L(0.31, 0.10, 6)], 202, 11_689_512),
    "resnet101": ([*G(0.90, 0.35, 12), *L(0.31, 0.184, 4)], 208, 44_549_160),
}
DELTAS = [
    10,
    1,
    1e-1,
    1e-2,
    1e-4,
    1e-6,
    1e-8,
    1e-10,
    1e-12,
    1e-14,
    1e-16,
    1e-20,
    1e-24,
    1e-28,
    1e-32,
]

# file: network, training, schedule, methods, keep ratios, retrainings, nets, |S|, parameters
EXPERIMENTS = {
    **{
        f"sipp/cifar/cascade/{file}": (
            net,
            training,
            "cascade",
            SIPPS if file == "wrn28_2" else FIVE,
            *CASCADES[file],
            3,
            size,
            parameters,
        )
        for file, (net, training, size, parameters) in CIFAR_NETS.items()
    },
    **{
        f"sipp/cifar/rand/{file}": (
            net,
            training,
            "random",
            FIVE,
            ratios,
            len(ratios),
            3,
            size,
            parameters,
        )
        for file, (net, training, size, parameters) in CIFAR_NETS.items()
        if file != "wrn28_2"
        for ratios in [
            [*G(0.80, 0.10, 10), *L(0.08, 0.02, 4)] if file == "resnet20" else [*G(0.80, 0.01, 10)]
        ]
    },
    **{
        f"sipp/mnist/{net}": (
            net,
            MNIST,
            "cascade",
            FIVE,
            [*G(0.80, 0.01, 30)],
            30,
            3,
            size,
            parameters,
        )
        for net, (size, parameters) in MNIST_NETS.items()
    },
    **{
        f"sipp/imagenet/{net}": (
            net,
            IMAGENET,
            "cascade",
            FIVE,
            ratios,
            len(ratios),
            1,
            size,
            parameters,
        )
        for net, (ratios, size, parameters) in IMAGENET_NETS.items()
    },
    "sipp/cifar/sweep/resnet20": (
        "resnet20",
        RESNET,
        "oneshot",
        SIPPS,
        [*G(0.90, 0.40, 30)],
        0,
        3,
        183,
        272_474,
    ),
    "sipp/mnist/sweep/lenet300_100": (
        "lenet300_100",
        MNIST,
        "oneshot",
        SIPPS,
        [*G(0.99, 0.30, 30)],
        0,
        3,
        152,
        266_610,
    ),
    **{
        f"pfp/cifar/cascade/{file}": (
            net,
            training,
            "cascade",
            FILTERS,
            [*G(0.80, 0.05, 12)],
            12,
            3,
            size,
            parameters,
        )
        for file, (net, training, size, parameters) in CIFAR_NETS.items()
        if file != "wrn28_2"
    },
}


def load(file):
    return experiment.load_config(ROOT / "paper" / f"{file}.yaml")


@pytest.mark.parametrize("file", EXPERIMENTS)
def test_a_file_resolves_to_the_numbers_of_the_paper(file):
    network, training, schedule, methods, ratios, retrainings, nets, _, _ = EXPERIMENTS[file]
    config, planned = load(file), experiment.schedule(load(file))
    assert (config.network.name, config.pruning.schedule, config.num_nets) == (
        network,
        schedule,
        nets,
    )
    assert [method.name for method in config.pruning.methods] == methods
    assert [ratio for ratio, _ in planned] == pytest.approx(ratios)
    groups = numpy.array_split(numpy.arange(len(ratios)), retrainings) if retrainings else []
    assert [retrained for _, retrained in planned] == [
        any(index == group[-1] for group in groups) for index in range(len(ratios))
    ]
    found, optimizer = config.training, config.training.optimizer
    assert (
        found.batch_size,
        optimizer.lr,
        optimizer.weight_decay,
        optimizer.nesterov,
        found.epochs,
        found.lr_drops.epochs,
        found.lr_drops.factor,
        found.warmup_epochs,
    ) == training
    assert (optimizer.name, optimizer.momentum, config.dataset.validation_fraction) == (
        "SGD",
        0.9,
        0.1,
    )
    half = (
        network == "vgg16_bn" and schedule == "cascade"
    )  # VGG is retrained for 150 of its 300 epochs
    assert config.retraining == found.model_copy(update={"epochs": 150 if half else found.epochs})
    assert (config.num_repetitions, config.pruning.delta) == (1, 1e-16)


@pytest.mark.parametrize(
    "file", [file for file in EXPERIMENTS if "rand" not in file and "pfp" not in file]
)
def test_parameters_and_sample_sizes_of_the_paper(file):
    *_, size, parameters = EXPERIMENTS[file]
    config = load(file)
    shape = open_dataset(config.dataset).shape()
    with torch.device("meta"):
        net = experiment.build_network(
            config.network.name,
            input_shape=shape.input_shape,
            num_classes=shape.num_classes,
            **config.network.options,
        )
        assert sum(parameter.numel() for parameter in net.parameters()) == parameters
        assert (
            size is None or experiment.sample_size(net, torch.zeros(1, *shape.input_shape)) == size
        )


@pytest.mark.parametrize("file", ["sipp/cifar/sweep/resnet20", "sipp/mnist/sweep/lenet300_100"])
def test_sweeps_of_delta(file):
    sweep = load_sweep(ROOT / "paper" / f"{file}.yaml", [])
    assert [combination.config.pruning.delta for combination in sweep.combinations] == DELTAS


def test_data_of_the_paper():
    expected = {
        "sipp/cifar/cascade/resnet20": (3, 32, 32),
        "sipp/mnist/lenet300_100": (1, 28, 28),
        "sipp/mnist/lenet5": (1, 32, 32),
        "sipp/imagenet/resnet18": (3, 224, 224),
    }
    for file, shape in expected.items():
        dataset = open_dataset(load(file).dataset)
        assert dataset.shape().input_shape == shape
        assert "imagenet" in file or dataset.crop_padding == 4
