"""What is really there: models, datasets, tasks, disk and trainer, as `runplan/read/` finds it once. Free of I/O."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from functools import cached_property

from runplan.environment import EnvironmentFacts
from runplan.task_data import SeenTask
from runplan.turns import BadTurns

CREATE_DATASET = "dataset.create=true"
"""Fix of a dataset that runplan can make: what to add to the command line."""


class Status(Enum):
    """Outcome of looking at one thing."""

    ok = "ok"
    missing = "missing"
    invalid = "invalid"
    unchecked = "unchecked"


@dataclass(frozen=True)
class Finding:
    """One thing that is missing, wrong or worth knowing about something that was read."""

    status: Status
    detail: str
    fix: str = ""


@dataclass(frozen=True)
class Architecture:
    """Shape of a decoder-only transformer, with the names Hugging Face's config.json uses."""

    family: str
    hidden_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int
    intermediate_size: int
    vocab_size: int
    max_position_embeddings: int
    rope_theta: float = 10000.0
    rope_scaling_factor: float | None = None
    rms_norm_eps: float = 1e-5
    tie_word_embeddings: bool = False
    attention_bias: bool = False
    sliding_window: int | None = None

    @property
    def query_size(self) -> int:
        """Width of all query heads together."""
        return self.num_attention_heads * self.head_dim

    @property
    def key_value_size(self) -> int:
        """Width of all key heads together (and of all value heads)."""
        return self.num_key_value_heads * self.head_dim

    @property
    def layer_params(self) -> int:
        """Parameters of one transformer block, norms and biases included."""
        d, q, kv, f = self.hidden_size, self.query_size, self.key_value_size, self.intermediate_size
        norms = 2 * d + (2 * self.head_dim if self.family == "qwen3" else 0)  # which norms each query and key, too
        return d * q + 2 * d * kv + q * d + 3 * d * f + norms + (q + 2 * kv) * self.attention_bias

    @property
    def embedding_params(self) -> int:
        """Parameters of one embedding matrix."""
        return self.vocab_size * self.hidden_size

    @property
    def params(self) -> int:
        """All parameters; tied embeddings count once."""
        embeddings = self.embedding_params * (1 if self.tie_word_embeddings else 2)
        return self.num_hidden_layers * self.layer_params + embeddings + self.hidden_size

    @property
    def matmul_params(self) -> int:
        """Parameters every token is multiplied with: the blocks and the output head, not the look-up."""
        return self.num_hidden_layers * self.layer_params + self.embedding_params


@dataclass(frozen=True)
class ModelFacts:
    """A model folder."""

    path: str
    status: Status
    architecture: Architecture | None = None
    """From `config.json` where there is one, else from `conf/model`; None when neither says."""
    shards: tuple[str, ...] = ()
    """Names of the weight files, in order."""
    size_bytes: int = 0
    """Bytes of all weight files."""
    dtype: str | None = None
    """Number format of the weights on disk: bf16, fp16, fp32."""
    tokenizer: str | None = None
    """`tokenizer.json` relative to the folder, where it is there."""
    tiktoken: str | None = None
    """Llama 3's `original/tokenizer.model` (or the like) relative to the folder, where it is there."""
    vocab_json: bool = False
    """Whether vocab.json and merges.txt (Qwen's tokenizer) are there."""
    chat_template: bool = False
    """Whether the tokenizer has a chat template."""
    params: int | None = None
    """Parameters by the headers of the weight files; None when not all of them could be read."""
    special_tokens: bool = False
    """Whether tokenizer.json names every special token that torchtune's Llama 3 tokenizer asks for."""
    lacking_special_tokens: tuple[str, ...] = ()
    """Those of them that it does not name."""
    findings: tuple[Finding, ...] = ()


