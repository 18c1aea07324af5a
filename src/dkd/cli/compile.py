"""``dkd compile``."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import click

from dkd.cli import options
from dkd.errors import UserError

if TYPE_CHECKING:
    from dkd.scenario.schema import Scenario

_PLACEHOLDER = "s3://your-bucket/datasets/{}"


def pipeline_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """What ``dkd compile`` and ``dkd submit`` ask about a pipeline."""
    for option in reversed(
        (
            options.data,
            options.assignments,
            click.option("--variant", metavar="NAME", help="This variant of the scenario."),
            click.option(
                "--root",
                envvar="DKD_ROOT",
                metavar="URI",
                help="Artifact root that the form proposes. Default: s3://mlpipeline/dkd.",
            ),
            click.option(
                "--launcher-image",
                envvar="DKD_LAUNCHER_IMAGE",
                metavar="IMAGE",
                help="Image of the pipeline's components, best by digest.",
            ),
            click.option(
                "--training-image",
                envvar="DKD_TRAINING_IMAGE",
                metavar="IMAGE",
                help="Image of the training that the form proposes, best by digest.",
            ),
        )
    ):
        command = option(command)
    return command


@click.command("compile")
@click.argument("scenario", metavar="[SCENARIO]", required=False)
@pipeline_options
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
    help="Write every published scenario in each of its variants, and add-classes, into FOLDER "
    "instead.",
)
def command(
    scenario: str | None,
    data: str | None,
    assignments: Sequence[str],
    variant: str | None,
    root: str | None,
    launcher_image: str | None,
    training_image: str | None,
    output: str | None,
    folder: str | None,
) -> None:
    """Write a scenario's pipeline as YAML for Kubeflow Pipelines.

    SCENARIO is a YAML file, a name that ``dkd scenarios`` lists, or add-classes, the pipeline
    that adds classes to any model. It is the pipeline that ``dkd run`` and ``dkd extend``
    execute on this machine; the scenario's values are the defaults of the run's form. A cluster
    reads data sets by URI (``dkd data pack``); a published scenario without --data names a
    placeholder, s3://your-bucket/datasets/..., that a run must replace.

    \b
    dkd compile voc-15-1 --variant DKD-M --data s3://bucket/datasets/voc
    dkd compile my-scenario.yaml -o pipeline.yaml
    dkd compile --all pipelines-yaml
    """
    from dkd.scenario.names import slug

    if folder is not None:
        if any(given is not None for given in (scenario, data, variant, output)):
            raise UserError(
                "--all: writes every published scenario; give no SCENARIO, --data, --variant or -o"
            )
        _write_all(folder, assignments, root, launcher_image, training_image)
        placeholder = True
    elif scenario is None:
        raise UserError("SCENARIO: name a scenario (`dkd scenarios` lists them), or use --all")
    elif scenario == "add-classes":
        require_no_data(data, variant)
        pipeline = compiled_extension(assignments, root, launcher_image, training_image)
        _write(output or "add-classes.yaml", pipeline)
        placeholder = False
    else:
        chosen = load(scenario, data, assignments, variant, training_image)
        uri = output or f"{slug(chosen.name, variant or '')}.yaml"
        _write(uri, compiled(chosen, root, launcher_image))
        placeholder = chosen.data.root.startswith(_PLACEHOLDER.format(""))
    tell_default_image(launcher_image)
    if placeholder:
        _tell_placeholder()


def _write_all(
    folder: str,
    assignments: Sequence[str],
    root: str | None,
    launcher_image: str | None,
    training_image: str | None,
) -> None:
    """Writes every published scenario in each of its variants, and add-classes."""
    from dkd import storage
    from dkd.scenario import catalogue
    from dkd.scenario.names import slug

    for name in catalogue.published():
        for label in load(name, None, assignments, None, training_image).variants:
            chosen = load(name, None, assignments, label, training_image)
            uri = storage.join(folder, f"{slug(name, label)}.yaml")
            _write(uri, compiled(chosen, root, launcher_image))
    pipeline = compiled_extension(assignments, root, launcher_image, training_image)
    _write(storage.join(folder, "add-classes.yaml"), pipeline)


def _write(uri: str, pipeline: bytes) -> None:
    from dkd import storage

    storage.write_bytes(uri, pipeline)
    click.echo(uri)


def tell_default_image(launcher_image: str | None) -> None:
    """Says what runs the components of a pipeline that was compiled without naming an image."""
    from dkd.components import LAUNCHER_IMAGE

    if not launcher_image:
        click.echo(
            f"the components' image is {LAUNCHER_IMAGE}, which no registry has: nodes must have it "
            "already, or name one that they can pull (--launcher-image)",
            err=True,
        )


def require_no_data(data: str | None, variant: str | None) -> None:
    """Refuses options that the pipeline ``add-classes`` has no use for."""
    if data is not None or variant is not None:
        raise UserError("add-classes: takes its data from the run's form; no --data, no --variant")


def load(
    name: str,
    data: str | None,
    assignments: Sequence[str],
    variant: str | None,
    training_image: str | None,
) -> "Scenario":
    """The scenario of a pipeline: as given, but trained by jobs of the cluster."""
    place = _PLACEHOLDER.format("ade20k" if name.startswith("ade-") else "voc")
    whole = options.load_scenario(name, data, assignments, placeholder=place)
    chosen = whole if variant is None else whole.variant(variant)
    return chosen.override(_on_cluster(assignments, training_image))


def _on_cluster(assignments: Sequence[str], training_image: str | None) -> dict[str, Any]:
    from dkd.scenario.parsing import parse_assignments

    defaults = {"launch.backend": "trainjob"}
    if training_image:
        defaults["launch.image"] = training_image
    given = parse_assignments(assignments)
    return {path: value for path, value in defaults.items() if path not in given}


def compiled(scenario: "Scenario", root: str | None, launcher_image: str | None) -> bytes:
    """A scenario's pipeline as YAML."""
    from dkd.components import LAUNCHER_IMAGE
    from dkd.pipelines import compiled
    from dkd.scenario import form

    return compiled.of_scenario(
        scenario, root or form.ARTIFACT_ROOT, launcher_image or LAUNCHER_IMAGE
    )


def compiled_extension(
    assignments: Sequence[str],
    root: str | None,
    launcher_image: str | None,
    training_image: str | None,
) -> bytes:
    """The pipeline ``add-classes`` as YAML; only fields of ``launch`` can be set beforehand."""
    from dkd.components import LAUNCHER_IMAGE
    from dkd.pipelines import compiled
    from dkd.scenario import form
    from dkd.scenario.launch import Launch
    from dkd.scenario.parsing import parse_assignments
    from dkd.scenario.strict_model import parse_part

    given = parse_assignments(assignments) | _on_cluster(assignments, training_image)
    fields = {path.removeprefix("launch."): value for path, value in given.items()}
    if others := [path for path in given if not path.startswith("launch.")]:
        raise UserError(f"--set {others[0]}: for add-classes only launch fields can be set here")
    launch = parse_part(Launch, fields, source="--set launch")
    return compiled.of_extension(
        launch, root or form.ARTIFACT_ROOT, launcher_image or LAUNCHER_IMAGE
    )


def _tell_placeholder() -> None:
    click.echo(
        f"the data set's place is a placeholder, {_PLACEHOLDER.format('...')}; give yours with "
        "--data here, or to the run",
        err=True,
    )
