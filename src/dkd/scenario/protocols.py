"""The two protocols: what the published tables depend on, and what one would do today.

Every difference is one named switch; nothing else in the code asks which protocol it is.
The faults are those of the authors' released program; the ones not listed here are mended in
both (see docs/reference/protocols.md).
"""

from dataclasses import dataclass
from typing import Literal

ProtocolName = Literal["paper", "corrected"]


@dataclass(frozen=True)
class Protocol:
    """Switches of a protocol.

    Attributes:
        name: ``paper`` or ``corrected``.
        whole_image_evaluation: score every pixel of the whole image at its original size,
            instead of a centre crop of the resized image.
        absent_classes_count: a class with neither a true nor a predicted pixel counts as IoU 0
            in a mean, instead of being left out of it.
        void_is_negative: void pixels (255) train as negatives of the mBCE and take part in the
            full-resolution distillation, instead of leaving every full-resolution term.
        memory_keeps_labels: the mBCE of an image from the exemplar memory also covers the old
            classes that were labelled in it, instead of masking its labels to background.
        exemplars_seen_again: every newer model looks anew for classes in the background of the
            exemplars that were kept so far, instead of leaving each the classes that it was
            stored with.
    """

    name: ProtocolName
    whole_image_evaluation: bool
    absent_classes_count: bool
    void_is_negative: bool
    memory_keeps_labels: bool
    exemplars_seen_again: bool


PROTOCOLS: dict[ProtocolName, Protocol] = {
    "paper": Protocol(
        "paper",
        whole_image_evaluation=False,
        absent_classes_count=True,
        void_is_negative=True,
        memory_keeps_labels=False,
        exemplars_seen_again=False,
    ),
    "corrected": Protocol(
        "corrected",
        whole_image_evaluation=True,
        absent_classes_count=False,
        void_is_negative=False,
        memory_keeps_labels=True,
        exemplars_seen_again=True,
    ),
}
