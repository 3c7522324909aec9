"""What ran, as a log has it: model, GPU, adapters, checkpointing; what it leaves open as its trainer has it."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from pathlib import PurePath

from runplan.estimate.memory.weights import ELEMENT_BYTES
from runplan.estimate.workload import TRL, Adapter, Gpu
from runplan.facts import Architecture
from runplan.priors.names import same_chip
from runplan.priors.record import PriorRun

CPU = Gpu("cpu", 64.0, 14.7, 1.5, 0.222)
"""Stands for one core of a processor where no entry of conf/resources does; the same figures as there."""
DEFAULT_ADAPTER = Adapter(8, ("q_proj", "v_proj", "output_proj"), apply_to_mlp=True)
"""What logs train that do not say it: rank and layers of torchtune's own llama3_1/8B_lora_single_device."""
_LAST_RESORT = 0.15
"""Parameters of a model matched by size alone may differ by this much."""


_NOT_LORA = re.compile(r"full|qat|dpo|ppo|knowledge|kd_|(?<!finetun)eval|generat", re.IGNORECASE)
"""Recipes by name or class; `LoRAFinetuneValRecipe…` trains and validates."""


def trains_adapters(run: PriorRun) -> bool:
    """Whether a log may be of a run such as those planned: its recipe, where it says which, trains adapters."""
    return not (run.recipe and _NOT_LORA.search(run.recipe))


@lru_cache(maxsize=4096)
def canonical(name: str) -> str:
    """A model's name without what differs between a builder, a folder and a repository: `llama321b`.

    Mistral's versions, which its builder does not tell, have one shape but for a few rows of the vocabulary.

    >>> canonical("torchtune.models.llama3_2.lora_llama3_2_1b") == canonical("meta-llama/Llama-3.2-1B-Instruct")
    True
    >>> canonical("torchtune.models.mistral.lora_mistral_7b") == canonical("mistralai/Mistral-7B-Instruct-v0.3")
    True
    """
    last = re.split(r"[/:]", name.strip().rstrip("/"))[-1]
    last = last.rsplit("torchtune.models.", 1)[-1] if "torchtune.models." in last else last
    last = last.rsplit(".", 1)[-1] if re.search(r"\.q?lora_|^[a-z0-9_]+\.[a-z0-9_]+$", last) else last
    words = re.sub(r"^(q?lora_|meta-)", "", last.lower())
    words = re.sub(r"(?<=mistral-7b)(-instruct)?-v0\.\d\b", "", words)
    words = re.sub(r"[-_ ](instruct|base|chat|hf|(thinking-)?2507)\b|[-_]?(instruct|base)$", "", words)
    return re.sub(r"[^a-z0-9]", "", words)


def match_model(run: PriorRun, models: Mapping[str, Architecture]) -> tuple[Architecture, bool] | None:
    """The architecture of a log's model and whether its name said so (else its size did); None when neither does."""
    if run.model:
        if run.model in models:
            return models[run.model], True
        wanted = canonical(run.model)
        for name, found in models.items():
            if canonical(name) == wanted:
                return found, True
    if run.params_b is None or run.params_b <= 0:
        return None
    billions = run.params_b
    nearest = min(models.values(), key=lambda a: abs(math.log(a.params / 1e9 / billions)), default=None)
    if nearest is None or abs(math.log(nearest.params / 1e9 / billions)) >= _LAST_RESORT:
        return None
    return nearest, False


def find_gpu(name: str | None, gpus: Mapping[str, Gpu]) -> Gpu | None:
    """The GPU type a log names, None when it names none that is known."""
    if not name:
        return None
    if name in gpus:
        return gpus[name]
    return CPU if name.lower().startswith("cpu") else None


def default_checkpointing(architecture: Architecture, gpus: int) -> bool:
    """Activation checkpointing in torchtune 0.6.1's LoRA configs (`recipes/configs/**/*lora*.yaml`).

    On from 3B on one GPU and from 70B on several (0.5B, 1B, 1.5B; 7B, 8B, 13B, 32B are off), and for Mistral.
    """
    return architecture.family == "mistral" or architecture.params > (2e9 if gpus == 1 else 50e9)


def checkpointing_of(run: PriorRun, architecture: Architecture) -> bool:
    """Whether a log's run kept no activations; where it does not say, as its trainer has it."""
    if run.activation_checkpointing is not None:
        return run.activation_checkpointing
    return run.trainer == TRL or default_checkpointing(architecture, run.num_gpus or 1)


def dtype_of(run: PriorRun) -> str:
    """The number format of a log's weights; bf16 where it names none that is modelled."""
    return run.dtype if run.dtype in ELEMENT_BYTES else "bf16"


def peak_in_use_gib(run: PriorRun) -> float | None:
    """GiB in use at the peak of training as torch told the log: allocated, else active; None where it says neither."""
    block = run.peak_memory_gib
    return (block.allocated or block.active) if block else None


def s_per_step(run: PriorRun) -> float | None:
    """Seconds of a log's optimizer step; None where it tells no speed."""
    return run.s_per_step or (1 / run.it_per_s if run.it_per_s else None)


def same_dataset(run: PriorRun, dataset: str) -> bool:
    """Whether a log names the planned dataset, wherever its file lay."""
    return bool(dataset) and bool(run.dataset) and _stem(dataset) == _stem(run.dataset or "")


def _stem(dataset: str) -> str:
    return PurePath(dataset).stem.lower()


def adapter_of(run: PriorRun) -> Adapter:
    """The adapters of a log; what it does not say as torchtune 0.6.1 has it."""
    rank, targets = run.lora_rank or DEFAULT_ADAPTER.rank, run.lora_targets
    start = replace(DEFAULT_ADAPTER, rank=rank, quantize_base=bool(run.quantize_base))
    if targets is None:
        return start
    attention = tuple(name for name in targets if name in {"q_proj", "k_proj", "v_proj", "output_proj"})
    mlp = any(name in {"mlp", "w1", "w2", "w3", "gate_proj", "up_proj", "down_proj"} for name in targets)
    return replace(start, attn_modules=attention, apply_to_mlp=mlp)


def variants(name: str | None, gpus: Mapping[str, Gpu]) -> tuple[Gpu, ...]:
    """Whole cards that a name may mean, the one with most memory first; none where it says nothing.

    >>> cards = {"a100-40": Gpu("a100-40", 39.5, 1555, 312, 19.5), "a100-80": Gpu("a100-80", 79.1, 2039, 312, 19.5)}
    >>> [gpu.name for gpu in variants("NVIDIA_A100", cards)]
    ['a100-80', 'a100-40']
    """
    words = set(re.split(r"[^a-z0-9]+", same_chip(name or "").lower()))
    found = [gpu for key, gpu in gpus.items() if key != "cpu" and "-mig-" not in key and key.split("-")[0] in words]
    return tuple(sorted(found, key=lambda gpu: (-gpu.memory_gib, gpu.name)))


def least_gpu(name: str | None, gpus: Mapping[str, Gpu]) -> Gpu | None:
    """The GPU type that a log names; of several that its name may mean, that with the least memory."""
    return find_gpu(name, gpus) or next(reversed(variants(name, gpus)), None)
