import io

import numpy as np
import pytest
from PIL import Image

from dkd.data.formats import drawing
from dkd.data.formats.drawing import Shape
from dkd.errors import UserError

pycocotools = pytest.importorskip("pycocotools.mask")


def regions() -> list[np.ndarray]:
    rng = np.random.default_rng(4)
    noise = [rng.random((17, 23)) < p for p in (0.01, 0.5, 0.99)]
    blocks = [np.kron(rng.random((3, 4)) < 0.5, np.ones((40, 30))).astype(bool)]
    return [*noise, *blocks, np.zeros((5, 7), bool), np.ones((5, 7), bool), np.eye(1, dtype=bool)]


@pytest.mark.parametrize("region", regions())
def test_run_lengths_are_those_of_pycocotools(region: np.ndarray) -> None:
    height, width = region.shape
    encoded = pycocotools.encode(np.asfortranarray(region.astype(np.uint8)))
    for counts in (
        drawing.of_mask(region),
        drawing.from_text(encoded["counts"], width, height, "here"),
        drawing.from_text(encoded["counts"].decode(), width, height, "here"),
        drawing.from_counts(drawing.of_mask(region).tolist(), width, height, "here"),
    ):
        flat = np.repeat(np.arange(counts.size) % 2 == 1, counts)
        assert np.array_equal(flat.reshape(width, height).T, region)
        assert Shape(1, counts).area == region.sum() == pycocotools.area(encoded)


def test_run_lengths_of_another_size_are_refused_where_pycocotools_gives_what_lay_in_memory() -> (
    None
):
    encoded = pycocotools.encode(np.asfortranarray(regions()[3].astype(np.uint8)))["counts"]
    for cut in range(len(encoded)):
        with pytest.raises(UserError, match="here"):
            drawing.from_text(encoded[:cut], 120, 120, "here")
    for counts in ("zzz", "", "~~~", "ü", encoded.decode() + "1"):
        with pytest.raises(UserError, match="here"):
            drawing.from_text(counts, 120, 120, "here")
    for listed in ([1, 2], [-1, 14401], [7.5, 14392.5], ["14400"], None, [14401]):
        with pytest.raises(UserError, match="here"):
            drawing.from_counts(listed, 120, 120, "here")


def inside(polygon: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Whether points are inside, by the number of edges to their right."""
    result = np.zeros(x.shape, bool)
    for (x0, y0), (x1, y1) in zip(polygon, np.roll(polygon, -1, axis=0), strict=True):
        with np.errstate(divide="ignore", invalid="ignore"):
            crosses = ((y0 > y) != (y1 > y)) & (x < (x1 - x0) * (y - y0) / (y1 - y0) + x0)
        result ^= crosses
    return result


def distance(polygon: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """To the nearest edge."""
    nearest = np.full(x.shape, np.inf)
    for a, b in zip(polygon, np.roll(polygon, -1, axis=0), strict=True):
        along = np.clip(
            ((x - a[0]) * (b - a)[0] + (y - a[1]) * (b - a)[1]) / sum((b - a) ** 2), 0, 1
        )
        at = a[0] + along * (b - a)[0], a[1] + along * (b - a)[1]
        nearest = np.minimum(nearest, np.hypot(x - at[0], y - at[1]))
    return nearest


@pytest.mark.parametrize("seed", range(5))
def test_a_polygon_covers_the_pixels_whose_centres_are_inside_up_to_a_pixel(seed: int) -> None:
    rng = np.random.default_rng(seed)
    angles = np.sort(rng.random(9)) * 2 * np.pi
    radii = rng.uniform(8, 38, 9)
    polygon = np.stack([50 + radii * np.cos(angles), 40 + radii * np.sin(angles)], axis=1)
    counts = drawing.of_polygons([polygon], 100, 80, "here")
    drawn = np.repeat(np.arange(counts.size) % 2 == 1, counts).reshape(100, 80).T
    y, x = np.mgrid[:80, :100] + 0.5
    away = distance(polygon, x, y) > 0.75
    assert away.mean() > 0.9
    assert np.array_equal(drawn[away], inside(polygon, x, y)[away])
    assert abs(drawn.sum() - inside(polygon, x, y).sum()) < 0.02 * drawn.sum()


def test_a_polygon_on_the_grid_covers_exactly_its_pixels() -> None:
    corners = drawing.checked_polygon([2, 3, 10, 3, 10, 8, 2, 8], 32, 24, "here")
    counts = drawing.of_polygons([corners], 32, 24, "here")
    drawn = np.repeat(np.arange(counts.size) % 2 == 1, counts).reshape(32, 24).T
    expected = np.zeros((24, 32), bool)
    expected[3:8, 2:10] = True
    assert np.array_equal(drawn, expected)


def test_overlaps_crowds_below_then_larger_below_smaller_then_the_later_on_top() -> None:
    def box(top: int, left: int, bottom: int, right: int) -> np.ndarray:
        mask = np.zeros((10, 10), bool)
        mask[top:bottom, left:right] = True
        return drawing.of_mask(mask)

    shapes = [
        Shape(1, box(2, 2, 4, 4)),  # small, and first
        Shape(2, box(0, 0, 8, 8)),
        Shape(3, box(0, 0, 2, 2), crowd=True),  # smaller still, but a crowd
        Shape(4, box(6, 6, 8, 8)),
        Shape(5, box(6, 6, 8, 8)),
    ]
    mask = np.asarray(Image.open(io.BytesIO(drawing.draw(shapes, 10, 10, 255))))
    assert mask.dtype == np.uint8
    assert (mask[2:4, 2:4] == 1).all()
    assert (mask[0:2, 0:2] == 2).all()
    assert (mask[6:8, 6:8] == 5).all()
    assert (mask[8:] == 255).all()


def test_corners_outside_are_refused_and_roundings_moved_in() -> None:
    moved = drawing.checked_polygon([-0.5, 3, 32.9, 3, 10, 8], 32, 24, "here")
    assert [moved.min(), moved.max()] == [0, 32]
    for points in ([0, 0, 34, 3, 5, 5], [0, 0, 3, 3, 5, -2], [0, 0, float("nan"), 3, 5, 5]):
        with pytest.raises(UserError, match="outside"):
            drawing.checked_polygon(points, 32, 24, "here")
    for points in ([], [1, 2, 3, 4], [1, 2, 3, 4, 5, 6, 7], ["a"] * 6, [[1, 2]] * 3, None):
        with pytest.raises(UserError, match="three or more corners"):
            drawing.checked_polygon(points, 32, 24, "here")
