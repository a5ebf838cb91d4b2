"""Conversion: trace, observe, plan, apply, refine."""

from __future__ import annotations

import dataclasses
import itertools
from typing import Any

import torch
from torch import Tensor, nn

from rheobase.batches import as_batches, batches_for
from rheobase.calibration import shown
from rheobase.errors import ConversionError, DataError, SettingError
from rheobase.graph import Graph, trace
from rheobase.methods import Auto
from rheobase.methods._base import Method
from rheobase.observers import observe
from rheobase.precision import float32_products
from rheobase.qcfs import trained_thresholds
from rheobase.spiking import SpikingModel
from rheobase.symbolic import check_kind

__all__ = ["convert"]


def convert(model: nn.Module, batches: Any, method: Method | None = None, *, progress: bool = False) -> SpikingModel:
    """Convert a trained network into a spiking one. The network itself is left as it is.

    Args:
        model: a trained feed-forward network with ReLU activations.
        batches: calibration data from the training set: a data loader, or anything that yields
            tensors, arrays, ``(x, y)`` or dictionaries; also one tensor. Labels are not used.
        method: how; `Auto` if none is given, which chooses for ternary spikes and says why in ``plan.reason``. That may
            take many minutes; it logs each candidate at the level INFO.
        progress: whether to show, on standard error, how far a calibration is.

    Returns:
        The spiking network, on the device of the model.

    Raises:
        ConversionError: the network, the data or a setting cannot be used; the message says why.
    """
    method = Auto() if method is None else method
    if not isinstance(method, Method):
        raise SettingError(f"method is {method!r}; give an instance such as rheobase.MSAT().")
    if isinstance(model, SpikingModel):
        raise ConversionError("The network is converted already; give the network that it was converted from.")
    if isinstance(model, nn.Module):
        check_kind(model)
        data = batches_for(batches, model)
    else:  # trace refuses it
        data = as_batches(batches)
    (first,) = itertools.islice(iter(data), 1)
    example = first.inputs[:2]
    if not bool(torch.isfinite(example).all()):
        raise DataError("Batch 0: the calibration data have NaN or infinite values. Check how they are made.")
    with shown(f"Converting with {method!r}", progress), float32_products(example.device, rounded=False):
        graph = trace(model, example)
        _check_answers(model, graph.answers(example))
        method, reason = method.resolve(graph, data)
        _check_clips(graph, method)
        plan = method.plan(graph, observe(graph, data, method.observer()))
        plan = dataclasses.replace(plan, reason=reason, steps=method.total_steps())
        return method.refine(SpikingModel(graph, plan), graph, data)


def _check_answers(model: nn.Module, answers: Tensor) -> None:
    """A network that answers NaN would be converted, and counted as always giving the first class.

    Raises:
        DataError: the answers are not finite.
    """
    if not bool(torch.isfinite(answers).all()):
        bad = [name for name, p in model.state_dict().items() if not bool(torch.isfinite(p).all())]
        found = f"These have such values: {', '.join(bad[:5])}." if bad else "Its weights are finite."
        raise DataError(f"The network answers NaN or infinite values to the first calibration samples. {found}")


def _check_clips(graph: Graph, method: Method) -> None:
    """A network that was trained with a clip needs neurons that have it.

    Raises:
        SettingError: they do not.
    """
    trained = list(trained_thresholds(graph.module, graph.sites))
    if trained and not method.clips():
        raise SettingError(
            f"The activations {', '.join(trained[:5])}{' ...' if len(trained) > 5 else ''} were trained to a largest "
            f"value (ClipFloorShift), which the neurons of {method!r} do not keep. Use QCFS, RateCoding, "
            "ParallelConversion or what derives from them; a method of your own says in `clips` that it keeps it."
        )
