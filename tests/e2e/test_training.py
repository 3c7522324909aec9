"""The real recipes train two steps on a tiny model with the files runplan writes."""

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tiny_training import GLOO, WIDE, make_dataset, make_tiny_model, planned, row
from trained_runs import HOSTILE, make_tiny_mistral, make_tiny_qwen, write

from runplan.recipe import choose_recipe

pytestmark = [pytest.mark.trainer, pytest.mark.filterwarnings("ignore")]

SHAPES = [
    (kind, packed, val) for kind in ("instruct", "chat", "text") for packed in (False, True) for val in (False, True)
]


@pytest.fixture(scope="module", autouse=True)
def environment(tmp_path_factory):
    """torchtune, imported once; nothing is looked up in the network or kept in the home directory."""
    pytest.importorskip("torchtune", reason="torchtune is not installed in this environment")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_HOME", str(tmp_path_factory.mktemp("hf")))
        patch.setenv("HF_HUB_OFFLINE", "1")
        patch.setenv("OMP_NUM_THREADS", "1")
        yield


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return make_tiny_model(tmp_path_factory.mktemp("models") / "Tiny 'Llama' $(x) [3]")


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return make_dataset(tmp_path_factory.mktemp("data [1]*?") / "words é 'x'.json")


def train(run, folder, monkeypatch):
    """Run the recipe in this process, as `tune run` would; returns what it logged, by step."""
    import torchtune
    from torchtune.config._utils import _merge_yaml_and_cli_args

    write(run, folder)
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(str(folder))
    sys.modules.pop("run_prompt", None)
    stock = Path(torchtune.__file__).parent.parent / "recipes" / f"{run.recipe.name}.py"
    module = load(folder / run.recipe.shipped if run.recipe.shipped else stock)
    name = "LoRAFinetuneValRecipeSingleDevice" if run.recipe.shipped else "LoRAFinetuneRecipeSingleDevice"
    from argparse import Namespace

    from omegaconf import OmegaConf

    cfg = _merge_yaml_and_cli_args(Namespace(**OmegaConf.to_container(OmegaConf.load("finetune.yaml"))), [])
    torchtune.config.log_config(recipe_name=name, cfg=cfg)
    recipe = getattr(module, name)(cfg=cfg)
    recipe.setup(cfg=cfg)
    recipe.train()
    recipe.cleanup()
    return logged(folder)


