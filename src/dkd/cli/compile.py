"""``dkd compile``."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from dkd.cli import options
from dkd.errors import UserError

if TYPE_CHECKING:
    from dkd.scenario import Scenario

PLACEHOLDER = "s3://your-bucket/datasets/{}"


@click.command("compile")
@click.argument("scenario", metavar="[SCENARIO]", required=False)
@options.data
@options.assignments
@click.option("--variant", metavar="NAME", help="Compile this variant of the scenario.")
@click.option(
    "-o",
    "--output",
    metavar="FILE",
    help="Where to write, a path or URI. Default: the scenario's and variant's name with .yaml.",
)
@click.option(
    "--all",
    "folder",
    metavar="FOLDER",
    help="Write every published scenario in each of its variants into FOLDER instead.",
)
def command(
    scenario: str | None,
    data: str | None,
    assignments: Sequence[str],
    variant: str | None,
    output: str | None,
    folder: str | None,
) -> None:
    """Write a scenario's pipeline as YAML for Kubeflow Pipelines.

    SCENARIO is a YAML file or a name that ``dkd scenarios`` lists. It is the pipeline that
    ``dkd run`` executes on this machine. A cluster reads data sets by URI (``dkd data pack``);
    a published scenario without --data names a placeholder, s3://your-bucket/datasets/..., that
    a run must replace.

    \b
    dkd compile voc-15-1 --variant DKD-M --data s3://bucket/datasets/voc
    dkd compile my-scenario.yaml -o pipeline.yaml
    dkd compile --all pipelines-yaml
    """
    from dkd import catalogue, storage
    from dkd.scenario import slug

    if folder is not None:
        if any(given is not None for given in (scenario, data, variant, output)):
            raise UserError(
                "--all: writes every published scenario; give no SCENARIO, --data, --variant or -o"
            )
        for name in catalogue.published():
            whole = _load(name, None, assignments)
            for label in whole.variants:
                uri = storage.join(folder, f"{slug(name, label)}.yaml")
                _write(whole.variant(label), label, uri)
                click.echo(uri)
        _tell_placeholder()
        return
    if scenario is None:
        raise UserError("SCENARIO: name a scenario (`dkd scenarios` lists them), or use --all")
    whole = _load(scenario, data, assignments)
    chosen = whole if variant is None else whole.variant(variant)
    uri = output or f"{slug(whole.name, variant or '')}.yaml"
    _write(chosen, variant or "", uri)
    click.echo(uri)
    if chosen.data.root.startswith(PLACEHOLDER.format("")):
        _tell_placeholder()


def _load(name: str, data: str | None, assignments: Sequence[str]) -> "Scenario":
    place = PLACEHOLDER.format("ade20k" if name.startswith("ade-") else "voc")
    return options.load_scenario(name, data, assignments, placeholder=place)


def _write(scenario: "Scenario", label: str, uri: str) -> None:
    """Compiles into a folder of its own first: ``uri`` is written whole or not at all."""
    import tempfile

    from kfp import compiler

    from dkd import storage
    from dkd.pipelines.incremental import build
    from dkd.scenario import slug

    with tempfile.TemporaryDirectory(prefix="dkd-compile-") as work:
        file = Path(work) / "pipeline.yaml"
        name = slug("dkd", scenario.name, label).replace(".", "-")
        compiler.Compiler().compile(build(scenario), str(file), pipeline_name=name)
        storage.write_bytes(uri, file.read_bytes())


def _tell_placeholder() -> None:
    click.echo(
        f"the data set's place is a placeholder, {PLACEHOLDER.format('...')}; give yours with "
        "--data here, or to the run",
        err=True,
    )
