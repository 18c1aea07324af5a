"""``dkd data``: check, view, convert, index, pack, make or remove a data set."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import click

from dkd.cli import options, tables
from dkd.cli.progress import progress
from dkd.errors import UserError
from dkd.scenario.data import NewPictogram

if TYPE_CHECKING:
    from dkd.data.index import Dataset
    from dkd.data.records import Record
    from dkd.scenario.data import Data

_layout = click.option(
    "--format",
    "format_",
    type=click.Choice(options.FORMAT_NAMES),
    help="The layout, see dkd data --help. Default: what ROOT looks like.",
)
_train = click.option(
    "--train",
    metavar="NAME",
    help="Training split: list of ImageSets/Segmentation (voc), sub-folder, list of annotations or "
    "field of data.yaml. Default: train_aug, training or train.",
)
_validation = click.option(
    "--validation",
    metavar="NAME",
    help="Validation split, named in the same way. Default: val or validation.",
)

_unlabelled = click.option(
    "--unlabelled",
    type=click.Choice(["background", "void"]),
    default="background",
    show_default=True,
    help="What pixels without an annotation are (coco, label-studio, yolo).",
)


def _options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Those of every command that reads a folder."""
    for option in (_unlabelled, _validation, _train, _layout):
        command = option(command)
    return command


@click.group("data")
def command() -> None:
    """Check, view, convert, index, pack, make or remove a data set.

    Images are JPEG, PNG, TIFF or WebP. Masks beside them are PNG or TIFF files of one channel
    (grey, or a palette) whose values are label values; 0 is background, 255 void. With more than
    254 classes they have 16 bits, and 65535 is void. If there are annotations instead (coco,
    label-studio, yolo), masks are drawn from them into dkd's cache.

    \b
    voc      JPEGImages/ID.jpg, SegmentationClassAug/ID.png (training),
             SegmentationClass/ID.png (validation), ImageSets/Segmentation/LIST.txt
             with a line per image: its id, or the paths of image and mask.
    ade20k   images/SPLIT/NAME.jpg, annotations/SPLIT/NAME.png;
             SPLIT is training or validation; 150 classes, 0 is "other".
    cityscapes
             leftImg8bit/SPLIT/CITY/NAME_leftImg8bit.png,
             gtFine/SPLIT/CITY/NAME_gtFine_labelIds.png; SPLIT is train or val;
             the 19 classes that are evaluated, all other ids are void.
    cvat     "Segmentation mask" as CVAT exports it: voc with labelmap.txt and masks
             in its colours; lists train and val.
    coco     annotations/instances_SPLIT.json, images in images/SPLIT, SPLIT or images;
             or SPLIT/_annotations.coco.json beside the images.
    label-studio
             brush labels to PNG with the project's JSON and its images; or the
             COCO export (result.json).
    yolo     data.yaml, images/SPLIT/NAME.jpg, labels/SPLIT/NAME.txt with polygons.
    hf       a Hugging Face data set: saved to disk, or *.parquet, with
             id2label.json or classes.yaml.
    folder   images/SPLIT/NAME.jpg, masks/SPLIT/NAME.png; SPLIT is train or
             validation; classes.yaml has a line for every class, VALUE: name
             or VALUE: {name: name, colour: [red, green, blue]}. Masks may be in
             these colours, where every class has one.
    """


@command.command("check")
@click.argument("root", type=click.Path(path_type=Path))
@_options
@click.option(
    "--published", is_flag=True, help="Fail unless it is the data set of the published tables."
)
def check(root: Path, published: bool, **reading: str | None) -> None:
    """Check every image and mask below ROOT, and count classes.

    Every file is read, whatever was found before. Notes say what is not used, what appears twice,
    and how masks were understood. Whatever cannot be trained on is an error.

    A download of VOC 2012 or ADE20K is also compared with the published lists: the number of
    images and the digest of their ids, for every task, setting and step.

    \b
    dkd data check ~/VOCdevkit/VOC2012 --format voc
    dkd data check ~/ADEChallengeData2016 --format ade20k --published
    dkd data check ~/my-images
    """
    from dkd.data import checks, formats, index
    from dkd.storage.cache import dataset_cache

    data = _data(root, **reading)
    source = formats.FORMATS[data.format].source
    try:
        layout = formats.read(data)
    except UserError:
        if source:
            click.echo(source, err=True)
        raise
    if missing := checks.missing(layout):
        for item in missing:
            click.echo(str(item), err=True)
        if source:
            click.echo(source, err=True)
        files = sum(len(item.paths) for item in missing)
        raise UserError(f"{root}: {files} files are missing; add them or take them off the lists")
    dataset = index.build(data, dataset_cache(), progress("scanning"), _note, True, layout)
    click.echo(f"{dataset.name}: {len(dataset.classes)} classes, index {dataset.digest[:16]}")
    splits, classes = checks.summary(dataset)
    for line in (*tables.lines(splits, right=(1, 4)), *tables.lines(classes, right=(0, 2, 3))):
        click.echo(line)
    if data.format not in checks.PUBLISHED_FORMATS:
        if published:
            raise UserError(f"--published: nothing is published of the format {data.format}")
        return
    different = checks.differences(dataset)
    if not different:
        click.echo("This is the published data set: every published list agrees.")
        return
    click.echo("This is not the data set of the published tables (fine for your own data):")
    for line in different:
        click.echo(f"  {line}")
    if published:
        click.echo(source, err=True)
        raise UserError(f"{root}: differs from the published data set in {len(different)} lists")


