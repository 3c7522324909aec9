import json
import os
import shutil
import struct
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from factories import make_architecture, make_config
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from runplan import tiny
from runplan.config import Model
from runplan.facts import Status
from runplan.read.cache import Cache
from runplan.read.folder import Folder
from runplan.read.hf_config import architecture_from_json, configured_architecture, disagreements
from runplan.read.model import read_model
from runplan.read.weights import WeightsError, read_shard

SHARDS = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 123\n"
HF = Model(name="hf", family="auto", repo_id="meta-llama/Llama-3.2-1B-Instruct")
LLAMA_1B = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 2048,
    "num_hidden_layers": 16,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "head_dim": 64,
    "intermediate_size": 8192,
    "vocab_size": 128256,
    "max_position_embeddings": 131072,
    "rope_theta": 500000.0,
    "rope_scaling": {"factor": 32.0, "rope_type": "llama3"},
    "rms_norm_eps": 1e-05,
    "tie_word_embeddings": True,
}
ONE_B = Model(
    name="1B",
    full_name="Llama-3.2-1B-Instruct",
    family="llama3_2",
    repo_id="meta-llama/Llama-3.2-1B-Instruct",
    **{key: value for key, value in LLAMA_1B.items() if key not in {"architectures", "model_type", "rope_scaling"}},
    rope_scaling_factor=32.0,
    attention_bias=False,
)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    path = tmp_path_factory.mktemp("made") / "m"
    tiny.create(path)
    return path


@pytest.fixture
def folder(made, tmp_path):
    path = tmp_path / "models" / "Some Model"
    shutil.copytree(made, path)
    return path


def edit(path, **changes):
    data = json.loads(path.read_text())
    path.write_text(json.dumps({key: value for key, value in (data | changes).items() if value is not ...}))


def details(facts):
    return " | ".join(finding.detail for finding in facts.findings)


def test_a_whole_folder_has_no_findings(folder):
    facts = read_model(folder, HF)
    assert (facts.status, facts.findings, facts.shards) == (Status.ok, (), SHARDS)
    assert facts.size_bytes == sum((folder / name).stat().st_size for name in SHARDS)
    assert (facts.dtype, facts.params) == ("bf16", 155_968)
    assert (facts.tokenizer, facts.tiktoken) == ("tokenizer.json", "original/tokenizer.model")


# --- the folder


def test_a_missing_folder_carries_the_command_that_gets_it_and_near_names(folder):
    facts = read_model(folder.with_name("Some Modle"), ONE_B)
    assert facts.status is Status.missing
    assert facts.findings[0].detail.startswith("no such folder; there is Some Model")
    assert "accept https://huggingface.co/meta-llama/Llama-3.2-1B-Instruct once" in facts.findings[0].detail
    assert facts.findings[0].fix == (
        f"hf download meta-llama/Llama-3.2-1B-Instruct --local-dir '{folder.parent}/Some Modle' "
        "--exclude 'original/consolidated*'"
    )
    assert facts.architecture is not None
    assert facts.architecture.params == pytest.approx(1.236e9, rel=1e-3)


def test_without_repo_id_the_fix_says_what_to_set(tmp_path):
    assert "model.repo_id" in read_model(tmp_path / "x", Model(name="hf", family="auto")).findings[0].fix


def test_a_file_in_place_of_the_folder(tmp_path):
    (tmp_path / "m").write_text("x")
    facts = read_model(tmp_path / "m", HF)
    assert (facts.status, facts.findings[0].detail) == (Status.invalid, "is a file, not a model folder")


def test_links_in_a_circle_are_said_not_raised(tmp_path):
    (tmp_path / "a").symlink_to(tmp_path / "b")
    (tmp_path / "b").symlink_to(tmp_path / "a")
    assert read_model(tmp_path / "a", HF).status in {Status.missing, Status.invalid}


def test_a_folder_that_may_not_be_listed_is_said_not_raised(folder, monkeypatch):
    def refuse(self):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "iterdir", refuse)
    facts = read_model(folder, HF)
    assert (facts.status, facts.findings[0].detail) == (Status.invalid, "cannot be looked at: Permission denied")


@pytest.mark.parametrize("name", ["config.json", SHARDS[0], "model.safetensors.index.json", "tokenizer.json"])
def test_a_pipe_in_place_of_a_file_is_not_waited_for(folder, name):
    (folder / name).unlink()
    os.mkfifo(folder / name)
    assert read_model(folder, HF).status in {Status.missing, Status.invalid}


