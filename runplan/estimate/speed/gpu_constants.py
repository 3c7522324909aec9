"""What GPU types are by their papers, and what they do in practice before any log says so: constants of `speed`."""

from __future__ import annotations

import math
from typing import NamedTuple

from runplan.estimate.workload import Gpu


class Constants(NamedTuple):
    """What a GPU (and its host) does in practice; natural logarithms, so that errors are relative."""

    flops: float
    """Part of the peak FLOP/s that matrix products reach."""
    bandwidth: float
    """Part of the peak bandwidth that elementwise kernels reach."""
    layer_s: float
    """Seconds to launch one adapted layer forward and backward."""
    host_s: float
    """Seconds an optimizer step costs beside its batches: loader, logging, synchronisation."""
    filling: float
    """Tokens that fill the GPU, over what its peak lets expect (`roofline.FILLED`)."""


NOTHING = Constants(0.0, 0.0, 0.0, 0.0, 0.0)
"""Constants that are what was expected, where they are differences from that."""
SPREAD_SHARED = Constants(0.13, 0.16, 0.25, 0.40, 0.2)
"""Standard deviation that all GPUs share: this model's own error and the versions of torch and driver."""
SPREAD_OWN = Constants(0.13, 0.13, 0.26, 0.40, 0.3)
"""Standard deviation of one GPU type and cluster around that (10-18 % between clusters for one GPU name)."""


MATRIX_SHARE = {
    "rtx4090": 0.97,
    "rtx3090": 0.95,
    "rtx5090": 0.85,
    "rtx3080": 0.95,
    "rtx2080ti": 0.95,
    "l40s": 0.49,
    "rtx6000ada": 0.49,
    "t4": 0.5,
    "l4": 0.5,
    "a10": 0.55,
    "mi300x": 0.27,
    "mi325x": 0.27,
}
"""Cards whose large products reach another part of their peak than the formula of `prior` says: gaming cards clock
above the data sheet (84 % of the peak in whole steps: torchtune's README, 8B on RTX 4090), cards of little power below
(230 of an L40S's 362 TFLOP/s in 8192-wide products: milabench, whose batches of 4 to 24 of torchtune's LoRA taught it,
as it did MI325X's)."""
CACHE_MB = {
    **dict.fromkeys(("t4", "a10", "a10g", "a40", "rtxa6000", "rtx3090", "v100"), 6.0),
    **dict.fromkeys(("rtxa5000", "titanrtx", "rtx6000", "rtx8000"), 6.0),
    "rtxa4000": 4.0,
    "rtx3080": 5.0,
    "rtx2080ti": 5.5,
    "a30": 24.0,
    "a100": 40.0,
    "l4": 48.0,
    "h100": 50.0,
    "h200": 50.0,
    "gh200": 60.0,
    "h20": 60.0,
    "rtx4090": 72.0,
    "l40s": 96.0,
    "l40": 96.0,
    "rtx6000ada": 96.0,
    "rtx5090": 96.0,
    "rtx6000pro": 128.0,
    **dict.fromkeys(("b200", "b300", "gb200"), 126.0),
}
CACHE_USUAL_MB = 32.0
"""L2 caches of GPUs as their makers' papers on the architectures state them."""
LAYER_S, LAYER_AMD_S, LAYER_PROCESSOR_S = math.log(2.2e-3), math.log(1.3e-3), math.log(1.05e-3)
"""Expected seconds to launch a layer (natural logarithm); the reason stands at `prior`."""
NVLINK = ("a100", "h100", "h200", "h20-", "gh200", "b200", "b300", "gb200", "v100", "mi250", "mi3")
CARDS = ("h100-pcie", "h100-nvl")
"""GPUs of those names that are PCIe cards, bridged in pairs at most, as MI210 are."""
NVLINK_GB_PER_S, PCIE_GB_PER_S = 150.0, 16.0
"""GB/s at which a GPU gathers the weights of others: with NVLink or the like a guess (few steps wait for it), without
from single rows on four L40S, which take 1.5 s where one takes 0.2 (milabench)."""
A100_SHARE, SHARE_FALLS, BANDWIDTH = 0.63, 0.045, 1.0
"""Parts of the peak that large products reach on an A100, how that falls with the peak, and the part of the bandwidth
that elementwise kernels reach. Taught by torchtune's README (3B on A100, full fine-tuning) and by milabench's runs of
torchtune on H100 (batches of 8 and 24); 8192-wide products alone reach 94 % on an A100, 79 % on an H100 (milabench)."""
MOST_SHARE = 0.8
"""No formula says more of a peak than this: of small cards without a measured share."""
FILLING_AMD = -1.5
"""AMD's GPUs are full sooner than their peak lets expect: what short batches lack there is the time between kernels
(`roofline.MEETING_AMD`), all but the same for batches of 1 and of 64 rows on an MI325X (milabench)."""
A100_TFLOPS = 312.0
"""Peak of dense bf16 products (NVIDIA's data sheet): what other cards are compared with."""
WHOLE_TFLOPS = {"a100": A100_TFLOPS, "h100": 989.0, "h200": 989.0}
"""Such peaks of whole cards, of which MIG slices are parts."""
HOST_S, HOST_PROCESSOR_S = 8e-3, 1.06e-3
"""Seconds of an optimizer step beside its batches, before any log: a guess; where nothing waits for a GPU."""


