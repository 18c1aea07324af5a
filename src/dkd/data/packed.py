"""Data sets as artifacts: the index alone, or with the images in tar shards.

    <artifact>/index.json.gz     dkd.data.index.Dataset as JSON
    <artifact>/members.json.gz   packed: shard, offset and size of every file
    <artifact>/shard-00000.tar   packed: images and masks, whole, in plain tar

A worker reads the members of its own step's images by range, never a whole shard: the images of
other steps do not reach it.
"""

import gzip
import io
import json
import shutil
import tarfile
import zlib
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from dkd import storage
from dkd.data import contents
from dkd.data.index import Dataset, Progress, safe_path
from dkd.data.records import Record
from dkd.errors import UserError
from dkd.storage import artifacts
from dkd.storage.artifacts import Manifest
from dkd.storage.files import locked, placed, scratch

DATASET_KIND = "dataset"
INDEX = "index.json.gz"
MEMBERS = "members.json.gz"
SHARD_BYTES = 256 * 2**20

_READ_BYTES = 8 * 2**20  # one ranged read covers neighbours up to here
_READERS = 16
_LARGEST_INDEX = 2**30  # bytes, unpacked
_BLOCK = 512  # tar's


@dataclass(frozen=True)
class Member:
    """Where a record's files lie: bytes ``image`` and then ``mask`` of the part ``shard``.

    Attributes:
        shard: name of the part.
        image: offset and size.
        mask: likewise; it follows the image at once.
    """

    shard: str
    image: tuple[int, int]
    mask: tuple[int, int]

    @property
    def end(self) -> int:
        return sum(self.mask)


def publish_index(dataset: Dataset, uri: str) -> Manifest:
    """Publishes the index of a data set whose images stay in their folder.

    Args:
        dataset: not packed.
        uri: the artifact's place; one that lies there already is kept.

    Raises:
        UserError: storage failed, or another data set lies there.
    """
    return _publish(dataset, uri, {})


def pack(
    dataset: Dataset,
    uri: str,
    work: Path,
    shard_bytes: int = SHARD_BYTES,
    progress: Progress | None = None,
) -> Manifest:
    """Publishes a data set with its images and masks.

    Equal data sets give equal bytes; what is published already is not written again.

    Args:
        dataset: in a folder on this machine.
        uri: the artifact's place.
        work: folder with room for the shards until they are uploaded.
        shard_bytes: a shard is closed when it has reached this size.
        progress: called with images written and all.

    Raises:
        UserError: a file changed since it was indexed, the disk is full, storage failed, or
            another data set lies at ``uri``.
    """
    if dataset.format == "packed":
        raise UserError(f"{dataset.root}: is packed already; use it as it is")
    described = replace(dataset, format="packed", root="", masks="")
    if artifacts.find(uri) is not None:
        return _publish(described, uri, {})
    try:
        with scratch(work, "pack-") as folder:
            members = _write_shards(dataset, folder, shard_bytes, progress)
            parts = {path.name: path for path in sorted(folder.iterdir())}
            rows = {digest: [m.shard, *m.image, *m.mask] for digest, m in members.items()}
            extra: dict[str, Path | bytes] = {**parts, MEMBERS: _zip(json.dumps(rows).encode())}
            return _publish(described, uri, extra)
    except OSError as error:
        raise UserError(f"{work}: cannot write the shards: {error.strerror or error}") from None


def open_dataset(uri: str) -> tuple[Dataset, Manifest]:
    """The index and manifest of a published data set.

    Raises:
        UserError: nothing is there, or something else.
    """
    manifest = artifacts.load(uri)
    if manifest.kind != DATASET_KIND:
        raise UserError(f"{uri}: is a {manifest.kind}, not a data set")
    source = manifest.part_uri(INDEX)
    dataset = Dataset.from_json(_unzip(artifacts.read_part(manifest, INDEX), source), source)
    return (replace(dataset, root=uri) if dataset.format == "packed" else dataset), manifest


def materialise(
    dataset: Dataset, manifest: Manifest, records: Sequence[Record], cache: Path
) -> Path:
    """A folder of this machine in which the records' images and masks can be read.

    Of a packed data set the files of these records, and no others, are fetched: by ranged reads
    in parallel, verified by the records' digests, once per machine.

    Args:
        dataset: from :func:`open_dataset`.
        manifest: likewise.
        records: of the data set.
        cache: folder that the machine's processes share.

    Returns:
        The folder that the records' paths are below; leave it unchanged.

    Raises:
        UserError: the folder is not on this machine, a shard is missing or damaged, or the disk
            is full.
    """
    if dataset.format != "packed":
        for place in filter(None, (dataset.root, dataset.masks)):
            if not Path(place).is_dir():
                raise UserError(
                    f"{place}: the data set's folder is not on this machine; pack the data set "
                    "(data.pack: true) or mount the folder"
                )
        return Path(dataset.root)
    folder = cache / manifest.digest
    with locked(cache / f"{manifest.digest}.lock"):
        missing = [r for r in records if not _present(folder, r)]
        if missing:
            _fetch(manifest, missing, folder)
    return folder


def remove(manifest: Manifest, caches: Iterable[Path]) -> None:
    """Deletes a published data set, and what :func:`materialise` put into caches of it.

    Raises:
        UserError: storage failed.
    """
    artifacts.remove(manifest.uri)
    for cache in caches:
        shutil.rmtree(cache / manifest.digest, ignore_errors=True)