@command.command("index")
@click.argument("root", type=click.Path(path_type=Path))
@click.argument("uri")
@_options
def index(root: Path, uri: str, **reading: str | None) -> None:
    """Publish the index of the data set below ROOT as an artifact at URI; images stay in ROOT.

    This is for machines that share the folder. To upload the images too, use dkd data pack.

    \b
    dkd data index /mnt/VOC2012 s3://bucket/datasets/voc --format voc
    """
    from dkd.data import packed

    dataset = _index(_data(root, **reading))
    manifest = packed.publish_index(dataset, uri)
    click.echo(f"{uri}: {_counts(manifest.metadata)}, images stay in {dataset.root}")
    if dataset.masks:
        click.echo(f"masks were drawn into {dataset.masks}")


@command.command("pack")
@click.argument("root", type=click.Path(path_type=Path))
@click.argument("uri")
@_options
@click.option(
    "--shard-mib",
    type=click.IntRange(1, 1000),
    default=256,
    show_default=True,
    help="Size of a shard in MiB.",
)
@click.option(
    "--work",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder with room for one shard until it is uploaded. Default: the system's temporary "
    "folder.",
)
def pack(
    root: Path,
    uri: str,
    shard_mib: int,
    work: Path | None,
    **reading: str | None,
) -> None:
    """Pack the data set below ROOT into tar shards with an index, as an artifact at URI.

    Workers then read only the images of their own step from there. Packing a second time does
    nothing; if it was interrupted, it continues. A scenario uses the result with data.format=packed
    and data.root=URI.

    \b
    dkd data pack ~/VOC2012 s3://bucket/datasets/voc --format voc
    dkd run voc-15-1 --set data.format=packed --data s3://bucket/datasets/voc
    """
    import tempfile

    from dkd.data import packed

    dataset = _index(_data(root, **reading))
    manifest = packed.pack(
        dataset,
        uri,
        work or Path(tempfile.gettempdir()),
        shard_mib * 2**20,
        progress("packing"),
    )
    shards = sum(name.endswith(".tar") for name in manifest.parts)
    size = manifest.size / 2**20
    click.echo(f"{uri}: {_counts(manifest.metadata)}, {shards} shards, {size:.0f} MiB")


@command.command("convert")
@click.argument("source", metavar="ROOT")
@click.argument("target", type=click.Path(path_type=Path))
@_options
def convert(source: str, target: Path, **reading: str | None) -> None:
    """Convert the data set at ROOT, of any format or packed, to the format folder in TARGET.

    Images are copied unchanged; masks become upright PNG files with a palette. For dkd data pack
    no conversion is needed: it takes every format.

    \b
    dkd data convert ~/cvat-export ~/my-images
    dkd data convert s3://bucket/datasets/voc ~/voc
    """
    from dkd.data import converting

    dataset, folder_of = _opened(source, reading)
    records = [record for split in dataset.splits.values() for record in split]
    converting.to_folder(dataset, folder_of(records), target, progress("writing"))
    counts = ", ".join(f"{len(split)} {name}" for name, split in dataset.splits.items())
    click.echo(f"{target}: {counts}, {len(dataset.classes)} classes")
    if dataset.future_is_void:
        click.echo(
            "note: in test images of the format folder, classes not learned yet are background; "
            f"in {dataset.format} they are void",
            err=True,
        )


@command.command("view")
@click.argument("source", metavar="ROOT")
@click.option(
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    default=Path("labels.html"),
    show_default=True,
    help="Where to write the page.",
)
@click.option(
    "--images",
    type=click.IntRange(1, 500),
    default=48,
    show_default=True,
    help="Number of images on the page.",
)
@click.option("--scenario", metavar="NAME", help="Count labels for this scenario's steps too.")
@_options
def view(
    source: str, output: Path, images: int, scenario: str | None, **reading: str | None
) -> None:
    """Write a page that shows images of the data set at ROOT with their masks, and counts labels.

    The page is one file and needs no network. It shows the rarest classes first: with as many
    --images as there are classes, every class is seen.

    \b
    dkd data view ~/cvat-export
    dkd data view ~/VOC2012 --scenario voc-15-1
    """
    from dkd.report import data_view
    from dkd.scenario.tasks import Task
    from dkd.storage.files import placed

    dataset, folder_of = _opened(source, reading)
    task = None
    if scenario:
        task = Task.of(options.load_scenario(scenario, source, ()).task, dataset.classes)
    page = data_view.render(dataset, folder_of, images, task)
    with placed(output, durable=False) as partial:
        partial.write_text(page, encoding="utf-8")
    click.echo(f"{output}: {len(page) / 2**10:,.0f} KiB; open it in a browser")


