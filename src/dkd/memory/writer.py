"""Writing an exemplar memory's parts (:mod:`dkd.memory.exemplars`)."""

import io
import json
import tarfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from dkd.data import contents
from dkd.data.images import read_image
from dkd.data.packed import SHARD_BYTES
from dkd.evaluation.pictures import jpeg, png
from dkd.memory.candidates import CandidateImage
from dkd.memory.exemplars import Exemplar
from dkd.report.pictures import THUMBNAIL_SIDE
from dkd.steps.step import MEMORY

THUMBNAILS = 36


def write(
    held: Sequence[CandidateImage], classes: Sequence[Sequence[str]], work: Path
) -> dict[str, Path]:
    """Writes a memory's parts.

    Args:
        held: the exemplars.
        classes: names by step that the masks' channel numbers refer to.
        work: folder for the files.

    Returns:
        The files by part.
    """
    parts: dict[str, Path] = {}
    exemplars = [_exemplar(number, source) for number, source in enumerate(held)]
    for shard, numbers in enumerate(_shards(held)):
        name = f"images-{shard:05d}.tar"
        parts[name] = work / name
        with tarfile.open(work / name, "w") as archive:
            for number in numbers:
                source, exemplar = held[number], exemplars[number]
                image, mask = source.files
                _, drawn = contents.decode(source.folder, source.record, image, mask)
                labelled = png(source.table[np.asarray(drawn)])
                for member, data in ((exemplar.image, image), (exemplar.mask, labelled)):
                    header = tarfile.TarInfo(member)
                    header.size = len(data)
                    archive.addfile(header, io.BytesIO(data))
    for number, source in enumerate(held[:THUMBNAILS]):
        thumbnail = read_image(source.folder / source.record.image)
        thumbnail.thumbnail((THUMBNAIL_SIDE, THUMBNAIL_SIDE))
        part = f"thumbnails/{number}.jpg"
        parts[part] = work / part.replace("/", "-")
        parts[part].write_bytes(jpeg(thumbnail))
    document: dict[str, Any] = {
        "classes": [list(names) for names in classes],
        "exemplars": [asdict(e) for e in exemplars],
    }
    parts[MEMORY] = work / MEMORY
    parts[MEMORY].write_text(json.dumps(document, indent=1), encoding="utf-8")
    return parts


def _exemplar(number: int, source: CandidateImage) -> Exemplar:
    record = source.record
    return Exemplar(
        id=record.id,
        step=source.step,
        image=f"{number:05d}{Path(record.image).suffix}",
        mask=f"{number:05d}.mask.png",
        height=record.height,
        width=record.width,
        classes=source.classes,
        digest=record.digest,
        dataset=source.dataset,
        seen=source.seen,
    )


def _shards(sources: Sequence[CandidateImage]) -> list[list[int]]:
    """Numbers of the sources by shard, each of about :data:`SHARD_BYTES` of images."""
    shards: list[list[int]] = []
    size = SHARD_BYTES
    for number, source in enumerate(sources):
        if size >= SHARD_BYTES:
            shards.append([])
            size = 0
        shards[-1].append(number)
        size += (source.folder / source.record.image).stat().st_size
    return shards
