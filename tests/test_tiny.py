import pytest

from runplan import tiny
from runplan.config import Model
from runplan.errors import StoreError
from runplan.facts import Architecture, Status
from runplan.read.model import read_model

TEXTS = [
    "hello",
    " Hello  world\n\n",
    "naïve Ünïcode 漢字 🙂",
    "it's 12345 o'clock",
    "<|eot_id|>",
    "tab\tand\r\nlines  ",
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("models") / "Tiny-Llama-3.2"
    tiny.create(path)
    return path


def test_the_folder_passes_verification(folder):
    facts = read_model(folder, Model(name="tiny", family="auto"))
    assert facts.findings == ()
    assert facts.status is Status.ok
    assert facts.architecture == tiny.TINY
    assert facts.params == tiny.TINY.params == 155_968
    assert len(facts.shards) == 2
    assert facts.chat_template
    assert facts.special_tokens


def test_the_same_arguments_give_the_same_bytes():
    assert tiny.tiny_files(seed=3) == tiny.tiny_files(seed=3)
    assert tiny.tiny_files(seed=3) != tiny.tiny_files(seed=4)


def test_ids_of_special_tokens_are_llama_3s_counted_from_256(folder):
    special = tiny.special_tokens()
    assert special["<|begin_of_text|>"] == 256
    assert special["<|eot_id|>"] == 256 + 9
    assert sorted(special.values()) == list(range(256, 512))


def test_another_shape_is_made_as_asked(tmp_path):
    shape = Architecture("llama3", 32, 1, 2, 2, 16, 64, 300, 128, tie_word_embeddings=False, rope_theta=500000.0)
    tiny.create(tmp_path / "m", shape)
    facts = read_model(tmp_path / "m", Model(name="tiny", family="auto"))
    assert facts.findings == ()
    assert facts.architecture == shape


def test_a_vocabulary_too_small_for_bytes_and_special_tokens_is_refused():
    shape = Architecture("llama3", 32, 1, 2, 2, 16, 64, 260, 128)
    with pytest.raises(StoreError, match=r"vocab_size 260 .* need 269"):
        tiny.tiny_files(shape)


def test_an_existing_folder_is_never_written_over(tmp_path):
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "mine").write_text("kept")
    with pytest.raises(StoreError, match="there already"):
        tiny.create(tmp_path / "m")
    assert [path.name for path in tmp_path.rglob("*")] == ["m", "mine"]


def test_a_parent_that_is_a_file_is_an_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot be written"):
        tiny.create(tmp_path / "file" / "m")


def torchtune_model(folder, output_dir):
    from torchtune.models.llama3_2 import llama3_2
    from torchtune.training import FullModelHFCheckpointer

    checkpointer = FullModelHFCheckpointer(
        checkpoint_dir=str(folder),
        checkpoint_files=["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"],
        model_type="LLAMA3_2",
        output_dir=str(output_dir),
    )
    shape = tiny.TINY
    model = llama3_2(
        vocab_size=shape.vocab_size,
        num_layers=shape.num_hidden_layers,
        num_heads=shape.num_attention_heads,
        num_kv_heads=shape.num_key_value_heads,
        embed_dim=shape.hidden_size,
        max_seq_len=2048,
        intermediate_dim=shape.intermediate_size,
    )
    model.load_state_dict(checkpointer.load_checkpoint()["model"])  # strict: every name and shape
    return model.float()


@pytest.mark.trainer
@pytest.mark.filterwarnings("default")
def test_torchtune_and_tokenizers_agree_token_for_token(folder):
    from tokenizers import Tokenizer
    from torchtune.models.llama3 import llama3_tokenizer

    ours = llama3_tokenizer(
        path=str(folder / "original/tokenizer.model"), special_tokens_path=str(folder / "tokenizer.json")
    )
    theirs = Tokenizer.from_file(str(folder / "tokenizer.json"))
    theirs.encode_special_tokens = True
    for text in TEXTS:
        assert ours.encode(text, add_bos=False, add_eos=False) == theirs.encode(text, add_special_tokens=False).ids


@pytest.mark.evaluation
@pytest.mark.filterwarnings("default")
def test_transformers_loads_it_and_renders_the_chat_format(folder):
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder)
    assert model.num_parameters() == tiny.TINY.params
    text = tokenizer.apply_chat_template(
        [{"role": "user", "content": " hi "}], add_generation_prompt=True, tokenize=False
    )
    assert text == (
        "<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\nhi<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\n"
    )
    assert tokenizer("héllo")["input_ids"] == [256, *"héllo".encode()]
    assert tokenizer.decode(list("漢字".encode())) == "漢字"
    ids = torch.tensor([tokenizer("hello")["input_ids"]])
    assert torch.isfinite(model(ids).logits).all()


@pytest.mark.trainer
@pytest.mark.evaluation
@pytest.mark.filterwarnings("default")
def test_torchtune_and_transformers_compute_the_same_logits(folder, tmp_path):
    import torch
    from transformers import AutoModelForCausalLM

    ours = torchtune_model(folder, tmp_path)
    theirs = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    ids = torch.tensor([[256, *b"some words to compare"]])
    with torch.no_grad():
        torch.testing.assert_close(ours(ids), theirs(ids).logits, atol=1e-4, rtol=1e-3)