@command.command("rm")
@click.argument("uri")
@click.option("--yes", is_flag=True, help="Remove it. Without this, only say what would go.")
@options.workspace
def remove(uri: str, yes: bool, workspace: Path) -> None:
    """Remove the packed data set or the index at URI, and what this machine has cached of it.

    Models that were trained on it stay. A run that uses it cannot be continued afterwards.

    \b
    dkd data rm s3://bucket/datasets/voc          shows what would go
    dkd data rm s3://bucket/datasets/voc --yes
    """
    from functools import partial

    from dkd.data import packed
    from dkd.kubeflow import local_runner
    from dkd.storage.cache import artifact_caches

    with local_runner.reachable([uri], workspace, partial(click.echo, err=True)):
        dataset, manifest = packed.open_dataset(uri)
        images = "with its images" if dataset.format == "packed" else "the index alone"
        size = manifest.size / 2**20
        click.echo(f"{uri}: {dataset.name}, {_counts(manifest.metadata)}, {images}, {size:.1f} MiB")
        if not yes:
            click.echo("nothing is removed without --yes")
            return
        packed.remove(manifest, artifact_caches(workspace))
        click.echo("removed")


def drawn(size: int) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """The options of a data set that is drawn; ``size`` is usual, in pixels."""

    def decorate(function: Callable[..., None]) -> Callable[..., None]:
        for option in reversed(
            (
                click.argument("folder", type=click.Path(path_type=Path, file_okay=False)),
                _count("--train", 10, 1200, "Number of training scenes."),
                _count("--validation", 5, 200, "Number of test scenes."),
                _count("--size", 32, size, "Width and height in pixels.", 512),
                _count("--seed", 0, 1, "Another seed gives other scenes."),
            )
        ):
            function = option(function)
        return function

    return decorate


def _count(
    name: str, least: int, default: int, words: str, most: int | None = None
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    kind = click.IntRange(least, most)
    return click.option(name, type=kind, default=default, show_default=True, help=words)


@command.command("pictograms")
@drawn(96)
@click.option(
    "--new-class",
    type=click.Choice(get_args(NewPictogram)),
    help="Show one more pictogram in every scene; only it is labelled in training scenes.",
)
def make_pictograms(folder: Path, **settings: Any) -> None:
    """Make the demonstration's data set in FOLDER: scenes of pictograms over photographs.

    With --new-class, it is data for a model that already knows the other classes.

    \b
    dkd data pictograms scenes
    dkd data pictograms umbrellas --new-class umbrella --train 200
    """
    _make("pictograms", folder, settings)


@command.command("digits")
@drawn(64)
def make_digits(folder: Path, **settings: Any) -> None:
    """Make a small data set in FOLDER: scenes of handwritten digits.

    \b
    dkd data digits scenes
    dkd data check scenes --format folder
    """
    _make("digits", folder, settings)


def _make(format_: str, folder: Path, settings: dict[str, Any]) -> None:
    from dkd.data import made
    from dkd.scenario.data import Data

    made.make(folder, Data.model_validate({"format": format_, format_: settings}))
    click.echo(
        f"{folder}: {settings['train']} training and {settings['validation']} validation scenes of "
        f"{settings['size']} pixels"
    )


def _opened(
    source: str, reading: dict[str, str | None]
) -> "tuple[Dataset, Callable[[Sequence[Record]], Path]]":
    """A data set, and what gives the folder in which records of it lie."""
    from dkd.data import packed
    from dkd.storage import artifacts
    from dkd.storage.cache import artifact_cache

    if "://" in source or artifacts.find(source) is not None:
        defaults = {"format_": None, "train": None, "validation": None, "unlabelled": "background"}
        if given := [name for name, value in reading.items() if value != defaults[name]]:
            raise UserError(
                f"{source}: is already packed or indexed; leave out --{given[0].strip('_')}"
            )
        dataset, manifest = packed.open_dataset(source)
    else:
        dataset, manifest = _index(_data(Path(source), **reading)), None

    def folder_of(records: Sequence["Record"]) -> Path:
        if manifest is None:
            return Path(dataset.root)
        return packed.materialise(dataset, manifest, records, artifact_cache())

    return dataset, folder_of


def _data(root: Path, format_: str | None, **fields: str | None) -> "Data":
    from dkd.data import formats
    from dkd.scenario.data import Data

    if format_ is None:
        format_ = formats.recognised(root)
        click.echo(f"note: {root} looks like the format {format_}", err=True)
    return Data.model_validate({"format": format_, "root": str(root), **fields})


def _index(data: "Data") -> "Dataset":
    from dkd.data import open as opening
    from dkd.storage.cache import dataset_cache

    return opening.dataset(data, dataset_cache(), progress("scanning"), _note)


def _note(line: str) -> None:
    click.echo(f"note: {line}", err=True)


def _counts(metadata: dict[str, Any]) -> str:
    return ", ".join(f"{count} {split}" for split, count in metadata["images"].items())
