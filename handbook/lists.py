"""Lists that the program keeps: methods, backbones, weights, published figures."""

from collections.abc import Mapping

from dkd import methods
from dkd.methods.base import Options
from dkd.network.backbones import BACKBONES
from dkd.scenario import backbones as names
from dkd.scenario import catalogue, imagenet
from handbook import prose
from handbook.scenario_fields import fields


def method_table() -> str:
    """What each method is, its loss terms, parameter groups with their factors, positive weight."""
    rows = [
        [
            f"`{name}`",
            prose.sentence(method.summary),
            numbers(method.weights),
            numbers(method.first_weights),
            numbers(method.rates) or "one group",
            f"{method.pos_weight:g}",
        ]
        for name, method in methods.METHODS.items()
    ]
    head = ["Method", "Summary", "Terms at later steps", "Terms at step 0", "Rates at later steps"]
    return prose.table([*head, "`pos_weight` at later steps"], rows)


def method_options() -> str:
    """What ``method_options`` may say, by method."""
    rows = []
    shared = set(Options.model_fields)
    owners = {f"`{name}`": method.options for name, method in methods.METHODS.items()}
    for name, options in {"every method": Options, **owners}.items():
        rows += [
            [f"`{field.path}`", name, field.kind, f"`{field.default}`", field.description]
            for field in fields(options)
            if name == "every method" or field.path not in shared
        ]
    return prose.table(["Option", "Of", "Type and bounds", "Default", "Meaning"], rows)


def numbers(by_name: Mapping[str, float]) -> str:
    """Numbers by name, on one line."""
    return ", ".join(f"`{name}` {number:g}" for name, number in by_name.items())


def backbone_table() -> str:
    """Each backbone with its features, strides and weights."""
    rows = [
        [
            f"`{name}`",
            str(BACKBONES[name].channels),
            ", ".join(map(str, strides)),
            f"`{imagenet.FILES[name]}`" if name in imagenet.FILES else "none",
        ]
        for name, strides in names.OUTPUT_STRIDES.items()
    ]
    head = ["Backbone", "Channels", "Output strides, the default first", "ImageNet weights"]
    return prose.table(head, rows)


def published_figures() -> str:
    """The published figures, with the command that makes ours."""
    rows = [
        [
            scenario,
            variant,
            "" if figure.hiou is None else f"{figure.hiou:.2f}",
            f"{figure.miou_all:.2f}",
            f"`dkd run {scenario} --variant {variant} --data DATA`",
        ]
        for (scenario, variant), figure in catalogue.PUBLISHED.items()
    ]
    return prose.table(["Scenario", "Variant", "hIoU", "mIoU_all", "Command"], rows)