@pytest.mark.parametrize("name", ["config.json", *SHARDS, "tokenizer.json", "model.safetensors.index.json"])
def test_a_link_to_nothing_is_as_good_as_nothing(folder, name):
    (folder / name).unlink()
    (folder / name).symlink_to("nowhere")
    assert read_model(folder, HF).status in {Status.missing, Status.invalid}


def test_the_cache_of_hugging_face_points_to_its_snapshot(folder):
    cached = folder.parent / "models--meta-llama--x"
    (cached / "blobs").mkdir(parents=True)
    (cached / "snapshots").mkdir()
    folder.rename(cached / "snapshots" / "abc")
    finding = read_model(cached, HF).findings[0]
    assert finding.fix == f"set model.path={cached}/snapshots/abc"


def test_an_adapter_beside_whole_weights_would_count_twice(folder):
    (folder / "adapter_config.json").write_text("{}")
    (folder / "adapter_model.safetensors").write_bytes(b"")
    facts = read_model(folder, HF)
    assert facts.status is Status.invalid
    subprocess.run(["bash", "-c", facts.findings[0].fix], check=True)
    assert read_model(folder, HF).status is Status.ok


def test_of_a_missing_folder_that_nothing_describes_config_json_is_enough(tmp_path):
    (said,) = read_model(tmp_path / "x", replace(HF, repo_id="org/x")).findings
    assert said.detail == "no such folder; its config.json is enough to plan"
    assert said.fix == f"hf download org/x config.json --local-dir {tmp_path / 'x'}"
    (said,) = read_model(tmp_path / "x", replace(HF, repo_id=None)).findings
    assert said.fix.startswith("set model.path=DIR to the folder")


def test_an_empty_folder_lists_all_that_is_missing(tmp_path):
    facts = read_model(tmp_path, HF)
    assert facts.status is Status.missing
    for what in ("config.json is not there", "no weights", "tokenizer.json, which evaluation reads, is not there"):
        assert what in details(facts)


# --- config.json


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"{", "config.json is not JSON"),
        (b"[]", "holds a list"),
        (b"\xff\xfe\x00", "config.json is not JSON"),
        (b"[" * 100_000, "config.json is not JSON"),
        (b'{"model_type": "gemma", "architectures": ["GemmaForCausalLM"]}', "'gemma' (GemmaForCausalLM)"),
        (b"{}", "model_type None"),
        (b'{"model_type": "llama"}', "has no hidden_size"),
        (b'{"model_type": "llama", "hidden_size": "big"}', "says 'big' for hidden_size"),
        (b'{"model_type": "llama", "hidden_size": -2}', "says -2 for hidden_size"),
        (b'{"model_type": "llama", "hidden_size": true}', "says True for hidden_size"),
    ],
)
def test_a_bad_config_is_named(folder, text, said):
    (folder / "config.json").write_bytes(text)
    facts = read_model(folder, HF)
    assert facts.status is Status.invalid
    assert said in details(facts)


def test_a_folder_in_place_of_config_json(folder):
    (folder / "config.json").unlink()
    (folder / "config.json").mkdir()
    assert "config.json cannot be read" in details(read_model(folder, HF))


def test_a_key_that_config_json_has_twice_is_said_with_both_values(folder):
    path = folder / "config.json"
    text = path.read_text()
    path.write_text(text.replace("{", '{"hidden_act": "silu", "rope_theta": 7.0,', 1))
    facts = read_model(folder, HF)
    theta = facts.architecture.rope_theta
    assert facts.status is Status.unchecked
    assert f"config.json says rope_theta 7.0 and then {theta}, which counts" in details(facts)
    assert "hidden_act" not in details(facts)
    path.write_text(text.replace("{", f'{{"rope_theta": {theta},', 1))
    assert read_model(folder, HF).status is Status.ok


def test_disagreement_with_conf_names_both_numbers(folder):
    facts = read_model(folder, ONE_B)
    assert facts.status is Status.invalid
    assert "config.json has hidden_size 64, but model.hidden_size is 2048" in details(facts)
    assert facts.architecture.hidden_size == 64


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"vocab_size": 128300}, "config.json has vocab_size 128300, but model.vocab_size is 128256"),
        ({"tie_word_embeddings": False}, "tie_word_embeddings False, but model.tie_word_embeddings is True"),
    ],
)
def test_each_number_that_disagrees_is_said(changes, says):
    described = make_config().model
    (found,) = disagreements(replace(make_architecture(make_config()), **changes), described)
    assert says in found.detail
    assert found.status is Status.invalid
    assert found.fix


def test_a_model_that_claims_nothing_cannot_disagree():
    assert disagreements(make_architecture(make_config()), make_config(model="hf").model) == []


