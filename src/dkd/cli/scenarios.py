"""``dkd scenarios``."""

import itertools
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import click

from dkd import methods
from dkd.cli import options, tables
from dkd.errors import UserError
from dkd.scenario.data import MADE

if TYPE_CHECKING:
    from dkd.scenario.schema import Scenario

_PLACEHOLDERS = {"voc": "/path/to/VOCdevkit/VOC2012", "ade20k": "/path/to/ADEChallengeData2016"}
"""What stands for the data set's folder until a person says where it is."""

NAMES = {"voc": "PASCAL VOC 2012", "ade20k": "ADE20K"}


@click.command("scenarios")
@click.argument("name", required=False)
@options.data
@click.option("--yaml", "as_yaml", is_flag=True, help="Print the scenario as YAML for dkd run.")
def command(name: str | None, data: str | None, as_yaml: bool) -> None:
    """List the scenarios that come with the package, or show one in full.

    The published figures are those of arXiv 2210.05941, hIoU and mIoU of all classes in percent.

    \b
    dkd scenarios
    dkd scenarios voc-15-1
    dkd scenarios voc-15-1 --yaml > my-scenario.yaml
    """
    from dkd.scenario.parsing import dump

    if name is None:
        if as_yaml:
            raise UserError("--yaml: name the scenario to print, e.g. dkd scenarios demo --yaml")
        for line in _overview():
            click.echo(line)
        return
    scenario = _load(name, data)
    if as_yaml:
        if scenario.data.root in _PLACEHOLDERS.values():
            click.echo("# data.root is a placeholder: say where the data set is, here or by --data")
        click.echo(dump(scenario), nl=False)
        return
    for line in _in_full(scenario):
        click.echo(line)


def _load(name: str, data: str | None) -> "Scenario":
    from dkd.scenario import catalogue

    documents = catalogue.documents()
    if name not in documents:
        raise UserError(f"scenario {name!r}: none of {', '.join(documents)}")
    placeholder = _PLACEHOLDERS.get(documents[name]["data"]["format"], "")
    return options.load_scenario(name, data, (), placeholder=placeholder)


def _overview() -> Iterator[str]:
    from dkd.scenario import catalogue

    scenarios = [_load(name, None) for name in catalogue.documents()]
    for _, group in itertools.groupby(scenarios, key=lambda s: s.data.format):
        members = list(group)
        yield _data_set(members[0])
        for line in _hyper_parameters(members[0]):
            yield f"  {line}"
        rows: list[tuple[str, ...]] = [
            ("scenario", "setting", "classes by step", "training images", *_FIGURES)
        ]
        for one in members:
            counts = catalogue.counts(one.name)
            images = _runs(counts.train) if counts else str(one.data.made.train)
            figures = (_figure(one, variant) for variant in _FIGURES)
            rows.append((one.name, one.setting, _classes(one), images, *figures))
        yield from tables.lines(rows, indent=2)
        yield ""
    yield "DKD and DKD-M: published hIoU / mIoU of all classes. In full: dkd scenarios NAME"


_FIGURES = ("DKD", "DKD-M")


def _in_full(scenario: "Scenario") -> Iterator[str]:
    from dkd.scenario import catalogue

    name, counts = scenario.name, catalogue.counts(scenario.name)
    yield f"{name}: {_data_set(scenario)}, setting {scenario.setting}, protocol {scenario.protocol}"
    if scenario.description:
        yield scenario.description
    yield ""
    rows: list[tuple[str, ...]] = [("step", "training images", "test images", "classes")]
    for step, items in enumerate(scenario.task):
        images = (counts.train[step], counts.test[step]) if counts else ("?", "?")
        rows.append((str(step), *map(str, images), _named(scenario, items)))
    yield from tables.lines(rows)
    yield ""
    yield from _hyper_parameters(scenario)
    yield ""
    variants: list[tuple[str, ...]] = [("variant", "changes", "published hIoU", "mIoU_all")]
    for label, changes in scenario.variants.items():
        figure = catalogue.PUBLISHED.get((name, label))
        what = ", ".join(f"{field}={value}" for field, value in changes.items()) or "none"
        figures = (_percent(figure.hiou), _percent(figure.miou_all)) if figure else ("", "")
        variants.append((label, what, *figures))
    yield from tables.lines(variants)
    yield ""
    yield "To run it:"
    yield from (f"  {line}".rstrip() for line in _commands(scenario))


