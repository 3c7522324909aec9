"""The keys that are asked for only when wanted: what they are called and what is advised. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Form(Enum):
    """How an answer is typed."""

    whole = "whole"
    """Whole numbers, with commas between them."""
    number = "number"
    """Numbers, with commas between them."""
    text = "text"
    """One text, as it is."""
    texts = "texts"
    """Texts, with commas between them; one that holds a comma stands in double quotes."""
    lines = "lines"
    """Override lines, quoted as in a shell."""


@dataclass(frozen=True)
class Setting:
    """One key of the configuration that the interview can set."""

    key: str
    label: str
    form: Form
    advice: str
    several: str = ""
    """Label when it is varied; empty when the interview does not offer to."""
    levels: tuple[str, ...] = ()
    """Levels that are suggested when it is varied."""
    unset: str = ""
    """What holds when nothing is said and no value stands in the configuration."""
    words: tuple[str, ...] = ()
    """What may be answered, where that is one of a few words."""


SETTINGS = (
    Setting("lora.rank", "LoRA rank", Form.whole, "4 to 64 is usual; memory hardly depends on it", "LoRA ranks",
            ("4", "16", "64")),
    Setting("lora.alpha", "LoRA alpha", Form.number, "scale of the adapters", unset="2 × rank"),
    Setting("lora.quantize_base", "base in 4 bits (QLoRA)", Form.texts,
            "true or false: a frozen base in 4 bits needs about a third of the memory, and more time",
            "bases (whole, in 4 bits)", ("false", "true"), words=("true", "false")),
    Setting("trainer", "trainer", Form.texts, "torchtune or trl", "trainers", ("torchtune", "trl")),
    Setting("dataset.train_rows", "training rows", Form.whole, "train on the first so many rows", "data sizes",
            ("1000", "4000"), unset="all"),
    Setting("optimizer.lr", "learning rate", Form.number, "factors of about three show the trend", "learning rates",
            ("1e-4", "3e-4", "1e-3")),
    Setting("epochs", "epochs", Form.whole, "1 to 3, more for harder tasks; each is evaluated", "epochs",
            ("1", "2", "3")),
    Setting("batch_size", "batch size", Form.whole, "sequences a GPU sees at once", "batch sizes", ("4", "16"),
            unset="the largest that fits, from the estimate"),
    Setting("effective_batch_size", "effective batch", Form.whole, "sequences an optimizer step sees",
            unset="16, the same for every run"),
    Setting("max_seq_len", "longest sequence", Form.whole, "in tokens; longer rows are cut"),
    Setting("packed", "packing", Form.text, "auto, true or false: several rows in one sequence",
            words=("auto", "true", "false")),
    Setting("seed", "seed", Form.whole, "several make replicates", "seeds (replicates)", ("1", "2", "3")),
    Setting("system_prompt", "system prompt", Form.text, "of training and evaluation", unset="none"),
    Setting("prompt", "prompt", Form.text, "the user's turn; {input} is the row's input"),
    Setting("naming", "run names", Form.text, "short: 1B_rank4, full: Llama-3.2-1B_rank4",
            words=("short", "full")),
    Setting("priors.paths", "earlier logs", Form.texts, "folders or globs that estimates learn from",
            unset="those of the site"),
    Setting("budget.gpu_hours", "GPU-hour budget", Form.number, "above it the summary says what to drop", unset="none"),
    Setting("group.name", "name of the group", Form.text, "its folder under site.output_root"),
)  # fmt: skip
BY_KEY = {setting.key: setting for setting in SETTINGS}

OTHER = "other"
"""Override lines of the user's own, for every key that has no question."""
VARIED = {
    "model": "models",
    "lora.rank": BY_KEY["lora.rank"].several,
    "dataset": "datasets",
    **{setting.key: setting.several for setting in SETTINGS if setting.several and setting.key != "lora.rank"},
    OTHER: "something else (KEY=VALUE,VALUE)",
}
"""What can be varied, in the order it is offered, and what it is called."""
