"""One exported model, and one server of it, for all tests of serving."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from servers import Running, serving
from small_segmenter import DESCRIPTION, model

from dkd.export.export import Exported, bundled_photographs, export
from dkd.network.checkpoint import Fetched


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    path = tmp_path_factory.mktemp("exported") / "model.onnx"
    small = Fetched(model(), DESCRIPTION, "3" * 64)
    return export(small, str(path), form="onnx", photographs=bundled_photographs())


@pytest.fixture(scope="session")
def server(exported: Exported, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    cache = tmp_path_factory.mktemp("cache")
    limits = {"MAX_BYTES": 1 << 20, "MAX_PIXELS": 1 << 19, "DKD_CACHE": cache}
    with serving(Path(exported.target), exported.sha256, **limits) as running:
        yield running
