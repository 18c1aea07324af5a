"""The weights of DKD's terms: the paper's, and which of them need a teacher."""

import subprocess
import sys

import pytest

from dkd.losses.terms import LossWeights


def test_defaults_are_the_papers() -> None:
    """Section 4.1: 5 for every distillation, 1 for the rest."""
    assert LossWeights() == LossWeights(mbce=1, kd=5, dkd_pos=5, dkd_neg=5, ac=1)


@pytest.mark.parametrize("term", ["kd", "dkd_pos", "dkd_neg"])
def test_a_teacher_is_needed_for_any_distillation(term: str) -> None:
    without = LossWeights(kd=0, dkd_pos=0, dkd_neg=0)
    assert not without.distils
    assert LossWeights(**{**vars(without), term: 0.1}).distils


def test_keys_need_no_torch() -> None:
    code = "import sys, dkd.losses.terms; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
