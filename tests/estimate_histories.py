"""Histories of logs as users have them, for tests of laws: honest ones, odd ones and impossible ones."""

import dataclasses
import math

from estimate_cases import GPUS, LLAMA_8B, MODELS
from hypothesis import strategies as st

from runplan.estimate.calibration import calibrate
from runplan.priors.record import MemoryGib, PriorRun

TARGETS = ("q_proj", "v_proj", "output_proj", "mlp")
ALL_MODELS = {**MODELS, "Llama-3.1-8B-Instruct": LLAMA_8B}
WILD = st.sampled_from([None, 0.0, -1.0, math.nan, math.inf, 1e-9, 1e9]) | st.floats(1e-3, 1e3)
SECONDS = st.floats(0.02, 30.0)


def maybe(strategy):
    return st.none() | strategy


def memories(values):
    return maybe(st.builds(MemoryGib, maybe(values), maybe(values), maybe(values)))


SETTINGS = {
    "path": st.integers(0, 99).map(lambda i: f"logs/slurm-{i}.out"),
    "trainer": st.sampled_from(["torchtune", "torchtune", "trl", "axolotl"]),
    "model": st.sampled_from(["Llama-3.2-1B-Instruct", "Llama-3.2-3B-Instruct", "Llama-3.1-8B-Instruct", "x"]),
    "params_b": maybe(st.sampled_from([1.24, 7.0])),
    "lora_rank": maybe(st.sampled_from([4, 8, 64])),
    "lora_targets": maybe(st.just(TARGETS)),
    "batch_size": st.sampled_from([1, 2, 4, 8, 16, 64, None]),
    "gradient_accumulation_steps": maybe(st.sampled_from([1, 4])),
    "max_seq_len": maybe(st.sampled_from([512, 2048, 8192])),
    "packed": maybe(st.booleans()),
    "dtype": maybe(st.sampled_from(["bf16", "fp32"])),
    "activation_checkpointing": maybe(st.booleans()),
    "compile": maybe(st.booleans()),
    "gpu": st.sampled_from(["a100-80", "a100-80", "h100-80", "a100", "cpu", "mystery", None]),
    "num_gpus": st.sampled_from([1, 1, 1, 2, 0, None]),
    "dataset": st.sampled_from([None, "/data/words.json", "/data/essays.json"]),
    "steps_done": maybe(st.integers(0, 5000)),
    "oom_batch_sizes": st.lists(st.sampled_from([1, 2, 8, 32]), max_size=2).map(tuple),
    "state": st.sampled_from(["completed", "oom", "timeout", "running", "unknown"]),
}
MEASURED = {
    "s_per_step": maybe(SECONDS),
    "tokens_per_s": maybe(st.floats(10.0, 1e6)),
    "trained_tokens_per_s": maybe(st.floats(10.0, 1e5)),
    "startup_s": maybe(st.floats(1.0, 2000.0)),
    "first_step_s": maybe(st.floats(0.01, 300.0)),
    "checkpoint_s": st.lists(st.floats(0.01, 2000.0), max_size=3).map(tuple),
    "peak_memory_gib": memories(st.floats(0.5, 90.0)),
    "process_peak_gib": maybe(st.floats(0.5, 90.0)),
}
LOGS = st.builds(PriorRun, **SETTINGS, **MEASURED)
WILD_LOGS = st.builds(
    PriorRun,
    **SETTINGS,
    s_per_step=WILD,
    it_per_s=WILD,
    tokens_per_s=WILD,
    trained_tokens_per_s=WILD,
    startup_s=WILD,
    loading_s=WILD,
    first_step_s=WILD,
    checkpoint_s=st.lists(WILD.filter(lambda value: value is not None), max_size=3).map(tuple),
    peak_memory_gib=memories(WILD),
    init_memory_gib=memories(WILD),
    process_peak_gib=WILD,
    max_rss_gib=WILD,
    wall_s=WILD,
)


def learn(logs):
    return calibrate(logs, GPUS, ALL_MODELS)


def like(w, plan, seconds, **changes):
    """The log of a run that is what a plan says, at so many seconds a step."""
    run = PriorRun(
        "logs/equal.out",
        trainer="torchtune",
        model="Llama-3.2-1B-Instruct",
        lora_rank=w.adapter.rank,
        lora_targets=TARGETS,
        batch_size=plan.batch_size,
        gradient_accumulation_steps=plan.gradient_accumulation_steps,
        max_seq_len=w.max_seq_len,
        packed=w.packed,
        dtype=w.dtype,
        activation_checkpointing=w.activation_checkpointing,
        compile=w.compile,
        gpu=w.gpu.name,
        num_gpus=w.gpus,
        dataset=w.dataset,
        steps_done=1000,
        s_per_step=seconds,
        state="completed",
    )
    return dataclasses.replace(run, **changes)
