"""Options that several commands share."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from dkd.errors import UserError

if TYPE_CHECKING:
    from dkd.scenario.schema import Scenario

FORMAT_NAMES = (
    *("voc", "ade20k", "cityscapes", "coco", "cvat", "folder", "hf", "label-studio", "yolo"),
)
"""The names in :data:`dkd.data.formats.FORMATS`, which takes long to import."""

scenario = click.argument("scenario", metavar="SCENARIO")
data = click.option("--data", metavar="PATH_OR_URI", help="Where the data set is (data.root).")
assignments = click.option(
    "--set",
    "assignments",
    multiple=True,
    metavar="FIELD=VALUE",
    help="Replace a field of the scenario, e.g. training.crop=128; may be given several "
    "times, the last one of a field counts.",
)
gate = click.option(
    "--gate",
    type=click.Choice(["mark", "stop"]),
    help="What happens when a step fails the scenario's gate: gate.on_failure.",
)
model_registry = click.option(
    "--registry",
    envvar="DKD_MODEL_REGISTRY",
    default="",
    metavar="URL",
    help="Kubeflow Model Registry that is informed as well.",
)
root = click.option(
    "--root",
    envvar="DKD_ROOT",
    metavar="URI",
    help="Artifact root: s3://bucket/prefix or a folder. Default: an S3 store in the workspace.",
)
workspace = click.option(
    "--workspace",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("dkd-workspace"),
    show_default=True,
    help="Folder for the S3 store, logs and the report.",
)


def load_scenario(
    name: str, data: str | None, items: Sequence[str], placeholder: str = ""
) -> "Scenario":
    """The scenario of a file or of the catalogue, with the command line's values.

    Args:
        name: a file, or a name of the catalogue.
        data: where the data set is. One that has a URI is packed, unless told otherwise.
        items: ``FIELD=VALUE``.
        placeholder: stands for the data set of a published scenario where none is given.

    Raises:
        UserError: no such scenario, or a bad field.
    """
    from dkd import methods
    from dkd.scenario import catalogue
    from dkd.scenario.parsing import load, parse_assignments

    values = parse_assignments(items)
    if data is not None and values.get("data.root", data) != data:
        raise UserError("--data and --set data.root: name two data sets; give one of them")
    path = Path(name)
    from_file = path.suffix in (".yaml", ".yml") or path.is_file()
    if data is None and not from_file and name in catalogue.published():
        data = values.get("data.root") or placeholder or None
    if data is not None:
        values["data.root"] = data
        if isinstance(data, str) and data.startswith(("s3://", "minio://")):
            values.setdefault("data.format", "packed")
    if from_file:
        place = values.get("data.root")
        found = load(path, place if isinstance(place, str) else "")
        methods.check(found, source=name)
        return methods.check(found.override(values)) if values else found
    return methods.check(catalogue.scenario(name, values))


def seeds(text: str | None) -> tuple[int, ...]:
    """``1,2,3`` as numbers.

    Raises:
        UserError: something else, or a number that appears twice.
    """
    numbers = [] if text is None else text.split(",")
    if not all(re.fullmatch("[0-9]{1,30}", number.strip()) for number in numbers):
        raise UserError(f"--seeds {text}: write whole numbers with commas, e.g. 1,2,3")
    found = tuple(int(number) for number in numbers)
    if len(set(found)) < len(found):
        raise UserError(f"--seeds {text}: a seed appears twice; give it once")
    return found
