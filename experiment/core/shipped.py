"""The modules of plug-ins that this software ships, as `python -m tools.documentation` writes them.

A plug-in that is not listed counts as code of a person's own.
"""

PLUGIN_MODULES = frozenset(
    {
        "experiment.data.sets",
        "experiment.data.sets.digits",
        "experiment.data.sets.image_folder",
        "experiment.data.sets.imagenet",
        "experiment.data.sets.torchvision_sets",
        "experiment.methods",
        "experiment.methods.filter_norms",
        "experiment.methods.grasp",
        "experiment.methods.magnitude",
        "experiment.methods.magnitude_sampling",
        "experiment.methods.pfp",
        "experiment.methods.random_scores",
        "experiment.methods.sipp",
        "experiment.methods.sipp_hybrid",
        "experiment.methods.sipp_rand",
        "experiment.methods.snip",
        "experiment.methods.synflow",
        "experiment.methods.thinet",
        "experiment.methods.uniform_filters",
        "experiment.methods.wanda",
        "experiment.networks",
        "experiment.networks.densenet",
        "experiment.networks.lenet",
        "experiment.networks.resnet",
        "experiment.networks.torchvision_models",
        "experiment.networks.vgg",
        "experiment.networks.vit",
        "experiment.networks.wide_resnet",
        "experiment.trackers",
        "experiment.trackers.mlflow",
        "experiment.trackers.tensorboard",
        "experiment.trackers.wandb",
    }
)
