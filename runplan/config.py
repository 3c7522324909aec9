"""The one description of every configuration key: its type, its meaning, its range.

Values and defaults live in `conf/`, beside their sources; here a key is typed and explained. Each class is one
group of `conf/`, `Config` is the whole. The string under a field is its documentation and is shown to users.

A key whose value in `conf/` is `${rp.…:}` is one that runplan works out; setting it is just an override.
`Config` is made by `OmegaConf.to_object` after such keys were replaced by `None` (see `sweep/runs.py`).
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields, is_dataclass
from enum import Enum
from functools import cache
from typing import TYPE_CHECKING, Any

from omegaconf import MISSING

if TYPE_CHECKING:
    from collections.abc import Iterator


class Dtype(Enum):
    """Number format of weights, gradients and optimizer state."""

    bf16 = "bf16"
    fp32 = "fp32"


class DatasetType(Enum):
    """How rows of a dataset become training text."""

    instruct = "instruct"
    chat = "chat"
    text = "text"


class MetricLogger(Enum):
    """Where the trainer writes its metrics."""

    disk = "disk"
    wandb = "wandb"
    none = "none"


class EstimatorName(Enum):
    """How size, speed and time are estimated."""

    calibrated = "calibrated"
    rules = "rules"


class Via(Enum):
    """How a written group is submitted."""

    none = "none"
    sbatch = "sbatch"
    submitit = "submitit"
    local = "local"


class Naming(Enum):
    """How run directories are named."""

    short = "short"
    full = "full"


class EvaluateEpochs(Enum):
    """Which saved epochs are evaluated."""

    all = "all"
    last = "last"


class Prompts(Enum):
    """How the prompts of an evaluation are written."""

    training = "training"
    model = "model"


@dataclass
class Model:
    """A base model: where its folder is and what its architecture is."""

    name: str = MISSING
    """Short name, first part of every run name: `1B`."""
    full_name: str = MISSING
    """Name without organisation, as `naming=full` shows it: `Llama-3.2-1B-Instruct`."""
    family: str = MISSING
    """Architecture: `llama2`, `llama3`, `llama3_1`, `llama3_2`, `llama3_3`, `mistral`, `qwen2_5`, `qwen3`
    or `auto` (from config.json)."""
    repo_id: str | None = None
    """Where Hugging Face has it: `meta-llama/Llama-3.2-1B-Instruct`; used for the download command."""
    folder: str | None = None
    """Folder under `site.models_dir`; unused when `path` is set."""
    path: str | None = None
    """Folder of the model (config.json, safetensors, tokenizer); default `site.models_dir`/`folder`."""
    instruct: bool | None = None
    """Whether the model was instruction-tuned; null = unknown."""
    params_b: float | None = None
    """Parameters in billions; null = counted from the architecture."""
    hidden_size: int | None = None
    """Width of the residual stream."""
    num_hidden_layers: int | None = None
    """Transformer blocks."""
    num_attention_heads: int | None = None
    """Query heads."""
    num_key_value_heads: int | None = None
    """Key and value heads (grouped-query attention)."""
    head_dim: int | None = None
    """Width of one head; null = hidden_size / num_attention_heads."""
    intermediate_size: int | None = None
    """Width of the MLP."""
    vocab_size: int | None = None
    """Rows of the embedding."""
    max_position_embeddings: int | None = None
    """Longest sequence, in tokens."""
    rope_theta: float | None = None
    """Base of the rotary embedding."""
    rope_scaling_factor: float | None = None
    """Factor of Llama 3.1's long-context scaling; null = none."""
    rms_norm_eps: float | None = None
    """Epsilon of RMSNorm."""
    tie_word_embeddings: bool | None = None
    """Whether input and output embeddings are one matrix."""
    attention_bias: bool | None = None
    """Whether q, k and v projections have biases (Qwen2.5 has)."""
    sliding_window: int | None = None
    """Tokens that each token attends to (4096 in Mistral 7B v0.1); null = all before it."""
    create: bool = False
    """Make the model folder if it is missing; only for `model=tiny`."""


@dataclass
class Lora:
    """Low-rank adapters."""

    rank: int = MISSING
    """Rank of the adapters, at least 1."""
    alpha: float | None = None
    """Scale of the adapters; default 2 x rank."""
    dropout: float = MISSING
    """Dropout on the adapters' input."""
    attn_modules: list[str] = field(default_factory=list)
    """Adapted attention projections: any of q_proj, k_proj, v_proj, output_proj."""
    apply_to_mlp: bool = MISSING
    """Adapt the three MLP projections, too."""
    apply_to_output: bool = MISSING
    """Adapt the output head, too."""
    use_dora: bool = False
    """Weight-decomposed adapters (DoRA)."""
    quantize_base: bool = False
    """Keep the frozen weights in 4 bits (NF4) on the GPU: QLoRA. Merged checkpoints are whole again."""