@dataclass(frozen=True)
class Lengths:
    """How many tokens the rows of a split have: an exact histogram."""

    counts: tuple[tuple[int, int], ...]
    """(tokens, rows), sorted by tokens."""
    measured: bool = True
    """False when the model's tokenizer was not there and tokens were guessed from characters."""

    @cached_property
    def _hash(self) -> int:
        return hash((self.counts, self.measured))

    def __hash__(self) -> int:
        # Histograms have thousands of entries and are looked up for every run of a sweep.
        return self._hash

    @cached_property
    def rows(self) -> int:
        """Rows in all."""
        return sum(rows for _, rows in self.counts)

    @cached_property
    def tokens(self) -> int:
        """Tokens in all."""
        return sum(tokens * rows for tokens, rows in self.counts)

    @property
    def longest(self) -> int:
        """Tokens of the longest row; 0 without rows."""
        return self.counts[-1][0] if self.counts else 0

    @property
    def mean(self) -> float:
        """Tokens a row; 0 without rows."""
        return self.tokens / self.rows if self.rows else 0.0

    def quantile(self, part: float) -> int:
        """The length that `part` of the rows do not exceed."""
        wanted, seen = part * self.rows, 0
        for tokens, rows in self.counts:
            seen += rows
            if seen >= wanted:
                return tokens
        return self.longest

    def cut(self, max_seq_len: int) -> Lengths:
        """The same rows, none longer than `max_seq_len`."""
        if self.longest <= max_seq_len:
            return self
        kept = [(tokens, rows) for tokens, rows in self.counts if tokens < max_seq_len]
        return Lengths((*kept, (max_seq_len, self.rows - sum(rows for _, rows in kept))), self.measured)

    def first(self, rows: int | None) -> Lengths:
        """The lengths of `rows` rows drawn evenly from these; all of them when `rows` is None."""
        if rows is None or rows >= self.rows:
            return self
        picked = Counter(self.quantile((i + 0.5) / rows) for i in range(rows))
        return Lengths(tuple(sorted(picked.items())), self.measured)


@dataclass(frozen=True)
class Split:
    """One split of a dataset."""

    name: str
    rows: int
    empty: int = 0
    """Rows without input or output."""
    duplicates: int = 0
    """Rows that say the same as an earlier row of this split."""


@dataclass(frozen=True)
class DatasetFacts:
    """A dataset file."""

    path: str
    status: Status
    size_bytes: int = 0
    type: str = "instruct"
    splits: Mapping[str, Split] = field(default_factory=dict)
    """By role: train, validation, test."""
    fields: Mapping[str, str] = field(default_factory=dict)
    """Role → key in the file."""
    leaks: Mapping[tuple[str, str], int] = field(default_factory=dict)
    """(role, role) → rows that are in both splits."""
    bad_turns: tuple[BadTurns, ...] = ()
    findings: tuple[Finding, ...] = ()

    def rows(self, role: str) -> int:
        """Rows of a split, 0 when it is not there."""
        return self.splits[role].rows if role in self.splits else 0


@dataclass(frozen=True)
class TaskFacts:
    """An Inspect file."""

    path: str
    status: Status
    tasks: tuple[str, ...] = ()
    """Names of its `@task` functions, in order of the file."""
    parameters: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Task → names of its parameters; `**` stands for any."""
    findings: tuple[Finding, ...] = ()
    seen: tuple[SeenTask, ...] = ()


@dataclass(frozen=True)
class TrainerFacts:
    """The trainer in this environment; `version` is None when it is not installed here."""

    name: str
    version: str | None = None
    wandb: bool = True
    """Whether Weights & Biases' package is there, too."""
    program: str = ""
    """The program that jobs start, where it is not on this environment's PATH; empty where it is, or none is needed."""


@dataclass(frozen=True)
class DiskFacts:
    """Free space where the group will be written; `free_bytes` is None when it cannot be told."""

    path: str
    free_bytes: int | None = None


@dataclass(frozen=True)
class LengthKey:
    """What decides how many tokens a row has."""

    dataset: str
    model: str
    type: str
    split: str
    system_prompt: str = ""
    prompt: str = "{input}"
    train_on_input: bool = False
    trainer: str = "torchtune"
    """Decides what is put around texts, and how they are encoded."""


@dataclass(frozen=True)
class Place:
    """Where one combination finds its things: keys of `Facts`; `script` is None when nothing is evaluated."""

    model: str
    dataset: str
    script: str | None
    lengths: Mapping[str, LengthKey]  # by role


@dataclass(frozen=True)
class Facts:
    """Everything planning needs to know about this machine."""

    models: Mapping[str, ModelFacts]
    """By `locate.model_key`: the path, and the trainer where it asks for other files than torchtune."""
    datasets: Mapping[str, DatasetFacts]
    """By `locate.dataset_key`: the path, and how it is read where that is unusual."""
    lengths: Mapping[LengthKey, Lengths]
    tasks: Mapping[str, TaskFacts]
    """By path of the script."""
    trainer: TrainerFacts
    """The first run's."""
    disk: DiskFacts
    places: tuple[Place, ...] = ()
    """One a combination, in the order of the sweep."""
    trainers: Mapping[str, TrainerFacts] = field(default_factory=dict)
    """By name, those of all runs; empty where only `trainer` was looked for."""
    environments: Mapping[str, EnvironmentFacts] = field(default_factory=dict)
    """By `environment.key_of`: what jobs activate, where a site names something."""
