"""What a model is sure to see in the background of a mask."""

import torch

from dkd.memory.pseudo_labels import pseudo_classes


def test_pseudo_classes_are_the_sure_ones_in_the_background() -> None:
    probabilities = torch.tensor(
        [
            [0.99, 0.99, 0.99, 0.99, 0.99],  # the auxiliary classifier: never counts
            [0.95, 0.89, 0.10, 0.95, 0.99],
            [0.10, 0.20, 0.91, 0.10, 0.10],
            [0.92, 0.10, 0.10, 0.10, 0.10],  # 0.92 stands below class 1's 0.95
        ]
    )
    label = torch.tensor([0, 0, 0, 3, 255])
    found = pseudo_classes(probabilities.logit()[None, :, None], label[None, None].byte())
    assert found.tolist() == [[False, True, True, False]]


def test_pseudo_class_threshold() -> None:
    logits = torch.tensor([[0.0, 0.9001], [0.0, 0.8999]]).logit()[:, :, None, None]
    found = pseudo_classes(logits, torch.zeros(2, 1, 1, dtype=torch.uint8))
    assert found.tolist() == [[False, True], [False, False]]