def test_a_quantized_model_is_refused(folder):
    edit(folder / "config.json", quantization_config={"quant_method": "gptq"})
    assert "quantization_config" in details(read_model(folder, HF))


def test_llama_3_2_1b_agrees_with_conf_and_counts_its_parameters():
    found = architecture_from_json(LLAMA_1B)
    assert found == configured_architecture(ONE_B)
    assert found.params == 1_235_814_400


@pytest.mark.parametrize(
    ("changes", "family"),
    [
        ({"rope_scaling": None}, "llama3"),
        ({"rope_scaling": {"factor": 8.0, "rope_type": "llama3"}}, "llama3_1"),
        ({"rope_scaling": None, "rope_theta": 10000.0, "vocab_size": 32000}, "llama2"),
        ({"rope_scaling": None, "rope_theta": None}, "llama2"),
        ({"model_type": "qwen2"}, "qwen2_5"),
        ({"model_type": "mistral", "rope_scaling": None, "rope_theta": 10000.0, "vocab_size": 32000}, "mistral"),
        ({"model_type": "qwen3", "rope_scaling": None}, "qwen3"),
        (
            {
                "rope_scaling": None,
                "rope_theta": None,
                "rope_parameters": {"rope_theta": 5e5, "rope_type": "llama3", "factor": 32.0},
            },
            "llama3_2",
        ),
    ],
)
def test_the_family_follows_from_vocabulary_and_rope(changes, family):
    assert architecture_from_json(LLAMA_1B | changes).family == family


@pytest.mark.parametrize(("said", "window"), [({}, 4096), ({"sliding_window": None}, None), ({"sliding_window": 8}, 8)])
def test_what_a_mistrals_config_leaves_out_is_as_transformers_has_it(said, window):
    """Its classes' own defaults, which v0.1 relied on; only Mistral's window is read."""
    without = {key: value for key, value in LLAMA_1B.items() if key != "num_key_value_heads"}
    found = architecture_from_json(without | {"model_type": "mistral", "attention_bias": True} | said)
    assert (found.sliding_window, found.num_key_value_heads, found.attention_bias) == (window, 8, False)
    assert architecture_from_json(LLAMA_1B | said).sliding_window is None


def test_heads_of_qwen3_are_as_wide_as_transformers_makes_them_and_their_norms_are_counted():
    small = {"hidden_size": 1024, "num_hidden_layers": 28, "num_attention_heads": 16, "intermediate_size": 3072}
    data = LLAMA_1B | small | {"model_type": "qwen3", "vocab_size": 151936, "rope_scaling": None}
    found = architecture_from_json({key: value for key, value in data.items() if key != "head_dim"})
    assert (found.head_dim, found.query_size, found.attention_bias) == (128, 2048, False)
    assert found.params == 596_049_920  # as the headers of Qwen3-0.6B's weights add up
    assert "'qwen3_moe'" in architecture_from_json({"model_type": "qwen3_moe"}).detail


def test_llama_3_3_keeps_its_name_though_config_json_cannot_tell_it_from_3_1(folder):
    edit(folder / "config.json", rope_scaling={"rope_type": "llama3", "factor": 8.0})
    facts = read_model(folder, Model(name="x", family="llama3_3"))
    assert (facts.architecture.family, facts.status) == ("llama3_3", Status.ok)


# --- weights


@pytest.mark.parametrize("keep", [0, 4, 8, 100, 5_000, 100_000])
def test_a_shard_cut_short_is_found_wherever_it_is_cut(folder, keep):
    shard = folder / SHARDS[1]
    shard.write_bytes(shard.read_bytes()[:keep])
    facts = read_model(folder, HF)
    assert facts.status is Status.invalid
    assert SHARDS[1] in facts.findings[0].detail
    assert facts.params is None
    assert facts.findings[0].fix == (
        f"rm '{shard}' && hf download meta-llama/Llama-3.2-1B-Instruct {SHARDS[1]} --local-dir '{folder}'"
    )


def test_a_cut_shard_names_both_numbers(folder):
    shard = folder / SHARDS[0]
    shard.write_bytes(shard.read_bytes()[:-1000])
    assert "is cut short: 187,672 of 188,672 bytes of weights are there" in details(read_model(folder, HF))


def test_bytes_too_many_are_found(folder):
    with (folder / SHARDS[0]).open("ab") as file:
        file.write(b"x" * 7)
    assert "188,679 bytes of weights, its header promises 188,672" in details(read_model(folder, HF))


def test_a_missing_shard_is_missing_and_named(folder):
    (folder / SHARDS[0]).unlink()
    facts = read_model(folder, HF)
    assert facts.status is Status.missing
    assert f"1 of 2 shards is not there: {SHARDS[0]}" in details(facts)


