"""Data sets as artifacts: the index alone, or with the images in tar shards.

    <artifact>/index.json.gz     dkd.data.index.Dataset as JSON
    <artifact>/members.json.gz   packed: shard, offset and size of every file
    <artifact>/shard-00000.tar   packed: images and masks, whole, in plain tar

A worker reads the members of its own step's images by range, never a whole shard: the images of
other steps do not reach it.
"""

import gzip
import hashlib
import io
import json
import shutil
import tarfile
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from dkd import storage
from dkd.data import contents
from dkd.data.index import Dataset, Progress, safe_path
from dkd.data.records import Record
from dkd.errors import UserError
from dkd.storage import artifacts
from dkd.storage.artifacts import Manifest, Part
from dkd.storage.files import locked, placed, scratch
from dkd.storage.store import disk_error

DATASET_KIND = "dataset"
INDEX = "index.json.gz"
MEMBERS = "members.json.gz"
SHARD_BYTES = 256 * 2**20

_BEGUN = "packing"  # an object that lies beside the parts until they are published
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

    Equal data sets give equal bytes; what is published already is not written again. One shard at
    a time is on this machine, and one that was stored is not written again where packing was
    interrupted.

    Args:
        dataset: in a folder on this machine.
        uri: the artifact's place.
        work: folder with room for one shard.
        shard_bytes: a shard is closed when it has reached this size.
        progress: called with images written and all.

    Raises:
        UserError: a file changed since it was indexed, the disk is full, storage failed, or
            another data set lies at ``uri``.
    """
    if dataset.format == "packed":
        raise UserError(f"{dataset.root}: is already packed; use it as it is")
    described = replace(dataset, format="packed", root="", masks="")
    if artifacts.find(uri) is not None:
        return _publish(described, uri, {})
    shards = _planned(dataset, shard_bytes)
    content = hashlib.sha256(described.to_json())
    content.update(str(shard_bytes).encode())
    found = _stored(uri, shards, content.hexdigest())
    count, done = sum(len(shard.records) for shard in shards), 0
    parts: dict[str, Path | bytes | Part] = {}

    def each(place: int) -> None:
        if progress:
            progress(done + place, count)

    try:
        with scratch(work, "pack-") as folder:
            for shard in shards:
                part = found.get(shard.name)
                if part is None:
                    file = folder / shard.name
                    _write(dataset, shard, file, each)
                    if not parts:
                        storage.write_bytes(storage.join(uri, _BEGUN), content.hexdigest().encode())
                    part = artifacts.store_part(uri, shard.name, file)
                    file.unlink()
                parts[shard.name] = part
                done += len(shard.records)
                each(0)
    except OSError as error:
        raise UserError(f"{work}: cannot write the shards: {error.strerror or error}") from None
    rows = {
        record.digest: [shard.name, *member.image, *member.mask]
        for shard in shards
        for record, member in zip(shard.records, shard.members, strict=True)
    }
    manifest = _publish(described, uri, {**parts, MEMBERS: _zip(json.dumps(rows).encode())})
    storage.delete([storage.join(uri, _BEGUN)])
    return manifest


def open_dataset(uri: str) -> tuple[Dataset, Manifest]:
    """The index and manifest of a published data set.

    Raises:
        UserError: nothing is there, or something else.
    """
    manifest = artifacts.load(uri)
    if manifest.kind != DATASET_KIND:
        raise UserError(f"{uri}: is {manifest.called}, not a data set")
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


def _publish(dataset: Dataset, uri: str, parts: Mapping[str, Path | bytes | Part]) -> Manifest:
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
            f"{uri}: another {manifest.kind} is already there ({found.get('name', 'unnamed')}); "
            "name another place"
        )
    if found.get("packed") != packed:
        have, want = ("without", "with") if packed else ("with", "without")
        raise UserError(
            f"{uri}: the data set is there {have} its images, not {want}; name another place"
        )
    return manifest


@dataclass(frozen=True)
class _Shard:
    """What a shard will hold, known before a file is read.

    Attributes:
        name: of the part.
        records: whose files it holds, in their order.
        members: where these lie in it.
        size: in bytes.
    """

    name: str
    records: Sequence[Record]
    members: Sequence[Member]
    size: int


def _planned(dataset: Dataset, shard_bytes: int) -> list[_Shard]:
    """The shards of a data set, by the sizes of its files."""
    unique = {r.digest: r for records in dataset.splits.values() for r in records}
    # Images of the same classes lie together, so that a step's are few long reads.
    waiting = sorted(unique.values(), key=lambda r: (r.classes, r.image, r.mask), reverse=True)
    shards: list[_Shard] = []
    while waiting:
        name, end = f"shard-{len(shards):05}.tar", 0
        records, members = list[Record](), list[Member]()
        while waiting and end < shard_bytes:
            record = waiting.pop()
            places = []
            for file in _files(dataset, record):
                place = end + len(_header(*file))
                places.append((place, file[1]))
                end = place + -(-file[1] // _BLOCK) * _BLOCK
            records.append(record)
            members.append(Member(name, *places))
        whole = -(-(end + 2 * _BLOCK) // tarfile.RECORDSIZE) * tarfile.RECORDSIZE
        shards.append(_Shard(name, records, members, whole))
    return shards


def _files(dataset: Dataset, record: Record) -> list[tuple[str, int]]:
    """Paths and sizes of a record's image and mask."""
    folder = Path(dataset.root)
    places = (
        (record.image, folder / record.image),
        (record.mask, folder / record.masks / record.mask),
    )
    try:
        return [(path, place.stat().st_size) for path, place in places]
    except OSError as error:
        raise disk_error(error, places[0][1]) from None


def _header(path: str, size: int) -> bytes:
    info = tarfile.TarInfo(path)
    info.size = size
    return info.tobuf(tarfile.PAX_FORMAT)


def _stored(uri: str, shards: Sequence[_Shard], content: str) -> dict[str, Part]:
    """Shards that were stored before packing the same was interrupted; others' are deleted."""
    try:
        begun = storage.read_range(storage.join(uri, _BEGUN), 0, len(content) + 1)
    except storage.NotFound:
        return {}
    stored = [each for each in artifacts.stored_parts(uri) if each[0].endswith(".tar")]
    if begun != content.encode():
        storage.delete(storage.join(uri, part.object) for _, part in stored)
        return {}
    sizes = {shard.name: shard.size for shard in shards}
    return {name: part for name, part in stored if sizes.get(name) == part.size}


def _write(dataset: Dataset, shard: _Shard, target: Path, done: Callable[[int], None]) -> None:
    """Writes a shard, calling ``done`` with the number of its images that are in it."""
    root = Path(dataset.root)
    with target.open("wb") as file:
        for number, (record, member) in enumerate(zip(shard.records, shard.members, strict=True)):
            image, mask = contents.read(root, record)
            for path, data, (place, _) in (
                (record.image, image, member.image),
                (record.mask, mask, member.mask),
            ):
                file.seek(place - len(_header(path, len(data))))
                file.write(_header(path, len(data)))
                file.write(data)
            done(number + 1)
        file.truncate(shard.size)


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