def load(path):
    spec = importlib.util.spec_from_file_location("recipe_under_test", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def logged(folder):
    (file,) = (folder / "logs").glob("log_*.txt")
    steps: dict[str, list[float]] = {}
    for line in file.read_text().splitlines():
        for key, value in re.findall(r"(\w+):([-+.\w]+)", line):
            steps.setdefault(key, []).append(float(value))
    return steps


@pytest.mark.parametrize(("kind", "packed", "validation"), SHAPES)
def test_two_steps(kind, packed, validation, model, dataset, tmp_path, monkeypatch):
    # packed, the 24 short rows fill few sequences
    small = {"batch_size": 1, "gradient_accumulation_steps": 1} if packed else {}
    settings = {"dataset__type": kind, "packed": packed, "validation": validation, **small}
    run = planned(model, dataset, **settings)
    metrics = train(run, tmp_path / "a'; echo x", monkeypatch)
    assert len(metrics["loss"]) == 2
    assert all(0 < loss < 20 for loss in metrics["loss"])
    assert len(metrics.get("val_loss", [])) == (2 if validation else 0)
    saved = {path.name for path in (tmp_path / "a'; echo x/artifacts/epoch_0").iterdir()}
    assert {"adapter_config.json", "config.json", "model.safetensors.index.json"} <= saved


@pytest.mark.parametrize("dropout", [0.0, 0.2])
def test_validation_leaves_training_alone(dropout, model, dataset, tmp_path, monkeypatch):
    runs = [
        planned(model, dataset, lora__dropout=dropout, validation=v, trainer__max_steps_per_epoch=5)
        for v in (False, True)
    ]
    plain, validated = (train(run, tmp_path / run.recipe.name, monkeypatch) for run in runs)
    assert len(plain["loss"]) == 5
    assert plain["loss"] == validated["loss"]


def test_validation_loss_is_the_mean_over_tokens(model, dataset, tmp_path, monkeypatch):
    """Seven rows of unequal length: batches of 1 and of 3 (3 + 3 + 1) must agree."""
    losses = []
    for rows in (1, 3):
        run = planned(model, dataset, optimizer__lr=0.0, batch_size=rows)
        losses.append(train(run, tmp_path / str(rows), monkeypatch)["val_loss"][0])
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


def test_saving_on_a_cpu_does_not_change_the_weights(model, dataset, tmp_path, monkeypatch):
    """The stock recipe merges the adapters into the live weights; ours puts them back."""
    losses = []
    for adapters_only in (False, True):
        settings = {"epochs": 3, "optimizer__lr": 0.05, "trainer__save_adapter_weights_only": adapters_only}
        losses.append(train(planned(model, dataset, **settings), tmp_path / str(adapters_only), monkeypatch)["loss"])
    assert losses[0] == losses[1]
    assert len(losses[0]) == 6


@pytest.mark.parametrize("validation", [True, False])
def test_a_base_in_four_bits_is_saved_merged_and_whole(validation, dataset, tmp_path, monkeypatch):
    """What is saved is the unpacked base with the adapters in it, in the trainer's own format."""
    from safetensors.torch import load_file
    from torchao.dtypes.nf4tensor import to_nf4

    wide = make_tiny_model(tmp_path / "wide", **WIDE)
    settings = {"lora__quantize_base": True, "validation": validation, "epochs": 2, "optimizer__lr": 0.05}
    losses = []
    for adapters_only in (True, False):
        run = planned(wide, dataset, **settings, trainer__save_adapter_weights_only=adapters_only)
        losses.append(train(run, tmp_path / f"run{adapters_only}", monkeypatch)["loss"])
    assert losses[0] == losses[1]
    assert losses[0][-1] != losses[0][0]
    adapters = load_file("artifacts/epoch_1/adapter_model.safetensors")
    saved, base = (
        {name: value for file in Path(folder).glob("model-*.safetensors") for name, value in load_file(file).items()}
        for folder in ("artifacts/epoch_1", wide.path)
    )
    assert saved.keys() == base.keys()
    for layer in ("v_proj", "o_proj", "down_proj"):  # rows of q and k have another order in Hugging Face's files
        (name,) = (name for name in saved if f"layers.1.{'mlp' if 'down' in layer else 'self_attn'}.{layer}" in name)
        adapter = f"base_model.model.{name.removesuffix('.weight')}"
        down, up = (adapters[f"{adapter}.lora_{part}.weight"].float() for part in "AB")
        unpacked = to_nf4(base[name]).get_original_weight().float()
        assert (saved[name].float() - unpacked - 2 * up @ down).abs().max() < 0.03 * unpacked.abs().max(), name
        assert (saved[name].float() - unpacked).abs().max() > 0.05 * unpacked.abs().max(), name


def test_hostile_prompts_reach_the_tokens(model, dataset, tmp_path, monkeypatch):
    prompt = 'Word: {input} "${y}" \\ é\n"""'
    run = planned(model, dataset, system_prompt=HOSTILE, prompt=prompt, max_seq_len=512)
    train(run, tmp_path, monkeypatch)
    from omegaconf import OmegaConf
    from torchtune import config

    cfg = OmegaConf.load("finetune.yaml")
    tokenizer = config.instantiate(cfg.tokenizer)
    text = tokenizer.decode(config.instantiate(cfg.dataset, tokenizer)[0]["tokens"], skip_special_tokens=False)
    assert HOSTILE in text
    assert prompt.replace("{input}", row("train", 0)["input"]) in text


def test_untied_model_by_dimensions(dataset, tmp_path, monkeypatch):
    untied = make_tiny_model(tmp_path / "untied", tie_word_embeddings=False, rope_scaling_factor=8.0, family="llama3_1")
    run = planned(untied, dataset, model__tie_word_embeddings=False, model__family="llama3_1")
    assert len(train(run, tmp_path / "run", monkeypatch)["loss"]) == 2


def test_constant_learning_rate(model, dataset, tmp_path, monkeypatch):
    run = planned(model, dataset, optimizer__lr_scheduler="none", optimizer__lr=1e-5)
    assert set(train(run, tmp_path, monkeypatch)["lr"]) == {1e-5}


def test_tune_runs_the_shipped_recipe(model, dataset, tmp_path):
    run = planned(model, dataset)
    write(run, tmp_path)
    done = start(("tune", "run", run.recipe.shipped, "--config", "finetune.yaml"), tmp_path)
    assert done.returncode == 0, done.stderr
    assert re.search(r"Validation loss: \d+\.\d+ \| step 2 \| 4 batches", done.stderr)
    assert sorted(path.name for path in tmp_path.iterdir() if path.name != "__pycache__") == sorted(
        ["artifacts", "finetune.yaml", "logs", "resume.py", run.recipe.shipped]
    )


def start(command, folder):
    scripts = Path(sys.executable).parent
    environment = os.environ | {"PATH": f"{scripts}:{os.environ['PATH']}", "PYTHONDONTWRITEBYTECODE": ""}
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300, check=False
    )