def test_an_lfs_pointer_is_pulled_not_downloaded(folder):
    (folder / SHARDS[0]).write_bytes(POINTER)
    facts = read_model(folder, HF)
    assert "is a Git LFS pointer" in details(facts)
    assert facts.findings[0].fix == f"git -C '{folder}' lfs pull"


def test_a_folder_in_place_of_a_shard(folder):
    (folder / SHARDS[0]).unlink()
    (folder / SHARDS[0]).mkdir()
    assert f"{SHARDS[0]} cannot be read" in details(read_model(folder, HF))


def test_an_index_that_disagrees_with_the_shards(folder):
    index = json.loads((folder / "model.safetensors.index.json").read_text())
    index["weight_map"]["lm_head.weight"] = SHARDS[0]
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    assert "disagree about lm_head.weight" in details(read_model(folder, HF))


@pytest.mark.parametrize(
    "text", ["{", "[]", "{}", '{"weight_map": 3}', '{"weight_map": {"a": 1}}', '{"weight_map": {}}']
)
def test_a_bad_index_is_named(folder, text):
    (folder / "model.safetensors.index.json").write_text(text)
    facts = read_model(folder, HF)
    assert facts.status is Status.invalid
    assert "model.safetensors.index.json" in details(facts)


def test_an_index_that_leads_out_of_the_folder_is_refused(folder):
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": "../../x.safetensors"}}))
    assert "which is no file here" in details(read_model(folder, HF))


def test_a_missing_index_is_missing(folder):
    (folder / "model.safetensors.index.json").unlink()
    facts = read_model(folder, HF)
    assert facts.status is Status.missing
    assert facts.findings[0].fix.endswith(f"model.safetensors.index.json --local-dir '{folder}'")


def test_one_file_instead_of_shards(folder):
    for name in (*SHARDS, "model.safetensors.index.json"):
        (folder / name).unlink()
    header = json.dumps({"w": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}}).encode()
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + bytes(24))
    facts = read_model(folder, HF)
    assert (facts.shards, facts.dtype, facts.params) == (("model.safetensors",), "fp32", 6)
    assert "hold 6 parameters, config.json describes 155,968" in details(facts)


def test_bin_files_only_are_said_to_be_unchecked(folder):
    for name in (*SHARDS, "model.safetensors.index.json"):
        (folder / name).unlink()
    (folder / "pytorch_model.bin").write_bytes(b"x" * 10)
    facts = read_model(folder, HF)
    assert (facts.status, facts.shards, facts.size_bytes) == (Status.unchecked, ("pytorch_model.bin",), 10)


@pytest.mark.parametrize(
    "header",
    [
        b"not json",
        b"[]",
        b'{"w": 3}',
        b'{"w": {"dtype": "F32", "shape": [2], "data_offsets": [0]}}',
        b'{"w": {"dtype": "F32", "shape": [2], "data_offsets": [0, 9]}}',
        b'{"w": {"dtype": "F32", "shape": "x", "data_offsets": [0, 8]}}',
    ],
)
def test_a_header_that_makes_no_sense(tmp_path, header):
    (tmp_path / "s").write_bytes(struct.pack("<Q", len(header)) + header + bytes(8))
    with pytest.raises(WeightsError):
        read_shard(tmp_path / "s")


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=400))
def test_garbage_in_place_of_a_shard_is_an_error_of_ours(tmp_path, content):
    (tmp_path / "s").write_bytes(content)
    with pytest.raises(WeightsError):
        read_shard(tmp_path / "s")


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.sampled_from(["config.json", "tokenizer.json", "tokenizer_config.json", "original/tokenizer.model"]), st.binary()
)
def test_garbage_in_any_file_never_raises(folder, name, content):
    (folder / name).write_bytes(content)
    read_model(folder, HF)


# --- tokenizer


def test_ids_beyond_the_embedding_name_both_numbers(folder):
    edit(folder / "config.json", vocab_size=500)
    assert "token id 511, the embedding has 500 rows (ids 0 to 499)" in details(read_model(folder, HF))


def test_an_added_token_beyond_the_embedding_is_found(folder):
    path = folder / "tokenizer.json"
    edit(path, added_tokens=[*json.loads(path.read_text())["added_tokens"], {"id": 512, "content": "<pad>"}])
    assert "token id 512" in details(read_model(folder, HF))