@dataclass
class Optimizer:
    """AdamW and its schedule."""

    lr: float = MISSING
    """Peak learning rate."""
    weight_decay: float = MISSING
    """Decoupled weight decay."""
    lr_scheduler: str = MISSING
    """`cosine` (with linear warm-up) or `none` (constant)."""
    num_warmup_steps: int | None = None
    """Optimizer steps of linear warm-up; default 10 % of all steps, at most 100."""
    clip_grad_norm: float | None = None
    """Largest gradient norm; null = no clipping."""


@dataclass
class Dataset:
    """Training data: one JSON file with random train, validation and test splits."""

    name: str = MISSING
    """Label, as it appears in tables and run names."""
    task: str | None = None
    """Task it belongs to, whose evaluation `evaluation=auto` is; default: TASK of `TASK/input/FILE`, else `name`."""
    path: str | None = None
    """The file; default: made from `source`, beside it; else `file` in `tasks/<task>/input/` or `site.data_dir`."""
    source: str | None = None
    """Rows without splits (JSON lines, JSON list, CSV, TSV): `create=true` splits them at random into the file."""
    file: str | None = None
    """File name that is looked for when `path` is not set."""
    type: DatasetType = MISSING
    """`instruct` (rows with input and output), `chat` (rows with messages) or `text` (rows with text)."""
    input_column: str = "input"
    """Column of the prompt in instruct data."""
    output_column: str = "output"
    """Column of the answer in instruct data."""
    messages_column: str = "messages"
    """Column of the conversation in chat data."""
    text_column: str = "text"
    """Column of the text in text data."""
    train_split: str = "train"
    """Key of the training rows in the file."""
    validation_split: str = "validation"
    """Key of the validation rows."""
    test_split: str = "test"
    """Key of the test rows."""
    train_rows: int | None = None
    """Train on the first so many rows only; null = all."""
    train_on_input: bool = False
    """Compute the loss on the prompt, too."""
    create: bool = False
    """Make the file when it is missing: from `source`, or by `generator`."""
    generator: str | None = None
    """What makes the file: `capitalization`, or null when nothing here can."""
    word_length: int | None = None
    """Letters a word (capitalization)."""
    n_words: int | None = None
    """Words in all (capitalization)."""
    train_fraction: float | None = None
    """Part of words or of `source` that is trained on; the rest is halved into validation and test."""
    seed: int | None = None
    """Seed of the splits and of generated words."""
    word_list: str | None = None
    """File with a word a line to draw from; null = words are generated."""


@dataclass
class Resources:
    """One kind of GPU node, and what a training job asks of it."""

    gpu: str = MISSING
    """Type of GPU, as in `conf/resources`: `a100-80`."""
    gpu_memory_gib: float = MISSING
    """Memory of one GPU that a process can use, in GiB."""
    memory_bandwidth_gb_per_s: float = MISSING
    """Memory bandwidth of one GPU, in GB/s."""
    bf16_tflops: float = MISSING
    """Dense bf16 (fp16 where the GPU has no bf16) peak of one GPU, in TFLOP/s."""
    fp32_tflops: float = MISSING
    """fp32 peak of one GPU without tensor cores, in TFLOP/s."""
    supports_bf16: bool = True
    """Whether the GPU computes in bf16 (compute capability 8.0 and later)."""
    gpus: int = MISSING
    """GPUs a training job; one = single-device recipe, more = distributed."""
    gpus_per_node: int | None = None
    """GPUs in one node; null = as SLURM says."""
    gres: str | None = None
    """Generic resource to ask for instead of `--gres=gpu:N`, e.g. `gpu:a100:1` or a MIG slice."""
    cpus_per_task: int | None = None
    """CPU cores a job; default 4 a GPU."""
    mem: str | None = None
    """CPU memory a job as SLURM text; default from the model's weights."""
    time: str | None = None
    """Wall time of training as SLURM text, `12:30:00`; default from the estimate's p95."""
    time_limit: str | None = None
    """Longest time the partition allows, where SLURM cannot be asked."""
    partition: str | None = None
    """SLURM partition; null = the cluster's default."""
    account: str | None = None
    """SLURM account; null = the user's default."""
    qos: str | None = None
    """SLURM quality of service."""
    constraint: str | None = None
    """Node feature to ask for, e.g. `gpu80`."""
    exclude: str | None = None
    """Nodes to avoid."""
    extra_sbatch: list[str] = field(default_factory=list)
    """More `#SBATCH` options, each as on the command line: `--mail-type=END`."""