def test_distributed_validates_and_continues(model, dataset, tmp_path):
    """On CPUs with gloo: the recipe asks for NCCL and CUDA's memory statistics, which are replaced."""
    several = {"resources__gpus": 2, "trainer__device": "cuda", "dtype": "fp32", "epochs": 2}
    run = planned(model, dataset, **several, batch_size=2, optimizer__lr=0.01)
    assert run.recipe == choose_recipe(run.config)
    write(run, tmp_path)
    text = (tmp_path / "finetune.yaml").read_text()
    (tmp_path / "finetune.yaml").write_text(
        text.replace("device: cuda", "device: cpu").replace("fused: true", "fused: false")
    )
    (tmp_path / "shim.py").write_text(GLOO)
    command = ("tune", "run", "--nproc_per_node", "2", "shim.py", "--config", "finetune.yaml")
    done = start(command, tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    metrics = logged(tmp_path)
    assert len(metrics["loss"]) == len(metrics["val_loss"]) == 4
    shutil.rmtree(tmp_path / "logs")
    adapter = "checkpointer.adapter_checkpoint=epoch_0/adapter_model.pt"
    state = "checkpointer.recipe_checkpoint=recipe_state/recipe_state.pt"
    again = start((*command, "resume_from_checkpoint=true", state, adapter), tmp_path)
    assert again.returncode == 0, again.stderr[-3000:]
    assert logged(tmp_path)["loss"] == pytest.approx(metrics["loss"][2:], rel=1e-5)


@pytest.mark.parametrize("kind", ["instruct", "text"])
def test_qwen(kind, dataset, tmp_path, monkeypatch):
    qwen = make_tiny_qwen(tmp_path / "qwen")
    run = planned(qwen, dataset, model="hf", dataset__type=kind, prompt="Word: {input}", system_prompt="Be brief.")
    metrics = train(run, tmp_path / "run", monkeypatch)
    assert len(metrics["loss"]) == len(metrics["val_loss"]) == 2


@pytest.mark.parametrize(("kind", "packed"), [("chat", True), ("text", False)])
def test_mistral(kind, packed, dataset, tmp_path, monkeypatch):
    mistral = make_tiny_mistral(tmp_path / "mistral")
    small = {"batch_size": 1, "gradient_accumulation_steps": 1} if packed else {}
    settings = {"dataset__type": kind, "packed": packed, "prompt": "Word: {input}", "system_prompt": "Be brief."}
    run = planned(mistral, dataset, model="hf", **settings, **small)
    metrics = train(run, tmp_path / "run", monkeypatch)
    assert len(metrics["loss"]) == len(metrics["val_loss"]) == 2
