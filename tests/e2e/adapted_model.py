"""Makes a tiny Llama twice, as it is and adapted, into the folder that is the argument; run by test_cells.py.

`base` is the model, `merged` the same with adapters merged in and the adapters beside it, as torchtune saves an epoch,
`adapter` the adapters alone with the other files of the base. `said.json` is what each answers to the first word.
"""

import json
import shutil
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

RANK = 4
ALPHA = 8.0
TEMPLATE = "{{ bos_token }}{% for m in messages %}[{{ m['role'] }}]{{ m['content'] }}{% endfor %}[assistant]"


def make_tokenizer() -> PreTrainedTokenizerFast:
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    made = Tokenizer(models.BPE(vocab={letter: i for i, letter in enumerate(letters)}, merges=[]))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(
        tokenizer_object=made, bos_token="<|begin|>", eos_token="<|end|>", chat_template=TEMPLATE
    )


def answer(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, words: list[dict[str, str]]) -> str:
    text = tokenizer.apply_chat_template(words, tokenize=False)
    asked = tokenizer(text, return_tensors="pt", add_special_tokens=False).input_ids
    said = model.generate(asked, max_new_tokens=8, do_sample=False)[0][asked.shape[1] :]
    return tokenizer.decode(said, skip_special_tokens=True)


def main(folder: Path) -> None:
    torch.manual_seed(0)
    tokenizer = make_tokenizer()
    shape = {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 4, "num_key_value_heads": 2}
    config = LlamaConfig(vocab_size=len(tokenizer), num_hidden_layers=2, max_position_embeddings=512, **shape)
    model = LlamaForCausalLM(config)
    base, merged, adapter = (folder / name for name in ("base", "merged", "adapter"))
    words = [{"role": "system", "content": "null"}, {"role": "user", "content": "Say, word: # 'q' 1e-5"}]
    model.save_pretrained(base)
    said = {"base": answer(model, tokenizer, words)}
    weights = {}
    for name, module in model.named_modules():
        if name.endswith(("q_proj", "v_proj")):
            down, up = torch.randn(RANK, module.in_features), torch.randn(module.out_features, RANK)
            module.weight.data += ALPHA / RANK * up @ down
            weights |= {
                f"base_model.model.{name}.lora_A.weight": down,
                f"base_model.model.{name}.lora_B.weight": up,
            }
    model.save_pretrained(merged)
    said["merged"] = said["adapter"] = answer(model, tokenizer, words)
    adapter.mkdir()
    config.save_pretrained(adapter)
    facts = {"r": RANK, "lora_alpha": ALPHA, "target_modules": ["q_proj", "v_proj"], "peft_type": "LORA"}
    for place in (merged, adapter):
        save_file(weights, place / "adapter_model.safetensors")
        (place / "adapter_config.json").write_text(json.dumps(facts | {"base_model_name_or_path": "org/elsewhere"}))
    for place in (base, merged, adapter):
        tokenizer.save_pretrained(place)
    shutil.copy(base / "generation_config.json", adapter)
    (folder / "said.json").write_text(json.dumps(said))


main(Path(sys.argv[1]))
