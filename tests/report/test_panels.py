"""One variant in detail: its checks, exemplars and curves."""

import report_samples as samples

from dkd.report.comparison import compare
from dkd.report.panels import panels


def test_a_panel_for_every_variant_with_what_its_steps_have() -> None:
    run = samples.run()
    (panel,) = panels(compare([run]))
    assert [change.step.step for change in panel.changes] == [step.step for step in run.steps]
    with_memory = [step for step in run.steps if step.exemplars]
    assert [memory.step for memory in panel.memories] == [step.step for step in with_memory]
    assert [memory.total for memory in panel.memories] == [len(s.exemplars) for s in with_memory]
    assert all(0 < len(memory.shown) <= memory.total for memory in panel.memories)
    assert [chart.step for chart in panel.losses] == [s.step for s in run.steps if s.curve]


def test_a_bare_run_has_a_bare_panel() -> None:
    (panel,) = panels(compare([samples.joint_run()]))
    assert (panel.memories, panel.losses, panel.judged) == ((), (), ())
