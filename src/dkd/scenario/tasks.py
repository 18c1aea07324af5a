"""Tasks: which classes arrive at which step.

A task lists class *names* by step, in any order. A model's output channels follow the task's
order, not the data set's: channel 0 is background (in labels and predictions) and class k of
the task, counted from 1 over all steps, is channel k.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from dkd.errors import UserError
from dkd.scenario.names import alike, class_name

BACKGROUND, VOID = 0, 255
"""Label values of what is of no class and of what counts as nothing, where 8 bits suffice."""

WIDE_VOID = 65535
"""Likewise of the latter in masks of 16 bits."""

MOST_CLASSES = WIDE_VOID - 1
"""That a mask tells apart, besides background and void; also the largest label value of one."""


def void_value(values: Iterable[int]) -> int:
    """The label value of void in a data set whose classes have these: 255, or 65,535 beyond 254."""
    return VOID if max(values, default=0) < VOID else WIDE_VOID


@dataclass(frozen=True)
class Task:
    """Classes by step.

    Attributes:
        steps: ``steps[t]`` are the names of the classes that arrive at step ``t``; every step
            has at least one class and no class stands in two steps.
    """

    steps: tuple[tuple[str, ...], ...]

    def __post_init__(self) -> None:
        if not self.steps:
            raise UserError("task.steps: the task has no step; list the classes of at least one")
        seen: dict[str, tuple[str, int]] = {}
        for step, names in enumerate(self.steps):
            if not names:
                raise UserError(f"task.steps[{step}]: no class; every step adds at least one")
            for name in names:
                key = alike(class_name(name))
                if key in seen:
                    other, before = seen[key]
                    raise UserError(
                        f"task.steps[{step}]: class {name!r} is already in step {before}"
                        + ("" if other == name else f", as {other!r}, which looks alike")
                        + "; list every class once"
                    )
                seen[key] = (name, step)

    @classmethod
    def of(
        cls,
        steps: Sequence[Sequence[int | str]],
        classes: Mapping[int, str],
        *,
        source: str = "task.steps[{step}]",
    ) -> "Task":
        """The task whose steps are given as label values or names of a data set.

        Args:
            steps: label values (int) or names (str) by step.
            classes: name by label value of the data set, background and void excluded.
            source: where the classes of a step were given, for messages.

        Raises:
            UserError: a class that the data set does not have, or that is listed twice.
        """
        known = {class_name(name): name for name in classes.values()}
        similar = {alike(name): name for name in classes.values()}

        def name_of(step: int, item: int | str) -> str:
            name = classes.get(item) if isinstance(item, int) else known.get(class_name(item))
            if name is None:
                meant = similar.get(alike(str(item)))
                raise UserError(
                    f"{source.format(step=step)}: unknown class {item!r}; "
                    + (f"did you mean {meant!r}? " if meant else "")
                    + f"the data set has {_some(classes)}"
                )
            return name

        return cls(
            tuple(tuple(name_of(t, item) for item in items) for t, items in enumerate(steps))
        )

    @property
    def classes(self) -> tuple[str, ...]:
        """Every class in channel order; ``classes[k - 1]`` is channel ``k``."""
        return tuple(name for names in self.steps for name in names)

    @property
    def counts(self) -> tuple[int, ...]:
        """Number of classes by step."""
        return tuple(len(names) for names in self.steps)

    def seen(self, step: int) -> tuple[str, ...]:
        """Classes of steps 0..step, in channel order."""
        return self.upto(step).classes

    def upto(self, step: int) -> "Task":
        """The task cut off after ``step``: what a model of that step knows."""
        return Task(self.steps[: step + 1])

    def joint(self) -> "Task":
        """All classes in one step: the upper bound's task."""
        return Task((self.classes,))


def _some(classes: Mapping[int, str], most: int = 25) -> str:
    shown = [f"{value} {name}" for value, name in sorted(classes.items())[:most]]
    return ", ".join(shown) + (f" and {len(classes) - most} more" if len(classes) > most else "")