def _publish(dataset: Dataset, uri: str, parts: dict[str, Path | bytes]) -> Manifest:
    manifest = artifacts.publish(
        uri,
        {INDEX: _zip(dataset.to_json()), **parts},
        kind=DATASET_KIND,
        metadata={
            "name": dataset.name,
            "packed": dataset.format == "packed",
            "digest": dataset.digest,
            "images": {split: len(records) for split, records in dataset.splits.items()},
        },
    )
    found = manifest.metadata
    packed = dataset.format == "packed"
    if manifest.kind != DATASET_KIND or found.get("digest") != dataset.digest:
        raise UserError(
            f"{uri}: another {manifest.kind} lies there ({found.get('name', 'unnamed')}); name "
            "another place"
        )
    if found.get("packed") != packed:
        have, want = ("without", "with") if packed else ("with", "without")
        raise UserError(
            f"{uri}: the data set lies there {have} its images, not {want}; name another place"
        )
    return manifest


def _write_shards(
    dataset: Dataset, folder: Path, shard_bytes: int, progress: Progress | None
) -> dict[str, Member]:
    root = Path(dataset.root)
    unique = {r.digest: r for records in dataset.splits.values() for r in records}
    # Images of the same classes lie together, so that a step's are few long reads.
    records = sorted(unique.values(), key=lambda r: (r.classes, r.image, r.mask))
    members: dict[str, Member] = {}
    archive: tarfile.TarFile | None = None
    shard, count = "", 0
    try:
        for done, record in enumerate(records):
            if archive is None or archive.offset >= shard_bytes:
                if archive is not None:
                    archive.close()
                shard, count = f"shard-{count:05}.tar", count + 1
                archive = tarfile.open(folder / shard, "w", format=tarfile.PAX_FORMAT)  # noqa: SIM115
            image, mask = contents.read(root, record)
            places = [
                _add(archive, path, data)
                for path, data in ((record.image, image), (record.mask, mask))
            ]
            members[record.digest] = Member(shard, *places)
            if progress:
                progress(done + 1, len(records))
    finally:
        if archive is not None:
            archive.close()
    return members


def _add(archive: tarfile.TarFile, path: str, data: bytes) -> tuple[int, int]:
    header = tarfile.TarInfo(path)
    header.size = len(data)
    archive.addfile(header, io.BytesIO(data))
    padded = -(-len(data) // _BLOCK) * _BLOCK
    return archive.offset - padded, len(data)


def _fetch(manifest: Manifest, records: Sequence[Record], folder: Path) -> None:
    members = _members(manifest)
    for record in records:
        if record.digest not in members:
            raise UserError(f"{manifest.uri}: holds no {record.image}; pack the data set again")
    order = sorted(members, key=lambda digest: (members[digest].shard, members[digest].image))
    position = {digest: number for number, digest in enumerate(order)}
    runs: list[list[Record]] = []
    for record in sorted(records, key=lambda r: position[r.digest]):
        if runs and _joins(runs[-1], record, members, position):
            runs[-1].append(record)
        else:
            runs.append([record])
    with ThreadPoolExecutor(_READERS) as pool:
        try:
            for _ in pool.map(lambda run: _fetch_run(manifest, members, run, folder), runs):
                pass
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _joins(
    run: Sequence[Record], record: Record, members: dict[str, Member], position: dict[str, int]
) -> bool:
    """Whether one read can go on over the record: never over an image that is not wanted."""
    first, last = members[run[0].digest], members[record.digest]
    return (
        first.shard == last.shard
        and position[record.digest] - position[run[-1].digest] <= 1
        and last.end - first.image[0] <= _READ_BYTES
    )


def _fetch_run(
    manifest: Manifest, members: dict[str, Member], run: Sequence[Record], folder: Path
) -> None:
    first, last = members[run[0].digest], members[run[-1].digest]
    uri, start = manifest.part_uri(first.shard), first.image[0]
    data = storage.read_range(uri, start, last.end - start)
    for record in run:
        member = members[record.digest]
        image, mask = (
            data[offset - start : offset - start + size]
            for offset, size in (member.image, member.mask)
        )
        if contents.digest(image, mask) != record.digest:
            raise storage.Damaged(
                f"{uri}: {record.image} or its mask is damaged; remove {manifest.uri} and pack "
                "the data set again"
            )
        for path, content in ((record.image, image), (record.mask, mask)):
            target = folder / safe_path(path, manifest.uri)
            with placed(target, durable=False) as partial:
                partial.write_bytes(content)


def _present(folder: Path, record: Record) -> bool:
    return (folder / record.image).is_file() and (folder / record.mask).is_file()


def _members(manifest: Manifest) -> dict[str, Member]:
    source = manifest.part_uri(MEMBERS)
    try:
        rows = json.loads(_unzip(artifacts.read_part(manifest, MEMBERS), source))
        return {
            digest: Member(shard, (i, n), (j, m)) for digest, (shard, i, n, j, m) in rows.items()
        }
    except (ValueError, TypeError, AttributeError) as error:
        raise UserError(f"{source}: not a list of members ({error})") from None


def _zip(data: bytes) -> bytes:
    return gzip.compress(data, compresslevel=6, mtime=0)


def _unzip(data: bytes, source: str) -> bytes:
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(data)) as file:
            content = file.read(_LARGEST_INDEX + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"{source}: damaged ({error}); publish the data set again") from None
    if len(content) > _LARGEST_INDEX:
        raise UserError(f"{source}: too large for an index of a data set")
    return content