def prior(gpu: Gpu) -> Constants:
    """Constants expected of a GPU before any log (natural logarithms).

    An eager layer has 183 kernels: 1.0 ms of Python and dispatch on a quiet Xeon server (torchtune's own layers with
    widths of 16, forward and backward), and some 3 us each to hand them to CUDA. In published runs whose launches
    decide a layer takes, by that measure, 1.0 and 1.5 ms with AMD's GPUs (MI355X; milabench's MI325X), 2.4 to 2.6 with
    NVIDIA's (milabench's H100 and L40S; Qwen on H100). Expected are 1.3 of AMD's, and 2.2 of NVIDIA's: a little less
    than was seen, as hosts differ and few were.
    """
    if gpu.name == "cpu":
        # Its entry in conf/resources says what one core reaches.
        return Constants(0.0, 0.0, LAYER_PROCESSOR_S, math.log(HOST_PROCESSOR_S), 0.0)
    kind = gpu.name.split("-", 1)[0]
    # A MIG slice reaches the part of its own peak that the whole card reaches.
    whole = WHOLE_TFLOPS.get(kind, gpu.bf16_tflops) if "-mig-" in gpu.name else gpu.bf16_tflops
    share = MATRIX_SHARE.get(kind, min(MOST_SHARE, A100_SHARE * (whole / A100_TFLOPS) ** -SHARE_FALLS))
    filling, layer_s = (FILLING_AMD, LAYER_AMD_S) if is_amd(gpu) else (0.0, LAYER_S)
    return Constants(math.log(share), math.log(BANDWIDTH), layer_s, math.log(HOST_S), filling)


def peak_flops(gpu: Gpu, dtype: str) -> float:
    """Peak FLOP/s of dense products in a number format."""
    return 1e12 * (gpu.fp32_tflops if dtype == "fp32" else gpu.bf16_tflops)


def is_amd(gpu: Gpu) -> bool:
    """Whether a GPU is AMD's."""
    return gpu.name.startswith("mi")


def cache_bytes(gpu: Gpu) -> float:
    """Bytes of a GPU's last cache; of a MIG slice its part."""
    kind = gpu.name.split("-", 1)[0]
    part = gpu.bf16_tflops / WHOLE_TFLOPS.get(kind, gpu.bf16_tflops) if "-mig-" in gpu.name else 1.0
    return 1e6 * CACHE_MB.get(kind, CACHE_USUAL_MB) * part


def link_bytes_per_s(gpu: Gpu) -> float:
    """Bytes a second that a GPU gathers from others of its node."""
    fast = gpu.name.startswith(NVLINK) and not gpu.name.startswith(CARDS)
    return 1e9 * (NVLINK_GB_PER_S if fast else PCIE_GB_PER_S)
