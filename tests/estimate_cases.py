"""Models, GPUs and workloads that several tests of the estimate use."""

import dataclasses

from runplan.estimate.speed.step import Step
from runplan.estimate.workload import Adapter, Gpu, Workload
from runplan.facts import Architecture, Lengths

LLAMA_1B = Architecture("llama3_2", 2048, 16, 32, 8, 64, 8192, 128256, 131072, tie_word_embeddings=True)
LLAMA_3B = Architecture("llama3_2", 3072, 28, 24, 8, 128, 8192, 128256, 131072, tie_word_embeddings=True)
LLAMA_8B = Architecture("llama3_1", 4096, 32, 32, 8, 128, 14336, 128256, 131072)
LLAMA2_7B = Architecture("llama2", 4096, 32, 32, 32, 128, 11008, 32000, 4096)
MISTRAL_7B = Architecture("mistral", 4096, 32, 32, 8, 128, 14336, 32768, 32768)
QWEN_05B = Architecture(
    "qwen2_5", 896, 24, 14, 2, 64, 4864, 151936, 32768, tie_word_embeddings=True, attention_bias=True
)
QWEN_15B = Architecture(
    "qwen2_5", 1536, 28, 12, 2, 128, 8960, 151936, 131072, tie_word_embeddings=True, attention_bias=True
)
QWEN3 = Architecture("qwen3", 1024, 28, 16, 8, 128, 3072, 151936, 40960, rms_norm_eps=1e-6, tie_word_embeddings=True)
MODELS = {
    "1B": LLAMA_1B,
    "Llama-3.2-1B-Instruct": LLAMA_1B,
    "3B": LLAMA_3B,
    "Llama-3.2-3B-Instruct": LLAMA_3B,
    "8B": LLAMA_8B,
}
A100 = Gpu("a100-80", 79.15, 2039.0, 312.0, 19.5)
H100 = Gpu("h100-80", 79.1, 3350.0, 989.0, 66.9)
GPUS = {"a100-80": A100, "h100-80": H100}
ADAPTER = Adapter(8, ("q_proj", "v_proj", "output_proj"), apply_to_mlp=True)
ROWS = Lengths(((40, 2000), (60, 3000), (100, 2500), (300, 400), (900, 100)))
STEP = Step(
    LLAMA_1B,
    ADAPTER,
    A100,
    1,
    "bf16",
    checkpointing=False,
    compile=False,
    packed=True,
    batch=4,
    tokens=2048.0,
    span=512.0,
)


def workload(**changes):
    start = Workload(
        trainer="torchtune",
        trainer_version="0.6.1",
        architecture=LLAMA_1B,
        adapter=ADAPTER,
        gpu=A100,
        gpus=1,
        lengths=ROWS,
        max_seq_len=2048,
        packed=False,
        dtype="bf16",
        activation_checkpointing=False,
        compile=False,
        epochs=1,
        effective_batch_size=16,
        model_name="1B",
    )
    return dataclasses.replace(start, **changes)
