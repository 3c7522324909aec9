"""The weights of a model folder: every shard of the index, whole, with the tensors and parameters it should have."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from runplan.facts import Architecture, Status
from runplan.read.folder import Folder
from runplan.read.regular import open_regular
from runplan.read.weights import Tensor, WeightsError, read_shard

_INDEX = "model.safetensors.index.json"
_SINGLE = "model.safetensors"
_DTYPES = {"BF16": "bf16", "F16": "fp16", "F32": "fp32"}


@dataclass
class Checkpoint:
    """What the weight files say."""

    names: Sequence[str] = ()
    size_bytes: int = 0
    tensors: dict[str, Tensor] = field(default_factory=dict)
    """Of the files that are whole."""
    whole: bool = False

    @property
    def dtype(self) -> str | None:
        """Number format of most of the weights as safetensors spells it; None without weights."""
        sizes: dict[str, int] = {}
        for tensor in self.tensors.values():
            sizes[tensor.dtype] = sizes.get(tensor.dtype, 0) + tensor.size
        return max(sizes, key=lambda dtype: sizes[dtype], default=None)

    @property
    def dtype_name(self) -> str | None:
        """The same as runplan spells it: bf16, fp16, fp32; None for any other."""
        return _DTYPES.get(self.dtype or "")

    def params(self, *, tied: bool) -> int | None:
        """Parameters by the headers; None when files are missing or damaged. A tied output head counts once."""
        if not self.whole:
            return None
        skipped = {"lm_head.weight"} if tied else set()
        return sum(
            tensor.size
            for name, tensor in self.tensors.items()
            if name not in skipped and "rotary_emb" not in name  # Llama 2 checkpoints carry a buffer of that name
        )


def read_checkpoint(folder: Folder) -> Checkpoint:
    """The weight files of a folder; what is wrong with them is said to `folder`."""
    if _INDEX in folder.names:
        return _read_indexed(folder)
    if _SINGLE in folder.names:
        return _read_shards(folder, [_SINGLE])
    loose = sorted(name for name in folder.names if name.endswith(".safetensors"))
    if loose:
        folder.say(Status.missing, f"{_INDEX} is not there, though {len(loose)} shards are", folder.download([_INDEX]))
        return _read_shards(folder, loose)
    bins = sorted(name for name in folder.names if name.startswith("pytorch_model") and name.endswith(".bin"))
    if bins:
        folder.say(
            Status.unchecked,
            f"{len(bins)} .bin files instead of safetensors: torchtune loads them, but they are not checked here",
        )
        return Checkpoint(bins, sum(_size(folder.path / name) for name in bins))
    folder.say(Status.missing, "no weights: neither model.safetensors nor its shards are there")
    return Checkpoint()


def check_checkpoint(folder: Folder, checkpoint: Checkpoint, architecture: Architecture | None) -> None:
    """Say where number format and number of parameters are not what config.json and the trainer need."""
    if checkpoint.dtype is not None and checkpoint.dtype_name is None:
        folder.say(Status.invalid, f"the weights are {checkpoint.dtype}; LoRA needs bf16, fp16 or fp32 weights")
        return
    if architecture is None:
        return
    params = checkpoint.params(tied=architecture.tie_word_embeddings)
    if params is not None and params != architecture.params:
        folder.say(
            Status.invalid,
            f"the weight files hold {params:,} parameters, config.json describes {architecture.params:,}",
        )


def _read_indexed(folder: Folder) -> Checkpoint:
    try:
        with open_regular(folder.path / _INDEX) as file:
            weight_map = json.loads(file.read())["weight_map"]
        wanted = sorted(set(weight_map.values()))
        escaping = [name for name in wanted if Path(name).name != name]
    except OSError as error:
        folder.say(Status.invalid, f"{_INDEX} cannot be read: {error.strerror or error}")
        return Checkpoint()
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        detail = f"{_INDEX} is no index: a JSON object with a weight_map is needed"
        folder.say(Status.invalid, detail, folder.download_again(_INDEX))
        return Checkpoint()
    if escaping or not wanted:
        detail = f"{_INDEX} names {escaping[0]!r}, which is no file here" if escaping else f"{_INDEX} names no shards"
        folder.say(Status.invalid, detail, folder.download_again(_INDEX))
        return Checkpoint()
    gone = [name for name in wanted if name not in folder.names]
    if gone:
        listed = ", ".join(gone[:3]) + (", …" if len(gone) > 3 else "")
        folder.say(
            Status.missing,
            f"{len(gone)} of {len(wanted)} shards {'is' if len(gone) == 1 else 'are'} not there: {listed}",
        )
    checkpoint = _read_shards(folder, [name for name in wanted if name in folder.names], weight_map)
    checkpoint.whole = checkpoint.whole and not gone
    checkpoint.names = wanted
    return checkpoint


def _read_shards(folder: Folder, names: Sequence[str], weight_map: Mapping[str, str] | None = None) -> Checkpoint:
    """Read the header of every shard; `weight_map` is what the index expects in them."""
    checkpoint, whole = Checkpoint(names), True
    where: dict[str, str] = {}
    for name in names:
        try:
            tensors = read_shard(folder.path / name)
        except WeightsError as error:
            whole = False
            folder.say(Status.invalid, str(error), folder.pull() if error.pointer else folder.download_again(name))
            continue
        checkpoint.size_bytes += _size(folder.path / name)
        checkpoint.tensors |= tensors
        where |= dict.fromkeys(tensors, name)
    checkpoint.whole = whole and bool(checkpoint.tensors)
    if whole and weight_map is not None and len(names) == len(set(weight_map.values())) and where != weight_map:
        odd = sorted(key for key in weight_map.keys() | where.keys() if weight_map.get(key) != where.get(key))
        about = odd[0] if len(odd) == 1 else f"{len(odd)} tensors, such as {odd[0]}"
        folder.say(Status.invalid, f"{_INDEX} and the shards disagree about {about}")
    return checkpoint


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