def _commands(scenario: "Scenario") -> Iterator[str]:
    data, backbone = scenario.data, scenario.network.backbone
    if data.format in MADE:
        for label in scenario.variants:
            yield f"dkd run {scenario.name} --variant {label}"
        return
    if data.format in _PLACEHOLDERS:
        yield f"dkd data check {data.root} --format {data.format} --published"
    yield ""
    for label in scenario.variants:
        yield f"dkd run {scenario.name} --variant {label} --data {data.root}"
    if data.format in _PLACEHOLDERS:
        packed = f"s3://your-bucket/datasets/{data.format}"
        yield ""
        yield "# as a pipeline of a cluster, which reads the data set by its URI"
        yield f"dkd data pack {data.root} {packed} --format {data.format}"
        yield f"dkd weights fetch {backbone} --root s3://your-bucket/prefix"
        yield (
            f"dkd compile {scenario.name} --variant DKD-M --data {packed} "
            "--root s3://your-bucket/prefix"
        )


def _data_set(scenario: "Scenario") -> str:
    data = scenario.data
    if data.format in MADE:
        scenes = f"{data.made.train} scenes of {data.made.size} pixels"
        return f"{data.format}: {scenes}, made on the spot"
    return NAMES.get(data.format, f"data set {data.root}")


def _hyper_parameters(scenario: "Scenario") -> tuple[str, str]:
    training, network = scenario.training, scenario.network
    weights, own = training.pos_weight, methods.get(scenario.method).pos_weight
    known = {"imagenet": "ImageNet weights", "none": "random weights"}
    start = known.get(network.initial_weights, network.initial_weights)
    later = "" if training.epochs.first == training.epochs.later else f", {training.epochs.later}"
    return (
        f"{network.backbone} from {start}; {training.epochs.first}{later} epochs; "
        f"batches of {training.batch_size} crops of {training.crop}; {training.schedule} rate "
        f"{training.lr.first:g}, later {training.lr.later:g}",
        f"momentum {training.momentum:g}; weight decay {training.weight_decay:g}; pos_weight "
        f"{_weight(weights.at(0, own))}, later {_weight(weights.at(1, own))}; "
        f"memory of DKD-M "
        f"{scenario.variants.get('DKD-M', {}).get('memory_size', 0)}; protocol {scenario.protocol}",
    )


def _weight(value: float | str) -> str:
    return value if isinstance(value, str) else f"{value:g}"


def _classes(scenario: "Scenario") -> str:
    return _runs([len(items) for items in scenario.task])


def _runs(numbers: Sequence[int]) -> str:
    """``15 5x1`` for 15, 1, 1, 1, 1, 1."""
    parts = []
    for number, group in itertools.groupby(numbers):
        count = len(list(group))
        parts.append(str(number) if count == 1 else f"{count}x{number}")
    return " ".join(parts)


def _figure(scenario: "Scenario", variant: str) -> str:
    from dkd.scenario import catalogue

    figure = catalogue.PUBLISHED.get((scenario.name, variant))
    return f"{_percent(figure.hiou)} / {_percent(figure.miou_all)}" if figure else ""


def _percent(figure: float | None) -> str:
    return "-" if figure is None else f"{figure:.2f}"


def _named(scenario: "Scenario", items: Sequence[int | str], most: int = 20) -> str:
    from dkd.scenario import catalogue

    names = catalogue.label_names(scenario)
    shown = [names.get(item, str(item)) for item in items]
    more = f" and {len(shown) - most} more" if len(shown) > most else ""
    return ", ".join(shown[:most]) + more