@dataclass
class Recipe:
    """Which training program of the trainer runs."""

    name: str = MISSING
    """`auto`, or a recipe of the trainer's capability table."""
    custom: str | None = None
    """A recipe of the user's own: a file or dotted path the trainer can run."""


@dataclass
class Trainer:
    """The training library and how it logs and saves."""

    name: str = MISSING
    """`torchtune` or `trl`."""
    version: str = MISSING
    """Version that runs the job; checked against the installed one where it can be seen."""
    log_every_n_steps: int = MISSING
    """Metrics are logged every so many optimizer steps."""
    metric_logger: MetricLogger = MISSING
    """`disk`, `wandb` (offline) or `none`."""
    save_adapter_weights_only: bool = MISSING
    """Save only the adapters at each epoch's end, not the merged model."""
    run_val_every_n_steps: int | None = None
    """Validation loss every so many optimizer steps; default about ten times an epoch."""
    max_steps_per_epoch: int | None = None
    """Stop each epoch after so many optimizer steps; null = never."""
    shuffle: bool = True
    """Shuffle the training rows."""
    activation_offloading: bool = False
    """Keep saved activations in CPU memory."""
    max_rungs: int | None = None
    """Smaller batches a job may try when out of GPU memory, effective batch kept; default 2, 0 for a batch you set."""
    device: str = "cuda"
    """Where it trains: `cuda` or `cpu`; default cuda, but with `resources=cpu`."""


@dataclass
class Evaluation:
    """What is measured on every fine-tuned run and on its base model."""

    name: str = MISSING
    """The task: its script is `tasks/<name>/inspect.py`."""
    enabled: bool = True
    """Whether anything is evaluated."""
    script: str | None = None
    """The Inspect file; default `tasks/<name>/inspect.py`, then under `site.data_dir`."""
    tasks: list[str] = field(default_factory=list)
    """Names of `@task` functions in the script; default the one named like the task, or the only one."""
    epochs: EvaluateEpochs = MISSING
    """Which saved epochs get a cell: `all` or `last`."""
    limit: int | None = None
    """Evaluate so many samples only; null = all."""
    max_tokens: int = MISSING
    """Longest answer, in tokens."""
    temperature: float = MISSING
    """Sampling temperature; 0 = greedy."""
    batch_size: int = MISSING
    """Samples generated together."""
    gpus: int | None = None
    """GPUs of an evaluation, over which the model is spread; default as few as hold it."""
    prompts: Prompts = Prompts.training
    """Written as `training` writes them, or by the `model`'s own chat template."""
    args: dict[str, Any] = field(default_factory=dict)
    """More arguments of the task function."""


@dataclass
class Estimator:
    """How size, speed and time are estimated."""

    name: EstimatorName = MISSING
    """`calibrated` (physics and the user's logs) or `rules` (the hand method)."""
    utilization: float = MISSING
    """Part of the GPU's memory that a plan may fill (rules: 0.7)."""
    minimum_steps: int = MISSING
    """Fewest optimizer steps in all before the summary warns."""


@dataclass
class Submit:
    """How the group is submitted after writing."""

    via: Via = MISSING
    """`none`, `sbatch`, `submitit` (equal requests are one array) or `local` (on this machine)."""


@dataclass
class Site:
    """What a cluster's user sets once."""

    name: str = MISSING
    """Label of the cluster."""
    models_dir: str = MISSING
    """Folder of model folders."""
    data_dir: str = MISSING
    """Folder where datasets are looked for after `tasks/<task>/input/`."""
    tasks_dir: str = MISSING
    """Folder of `tasks/<task>/`."""
    output_root: str = MISSING
    """Folder where groups are written."""
    priors: list[str] = field(default_factory=list)
    """Folders or globs of earlier logs."""
    gpu: str | None = None
    """GPU type of earlier logs that do not say."""
    partition: str | None = None
    """Default of `resources.partition`."""
    account: str | None = None
    """Default of `resources.account`."""
    qos: str | None = None
    """Default of `resources.qos`."""
    constraint: str | None = None
    """Default of `resources.constraint`."""
    modules: list[str] = field(default_factory=list)
    """Environment modules a job loads."""
    conda_env: str | None = None
    """Conda environment a job activates."""
    venv: str | None = None
    """Virtual environment a job activates."""
    env: dict[str, str] = field(default_factory=dict)
    """Environment variables a job sets; no secrets, they are written to disk."""
    wandb_project: str | None = None
    """Weights & Biases project."""


@dataclass
class Priors:
    """Where to learn from."""

    paths: list[str] = field(default_factory=list)
    """Folders (searched recursively), files or globs of earlier logs."""
    gpu: str | None = None
    """GPU type of logs that do not say which."""


@dataclass
class Group:
    """The directory of this sweep."""

    name: str | None = None
    """Directory under `site.output_root`; default the experiment's name, or date and time."""


