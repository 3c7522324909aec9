"""What stands beside a log: configurations that refer to themselves, recordings of GPUs as people make them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runplan.priors.flat import flat_yaml, resolved
from runplan.priors.settings import trainer_fields
from runplan.priors.siblings import metrics_fields

REFERRING = b"""base: ${oc.env:SCRATCH}/me
name: Llama-3.2-3B-Instruct
size: 8
batch_size: ${size}
epochs: ${oc.env:EPOCHS,3}
dtype: ${precision}
gradient_accumulation_steps: ${training.accumulation}
training:
  accumulation: 4
tokenizer:
  max_seq_len: ${length}
length: ${longest}
longest: 2048
model:
  _component_: torchtune.models.llama3_2.lora_llama3_2_3b
  lora_rank: ${rank}
  lora_alpha: ${mul:${rank},2}
rank: 16
checkpointer:
  checkpoint_dir: ${base}/models/${name}
dataset:
  data_files: ${data_dir}/words_5L.json
  packed: ${packed}
packed: true
"""


def test_a_configuration_says_what_its_references_lead_to():
    assert trainer_fields(resolved(flat_yaml(REFERRING))) == {
        "model": "Llama-3.2-3B-Instruct", "params_b": 3.213, "lora_rank": 16, "batch_size": 8, "max_seq_len": 2048,
        "gradient_accumulation_steps": 4, "packed": True, "dataset": "words_5L.json", "quantize_base": False,
    }  # fmt: skip


TEXTS = st.sampled_from(
    ["${a}", "${b}/x", "x${c}", "${oc.env:HOME}/${a}", "${a.b}", "${", "${}", "}", "${mul:${a},2}", "8"]
)


@given(st.dictionaries(st.sampled_from(["a", "b", "c", "a.b"]), TEXTS | st.integers() | st.lists(TEXTS, max_size=2)))
def test_no_reference_is_left(values):
    left = resolved(values)
    assert left.keys() <= values.keys()
    assert "${" not in str(left)
    assert all(left[key] == value for key, value in values.items() if isinstance(value, int))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "timestamp, index, name, memory.used [MiB]\n1, 0, Tesla T4, 1024 MiB\n2, 0, Tesla T4, 2048 MiB\n3, 0, Te",
            {"gpu": "t4-16", "process_peak_gib": 2.0},
        ),
        (
            "timestamp,idx,name,util_gpu,mem_used_mb,mem_total_mb\n1, 0, NVIDIA GeForce RTX 4090, 98, 20480, 24564\n",
            {"gpu": "rtx4090-24", "process_peak_gib": 20.0},
        ),
        ("timestamp, memory.used, utilization.gpu\n1, 1024, 98\n", {"process_peak_gib": 1.0}),
        (
            "name, power.draw [W], memory.used [MiB], memory.total [MiB]\nNVIDIA GB10, 12.98 W, [N/A], [N/A]\n",
            {"gpu": "NVIDIA GB10"},
        ),
        ("timestamp, memory_used_gb\n1, 20\n", {}),
        ("timestamp, memory.total [MiB]\n1, 81920 MiB\n", {}),
        ("1, NVIDIA H200, 40536 MiB, 143771 MiB\n", {}),
        ("timestamp, memory.used [MiB]\r\n1, 1024 MiB\r\n", {"process_peak_gib": 1.0}),
        ("timestamp, memory.used [MiB]\n1, 9999999999999 MiB\n", {}),
        (
            "# gpu    pwr  gtemp  mtemp     sm    mem\n# Idx      W      C      C      %      %\n    0     21     37\n",
            {},
        ),
        ("", {}),
    ],
)
def test_recordings_of_gpus(text, said):
    assert metrics_fields(text.encode()) == said


def test_of_several_attempts_the_last_one_counts():
    header = b"timestamp, memory.used [MiB]\n"
    crowded = header + b"1, 81000 MiB\n" + header + b"2, 41984 MiB\n"
    assert metrics_fields(crowded) == {"process_peak_gib": 41.0}
    assert metrics_fields(crowded + header) == {}
