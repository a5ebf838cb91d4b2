"""Counting with weights: the compiled kernel against plain PyTorch."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rheobase import kernels
from rheobase.kernels import reference


@given(seed=st.integers(0, 2**31), steps=st.integers(1, 4), samples=st.integers(1, 5), last=st.booleans())
@settings(max_examples=25, deadline=None)
def test_the_compiled_count_is_exact(seed: int, steps: int, samples: int, last: bool) -> None:
    generator = torch.Generator().manual_seed(seed)
    shape = (3, *torch.randint(1, 60, (2,), generator=generator).tolist())
    values = torch.randn(steps * samples, *shape, generator=generator).relu()
    if last:
        values = values.to(memory_format=torch.channels_last)
    values = values.unflatten(0, (steps, samples))
    weights = torch.randint(0, 4609, shape, generator=generator).float()
    ours = kernels.weigh(values, weights, backend="cpu")
    assert ours.dtype == torch.int64
    assert torch.equal(ours, reference.weigh(values, weights))
    each = kernels.weigh_by_sample(values, weights, backend="cpu")
    wanted = [[int(weights[y != 0].sum()) for y in step] for step in values]
    assert each.dtype == torch.int64
    assert each.tolist() == wanted
    assert kernels.weigh_by_sample(values, weights, backend="reference").tolist() == wanted


@pytest.mark.parametrize("threads", [1, 3])
def test_blocks_and_threads_do_not_matter(threads: int) -> None:
    values = torch.randn(2, 3, 30_000).relu()
    weights = torch.randint(0, 1000, (30_000,))
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        ours = kernels.weigh(values, weights)
    finally:
        torch.set_num_threads(before)
    assert torch.equal(ours, reference.weigh(values, weights))


def test_other_types_go_to_the_reference() -> None:
    values = torch.tensor([[[0.0, -2.0], [1.0, 0.0]]], dtype=torch.float64)
    assert kernels.weigh(values, torch.tensor([3, 5])).tolist() == [8]
