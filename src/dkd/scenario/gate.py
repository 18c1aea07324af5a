"""What a scenario's steps must reach."""

from typing import Annotated, Literal

from pydantic import Field

from dkd.scenario.strict_model import StrictModel

Percent = Annotated[float, Field(ge=0, le=100)]


class Gate(StrictModel):
    """What a step must reach on the test images; null asks nothing. Changes no result.

    Attributes:
        miou_all_at_least: mean IoU of background and all classes seen so far, in percent.
        old_classes_may_lose_at_most: mean loss of the classes that the model before it knew,
            background included, in percentage points.
        any_class_may_lose_at_most: loss of any single one of these classes, in percentage points.
        new_classes_at_least: IoU of each class that the step added, in percent.
        on_failure: ``mark`` reports a failure and continues; ``stop`` ends the run.
    """

    miou_all_at_least: Percent | None = None
    old_classes_may_lose_at_most: Percent | None = None
    any_class_may_lose_at_most: Percent | None = None
    new_classes_at_least: Percent | None = None
    on_failure: Literal["mark", "stop"] = "mark"

    @property
    def asks(self) -> bool:
        """Whether it asks anything."""
        return self != Gate(on_failure=self.on_failure)


EXTENSION_GATE = Gate(old_classes_may_lose_at_most=5, new_classes_at_least=5)
"""What adding classes to a model must reach where its scenario asks nothing."""
