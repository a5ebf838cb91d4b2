"""Conversion methods, one published method a file. What is in ``__all__`` is on every bench."""

from rheobase.methods.constant import ConstantThreshold
from rheobase.methods.msat import MSAT

__all__ = ["MSAT", "ConstantThreshold"]
