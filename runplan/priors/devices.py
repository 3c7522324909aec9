"""GPUs that a text names: in a line of its own, in a table of `nvidia-smi`, or in a job's request."""

from __future__ import annotations

import re

from runplan.priors.names import gpu_key

_DEVICE = re.compile(
    rb"(?:NVIDIA (?:GeForce )?(?:RTX (?:PRO )?|GTX |TITAN |GH|GB|Tesla )?[A-Z]{0,2}\d{1,4}[A-Z]*[\w .-]{0,40}"
    rb"|Tesla [VTPKM]\d+[\w-]*|[AVH]\d{2,3}-(?:SXM|PCI)[\w-]*|AMD Instinct [\w-]+|(?:GeForce|Quadro) RTX \d+[\w ]{0,8})"
)
_BRANDS = (b"NVIDIA", b"Tesla", b"-SXM", b"-PCI", b"Instinct", b"GeForce", b"Quadro")
_REQUESTED = re.compile(rb"gres[:/=]gpu:([A-Za-z][\w-]*)[:=](\d{1,3})\b")
"""What prologs print of the job's request: `TresPerNode=gres/gpu:a100:1`."""
_NPU = (b"ToKernelNpu.cpp", b"/torch_npu/", b"NPU function error", b"device: npu:")
_NONE = b"but no accelerator is found"
"""torch's warning of the first batch."""
_USED = re.compile(rb"\bUsing device: (cpu|mps|xpu|npu|hpu)\b")
_TABLE_MEMORY = re.compile(rb"/ *(\d{4,6})MiB")


def gpu_in_text(text: bytes) -> str | None:
    """The GPU a text names as a device: in a line of its own, or in an `nvidia-smi` table with its memory."""
    places = [at for brand in _BRANDS if (at := text.find(brand)) >= 0]
    match = _DEVICE.search(text, max(0, min(places) - 8)) if places else None
    if not match:
        return None
    name = " ".join(re.split(r"\s{2,}|\.(?:\.\.| )", match[0].decode("ascii", "replace"))[0].split())
    memory = _TABLE_MEMORY.search(text, match.end(), match.end() + 600)
    if memory and not re.search(r"\d+ ?GB", name):
        sized = f"{name} {round(int(memory[1]) / 1024)}GB"
        return gpu_key(sized) if gpu_key(sized) != sized else name
    return gpu_key(name.removesuffix(" On").removesuffix(" Off"))


def request_in_text(text: bytes) -> tuple[str, int] | None:
    """The GPU type and number of a job's request as a prolog prints it; None without one."""
    match = _REQUESTED.search(text)
    return (gpu_key(match[1].decode("ascii", "replace")), int(match[2])) if match else None


def other_device(text: bytes) -> str | None:
    """The device that trained, where a text shows that it is no GPU with a name: `npu`, `mps`, `cpu`; else None."""
    if any(text.find(sign) >= 0 for sign in _NPU):
        return "npu"
    if text.find(b"not supported on MPS now") >= 0:
        return "mps"
    if text.find(b"||NEURON_C") >= 0:
        return "neuron"
    if text.find(_NONE) >= 0:
        return "cpu"
    match = _USED.search(text)
    return match[1].decode() if match else None