@dataclass
class Budget:
    """What the group may cost."""

    gpu_hours: float | None = None
    """Most GPU-hours for the whole group; above it the summary says what to drop."""


@dataclass
class Verify:
    """How strict verification is."""

    strict: bool = False
    """Exit 3 when something the runs need is missing."""


@dataclass
class Sweep:
    """How swept values are combined."""

    zip: list[list[str]] = field(default_factory=list)
    """Keys whose values go together instead of being crossed: `[[model,optimizer.lr]]`."""
    exclude: list[dict[str, Any]] = field(default_factory=list)
    """Combinations to leave out: `[{model: 3B, lora.rank: 64}]`."""


@dataclass
class Config:
    """One run, as the user asked for it."""

    model: Model = field(default_factory=Model)
    lora: Lora = field(default_factory=Lora)
    optimizer: Optimizer = field(default_factory=Optimizer)
    dataset: Dataset = field(default_factory=Dataset)
    resources: Resources = field(default_factory=Resources)
    recipe: Recipe = field(default_factory=Recipe)
    trainer: Trainer = field(default_factory=Trainer)
    evaluation: Evaluation = field(default_factory=Evaluation)
    estimator: Estimator = field(default_factory=Estimator)
    submit: Submit = field(default_factory=Submit)
    site: Site = field(default_factory=Site)
    priors: Priors = field(default_factory=Priors)
    group: Group = field(default_factory=Group)
    budget: Budget = field(default_factory=Budget)
    verify: Verify = field(default_factory=Verify)
    sweep: Sweep = field(default_factory=Sweep)
    epochs: int = MISSING
    """Passes over the training rows."""
    batch_size: int | None = None
    """Sequences a GPU processes at once; default the largest that fits. Set alone, accumulation is 1."""
    effective_batch_size: int | None = None
    """Sequences an optimizer step sees, over accumulation and GPUs; default 16, or what the batch you set makes."""
    gradient_accumulation_steps: int | None = None
    """Forward passes an optimizer step; default what fills the effective batch."""
    max_seq_len: int = MISSING
    """Longest sequence in tokens; longer rows are cut."""
    packed: bool | str = MISSING
    """Fill sequences with several rows: true, false or `auto` (on, unless it leaves too few steps)."""
    activation_checkpointing: bool | None = None
    """Recompute activations in backward; null = the trainer's default for the model."""
    compile: bool | None = None
    """Compile the model with torch.compile; null = the trainer's default."""
    dtype: Dtype | None = None
    """`bf16` or `fp32`; null = the trainer's default."""
    seed: int = MISSING
    """Seed of training; several make replicates."""
    system_prompt: str = MISSING
    """System prompt of training and evaluation."""
    prompt: str = MISSING
    """Template of the user's turn; `{input}` is the row's input."""
    validation: bool = MISSING
    """Validation loss during training."""
    controls: bool = MISSING
    """Evaluate each base model, too."""
    train: bool = True
    """False plans evaluation of the models as they are, without training."""
    naming: Naming = MISSING
    """`short` (1B_rank4) or `full` (Llama-3.2-1B_rank4)."""
    preview: bool = MISSING
    """Print the whole summary and write nothing."""
    overwrite: bool = MISSING
    """Write over runs that were submitted or have results."""


OPEN_KEYS = ("evaluation.args", "site.env")
"""Below these, users make up keys of their own."""


def open_key(key: str) -> bool:
    """Whether a dotted key is one that users make up: `evaluation.args.shots`."""
    return key.startswith(tuple(f"{name}." for name in OPEN_KEYS))


def iter_keys(cls: type = Config, prefix: str = "") -> Iterator[str]:
    """Every dotted key of the schema, groups included, in declaration order."""
    for item in fields(cls):
        key = f"{prefix}{item.name}"
        yield key
        factory = item.default_factory
        if isinstance(factory, type) and is_dataclass(factory):
            yield from iter_keys(factory, f"{key}.")


def text_keys() -> frozenset[str]:
    """Every dotted key of the schema that takes a text."""
    return _keys_of(frozenset({"str", "str | None"}))


def several_texts() -> frozenset[str]:
    """Every dotted key of the schema that takes a list of texts, or texts by name."""
    return _keys_of(frozenset({"list[str]", "dict[str, str]"}))


@cache
def _keys_of(types: frozenset[str], cls: type = Config, prefix: str = "") -> frozenset[str]:
    found: set[str] = set()
    for item in fields(cls):
        factory = item.default_factory
        if isinstance(factory, type) and is_dataclass(factory):
            found |= _keys_of(types, factory, f"{prefix}{item.name}.")
        elif item.type in types:
            found.add(f"{prefix}{item.name}")
    return frozenset(found)
