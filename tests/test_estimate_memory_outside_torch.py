"""runplan/estimate/memory/outside_torch.py: CUDA's context and NCCL's buffers, against what others measured."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runplan.estimate.memory import outside_torch

GPUS = st.sampled_from(["t4-16", "a100-80", "a100-mig-10", "h100-80", "h100-pcie-80", "h200-141", "l40s-48", "mi300x"])


def test_contexts_are_those_measured():
    assert outside_torch.context_gib("t4-16") == pytest.approx(140.875 / 1024, abs=0.005)
    # Bare contexts of 256 and 426 MiB: kernels come on top.
    assert 256 / 1024 < outside_torch.context_gib("rtx3090-24") < 0.35
    assert 426 / 1024 < outside_torch.context_gib("rtx6000ada-48") < 0.5
    assert outside_torch.context_gib("unheard-of") == outside_torch.CONTEXT_GIB


def test_buffers_are_those_measured():
    # All but torch's own on eight H100, 1.06 GB: what newer NCCL takes is below the middle of its versions.
    middle, most = outside_torch.buffers_gib("h100-80", 8)
    assert 1.06e9 / 2**30 < outside_torch.context_gib("h100-80") + middle < 2.0
    assert most == pytest.approx((24 * 36 + 8 * 144) / 1024)
    # 688 MB on four A100, older NCCL.
    assert outside_torch.buffers_gib("a100-80", 4).p50 < 688 / 1024 < outside_torch.buffers_gib("a100-80", 4).p95
    assert outside_torch.buffers_gib("l40s-48", 4).p95 < 0.2


@given(GPUS, st.integers(1, 8))
def test_more_gpus_take_no_less(gpu, gpus):
    here, more = outside_torch.buffers_gib(gpu, gpus), outside_torch.buffers_gib(gpu, gpus + 1)
    assert 0 <= here.p50 <= here.p95
    assert here.p50 <= more.p50
    assert (gpus == 1) == (here.p50 == 0)
    assert outside_torch.usual_gib(gpu, gpus) == outside_torch.context_gib(gpu) + here.p50


@pytest.mark.parametrize(
    ("small", "large"), [("a10-24", "a100-80"), ("l4-24", "l40-48"), ("rtx6000-24", "rtx6000pro-96")]
)
def test_names_that_begin_like_another_card_are_not_that_card(small, large):
    assert outside_torch.context_gib(small) + 0.1 < outside_torch.context_gib(large)


@pytest.mark.parametrize("gpu", ["h100-nvl-94", "h100-pcie-80", "a30-24"])
def test_pcie_cards_have_no_switch(gpu):
    assert outside_torch.buffers_gib(gpu, 2) == outside_torch.buffers_gib("l40s-48", 2)
    assert outside_torch.buffers_gib("h20-96", 2) == outside_torch.buffers_gib("h100-80", 2)
