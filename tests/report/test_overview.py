"""What the page says of all variants: looks, the headline, the sentences above it."""

import report_samples as samples

from dkd.report.comparison import compare
from dkd.report.overview import gallery, headline, looks, score_charts, summary


def test_every_variant_has_a_look_but_the_bound() -> None:
    both = compare([samples.dkd_run(), samples.joint_run()])
    assert looks(both) == (0, None)
    assert looks(compare([samples.joint_run()])) == (0,)


def test_the_best_of_one_variant_is_nothing_to_boast_of() -> None:
    (row, bound) = headline(compare([samples.dkd_run(), samples.joint_run()]))
    assert not any((*row.best, *bound.best))
    assert [score and round(score.mean, 1) for score in row.scores[:3]] == [69, 45, 60]


def test_of_two_the_higher_score_is_the_best() -> None:
    other = samples.dkd_run(overall=61.0).model_copy(update={"variant": "other"})
    first, second = headline(compare([samples.dkd_run(), other]))
    assert first.best[:4] == (True, True, False, True)  # equal scores are both the best
    assert second.best[:4] == (True, True, True, True)


def test_the_summary_names_the_bound() -> None:
    text = str(summary(compare([samples.dkd_run(), samples.joint_run()])))
    assert "<b>DKD</b> segments 2 classes at a mean IoU of <b>60.0</b> %" in text
    assert text.endswith("all classes at once (joint), is 82.3; DKD reaches 73 % of it.")


def test_one_step_has_no_charts() -> None:
    assert score_charts(compare([samples.joint_run()])) == ()


def test_a_gallery_shows_each_image_after_each_step() -> None:
    run = samples.run()
    found = gallery(compare([run]))
    assert {image.id for image in found.images} <= {reference.id for reference in run.references}
    assert all(len(image.strips[0]) == len(run.steps) for image in found.images)
    assert found.has_void
    assert 255 not in found.channels
