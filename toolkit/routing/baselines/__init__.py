"""Baselines: the policies that a router is compared with, one file each.

To add one, write a function and one `Baseline` in a file of their own, and declare the latter as an entry point of the group
`toolkit.baselines`. Models and paths are selected on the training split, and settings of a predictor on the validation split.
"""

from toolkit.routing.baselines.base import Baseline, Choice, registered_baselines

__all__ = ["Baseline", "Choice", "registered_baselines"]