@pytest.mark.parametrize("name", ["tokenizer.json", "original/tokenizer.model"])
def test_a_missing_tokenizer_file_has_its_own_download(folder, name):
    (folder / name).unlink()
    facts = read_model(folder, HF)
    assert facts.status is Status.missing
    assert facts.findings[0].fix == f"hf download meta-llama/Llama-3.2-1B-Instruct {name} --local-dir '{folder}'"


def test_qwen_needs_vocab_and_merges(folder):
    edit(folder / "config.json", model_type="qwen2", rope_scaling=None)
    said = details(read_model(folder, HF))
    assert "vocab.json, which torchtune reads, is not there" in said
    assert "merges.txt, which torchtune reads, is not there" in said
    assert {finding.fix for finding in read_model(folder, HF).findings if "merges.txt" in finding.detail} == {
        f"hf download meta-llama/Llama-3.2-1B-Instruct vocab.json merges.txt --local-dir '{folder}'"
    }


def test_names_that_qwens_tokenizer_looks_up_have_to_be_there(folder):
    edit(folder / "config.json", model_type="qwen2", rope_scaling=None)
    for name in ("vocab.json", "merges.txt"):
        (folder / name).write_text("{}")
    said = details(read_model(folder, HF))
    assert "tokenizer.json does not name <|endoftext|>, <|im_start|>, <|im_end|>, <tool_call>, </tool_call>" in said
    assert "does not name" not in details(read_model(folder, HF, trainer="trl"))
    tokens = json.loads((folder / "tokenizer.json").read_text())["added_tokens"]
    names = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<tool_call>", "</tool_call>")
    edit(folder / "tokenizer.json", added_tokens=[tokens[0] | {"content": name} for name in names])
    assert "does not name" not in details(read_model(folder, HF))


@pytest.mark.parametrize(("repo", "left_out"), [("mistralai/Mistral-7B-v0.3", ""), ("a/b", "original/")])
def test_the_download_leaves_out_the_second_copy_of_the_weights_wherever_it_lies(repo, left_out, tmp_path):
    command = Folder(tmp_path, Model(name="m", family="auto", repo_id=repo)).download()
    assert command.endswith(f" --exclude '{left_out}consolidated*'")


@pytest.mark.parametrize("trainer", ["torchtune", "trl"])
def test_mistral_needs_tokenizer_json_alone_and_in_it_begin_and_end(folder, trainer):
    edit(folder / "config.json", model_type="mistral", rope_scaling=None, rope_theta=1e6, sliding_window=None)
    (folder / "original/tokenizer.model").unlink()
    (folder / "tokenizer.model").write_bytes(b"sentencepiece's, which is not read")
    facts = read_model(folder, HF, trainer=trainer)
    assert details(facts) == "tokenizer.json does not name <s>, </s>, with which texts begin and answers end"
    tokens = json.loads((folder / "tokenizer.json").read_text())["added_tokens"]
    edit(folder / "tokenizer.json", added_tokens=[tokens[0] | {"content": name} for name in ("<s>", "</s>")])
    assert read_model(folder, HF, trainer=trainer).status is Status.ok


def test_without_a_place_to_download_from_another_trainer_is_named(folder):
    (folder / "original/tokenizer.model").unlink()
    (finding,) = read_model(folder, Model(name="hf", family="auto")).findings
    assert finding.fix.endswith("; trainer=trl reads tokenizer.json alone")


@pytest.mark.parametrize("content", [b"", b"not a rank\n", b"AA== x\n", b"AA==\n", b"AA== 99999\n", POINTER])
def test_bad_ranks_are_invalid(folder, content):
    (folder / "original/tokenizer.model").write_bytes(content)
    facts = read_model(folder, HF)
    assert facts.status is Status.invalid
    assert "original/tokenizer.model" in details(facts)


def test_a_tokenizer_that_lacks_llama_3s_names_says_so(folder):
    path = folder / "tokenizer.json"
    tokens = [token for token in json.loads(path.read_text())["added_tokens"] if token["content"] != "<|image|>"]
    edit(path, added_tokens=tokens)
    assert not read_model(folder, HF).special_tokens


def test_a_chat_template_may_be_a_file_of_its_own(folder):
    edit(folder / "tokenizer_config.json", chat_template=...)
    assert not read_model(folder, HF).chat_template
    (folder / "chat_template.jinja").write_text("{{ messages }}")
    assert read_model(folder, HF).chat_template


def test_a_changed_tokenizer_is_read_again(folder, tmp_path):
    cache = Cache(tmp_path / "cache")
    assert read_model(folder, HF, cache).status is Status.ok
    path = folder / "tokenizer.json"
    path.write_text("{}")
    os.utime(path, ns=(1, 1))
    assert read_model(folder, HF, cache).status is Status.invalid
