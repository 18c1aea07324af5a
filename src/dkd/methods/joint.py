"""Training on everything at once."""

from dkd.methods.dkd import DKD


class Joint(DKD):
    """The upper bound: DKD's step 0 with every class and image."""

    name = "joint"
    summary = "all classes and images at once: the upper bound"
    joint = True
