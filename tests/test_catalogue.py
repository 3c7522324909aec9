import os

import pytest
from estimate_cases import LLAMA_1B, LLAMA_3B

from runplan import catalogue
from runplan.paths import CONF_DIR


@pytest.fixture
def conf(tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "resources").mkdir()
    return tmp_path


def test_shipped_models_are_found_by_every_name():
    models = catalogue.models([CONF_DIR])
    assert (
        models["1B"]
        == models["Llama-3.2-1B-Instruct"]
        == models["meta-llama/Llama-3.2-1B-Instruct"]
        == LLAMA_1B.__class__(**{**LLAMA_1B.__dict__, "rope_theta": 500000.0, "rope_scaling_factor": 32.0})
    )
    assert models["3B"].hidden_size == LLAMA_3B.hidden_size
    assert models["3B"].vocab_size == LLAMA_3B.vocab_size


def test_shipped_gpus_are_found_by_name():
    gpu = catalogue.gpus([CONF_DIR])["a100-80"]
    assert (gpu.name, gpu.bf16_tflops) == ("a100-80", 312.0)
    assert 78 < gpu.memory_gib < 80


def test_a_users_file_wins_and_adds(conf):
    (conf / "model" / "1B.yaml").write_text("name: 1B\nhidden_size: 64\n")
    (conf / "model" / "mine.yaml").write_text(
        "defaults:\n  - _request\n  - parent\n  - _self_\nname: mine\nhidden_size: 128\n"
    )
    parent = (CONF_DIR / "model" / "1B.yaml").read_text()
    (conf / "model" / "parent.yaml").write_text(parent)
    models = catalogue.models([conf, CONF_DIR])
    assert models["mine"].hidden_size == 128
    assert models["mine"].num_hidden_layers == 16
    assert "3B" in models


def test_open_or_broken_files_are_left_out(conf):
    (conf / "model" / "hf.yaml").write_text("name: hf\nhidden_size: ???\n")
    (conf / "model" / "broken.yaml").write_text("name: [\n")
    (conf / "model" / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    (conf / "model" / "loop.yaml").write_text("defaults:\n  - loop\nname: loop\n")
    (conf / "resources" / "mine.yaml").write_text("gpu: ${gpu}\ngpu_memory_gib: 10\n")
    assert catalogue.models([conf]) == {}
    assert catalogue.gpus([conf]) == {}
    assert catalogue.models([conf / "absent"]) == {}


def test_an_edited_file_is_read_again(conf):
    path = conf / "resources" / "mine.yaml"
    text = "gpu: mine\ngpu_memory_gib: {}\nmemory_bandwidth_gb_per_s: 900\nbf16_tflops: 100\nfp32_tflops: 10\n"
    path.write_text(text.format(10))
    assert catalogue.gpus([conf])["mine"].memory_gib == 10
    path.write_text(text.format(20))
    os.utime(path, ns=(1, 1))
    assert catalogue.gpus([conf])["mine"].memory_gib == 20
