"""GPU memory of a process outside torch's allocator: CUDA's context, and the buffers with which GPUs talk."""

from __future__ import annotations

from runplan.estimate.workload import Interval

_CONTEXT_GIB = {
    "t4": 0.14,  # 140.9 MiB after a step (fitcheck-llm's 40 rows)
    "rtxa4000": 0.2,
    "a30": 0.22,
    "rtxa5000": 0.25,
    **dict.fromkeys(("rtx3080", "rtx2080ti", "titanrtx", "rtx6000", "rtx8000"), 0.27),
    "rtx3090": 0.32,  # 256 MiB bare (invoke-ai/InvokeAI#9413: driver 610, torch 2.7)
    "rtxa6000": 0.32,  # as many multiprocessors
    "a40": 0.32,
    "a10": 0.28,
    "a10g": 0.28,
    "l4": 0.26,
    "h20": 0.3,
    "v100": 0.35,
    "rtx4090": 0.43,
    "rtx6000ada": 0.48,  # 426 MiB bare (unslothai/unsloth-zoo#1053: torch 2.10, CUDA 13)
    "l40s": 0.48,
    "l40": 0.48,
    "rtx5090": 0.58,
    "rtx6000pro": 0.64,
    "a100": 0.42,  # 216 MiB of it for stacks (arcs-skku/EMDC_llvm#13); some 400 MB in all (pytorch/pytorch#109888)
}
"""What a context holds, with kernels that are loaded as they are needed (since CUDA 11.7; before, all: 0.9 to 1 GiB).
Sources as stated; of the others it is what scales from those: some 3.2 MiB a multiprocessor (T4 with 40: 3.5, RTX 3090
with 82: 3.1, RTX 6000 Ada with 142: 3.0), as every resident thread has a stack, and 50 MiB for kernels."""
CONTEXT_GIB = 0.5
"""Of H100, H200 and all others; 132 multiprocessors make 0.41 and kernels."""
CONTEXT_ABOVE_GIB = 0.4
"""How much more it may be at its p95, since libraries are loaded as kernels need them: at most 1.1 in all in the one
published run of torchtune on an H100 that states its process; old drivers count what an idle GPU holds, too (0.35)."""
_MIB_A_RING, _MIB_A_CHANNEL = 12.0, 36.0
"""NCCL's buffers of one channel: a connection takes 10 MiB where it receives (LL 0.5, LL128 4.7, simple 4, rounded up)
and 2 where it sends. One ring, as NCCL connects it from 2.22 on (torch 2.7), when first used; ring and both directions
of the tree, as it connected them before (init.cc and transport/p2p.cc of 2.21.5 and 2.26.2)."""
_CHANNELS, _CHANNELS_PCIE = 24, 4
"""On NVLink (so many are logged on H100; A100 with four GPUs: 688 MB in all, NVIDIA/nccl#964), and on PCIe."""
_MIB_MULTICAST, _MIB_MULTICAST_BEFORE = 32.0, 144.0
"""Multicast buffers of NVSwitch (Hopper and later) for every GPU of the node: 16 channels, two directions, 1 MiB; in
2.21.5 24 channels and 3 MiB (transport/nvls.cc). With rings and context 1.03 GiB; 1.06 GB measured outside torch on
eight H100 (NVIDIA/nccl#1685)."""
_NVSWITCH, _NVLINK = ("h100", "h200", "h20-", "gh200", "b200", "b300", "gb200"), ("a100", "v100")
_CARDS = ("h100-pcie", "h100-nvl")
"""Those of these names that are PCIe cards."""
_AMD, _AMD_GIB = ("mi2", "mi3"), Interval(0.65, 1.0)
"""RCCL's: 1 GiB with the first communicator, 0.65 with each further one (LUMI-AI-Guide#111, MI250X)."""
_MIB = 1 / 1024


def context_gib(gpu: str) -> float:
    """GiB of CUDA's context on a GPU type: the usual figure, from public measurements of small processes."""
    return _CONTEXT_GIB.get(gpu.split("-", 1)[0], CONTEXT_GIB)


def buffers_gib(gpu: str, gpus: int) -> Interval:
    """GiB of NCCL's buffers on one of several GPUs: the middle of what its versions take, and the most.

    Args:
        gpu: its type.
        gpus: how many train together on the node.
    """
    if gpus == 1:
        return Interval(0.0, 0.0)
    if gpu.startswith(_AMD):
        return _AMD_GIB
    switch = gpu.startswith(_NVSWITCH) and not gpu.startswith(_CARDS)
    channels = _CHANNELS if switch or gpu.startswith(_NVLINK) else _CHANNELS_PCIE
    now = channels * _MIB_A_RING + switch * gpus * _MIB_MULTICAST
    before = channels * _MIB_A_CHANNEL + switch * gpus * _MIB_MULTICAST_BEFORE
    return Interval((now + before) / 2 * _MIB, before * _MIB)


def usual_gib(gpu: str, gpus: int) -> float:
    """GiB outside torch's allocator on one GPU: the median before any log."""
    return context_gib(gpu) + buffers_gib(gpu, gpus).p50
