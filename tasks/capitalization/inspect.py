"""Capitalization: does the model answer a word with the same word and a capital, and nothing else?

    inspect eval tasks/capitalization/inspect.py --model hf/local -M model_path=… -T data_path=/data/words.json

Greedy decoding with Hugging Face models is `-M do_sample=false`; a temperature of 0 is refused there.
"""

import json
from pathlib import Path

from inspect_ai import Task, task
from inspect_ai.dataset import MemoryDataset, Sample
from inspect_ai.model import ChatMessage, ChatMessageSystem, ChatMessageUser
from inspect_ai.scorer import match
from inspect_ai.solver import generate


@task
def capitalization(
    data_path: str,
    split: str = "test",
    system_prompt: str = "",
    prompt: str = "{input}",
    input_column: str = "input",
    output_column: str = "output",
) -> Task:
    """Exact, case-sensitive match on one split of the data.

    Args:
        data_path: the JSON file with the splits; absolute, since Inspect runs tasks in their own folder.
        split: key of the rows that are asked.
        system_prompt: as in training; empty = none.
        prompt: as in training; `{input}` is the row's input.
        input_column: column of the word.
        output_column: column of the expected answer.
    """
    rows = json.loads(Path(data_path).read_text(encoding="utf-8"))[split]
    samples = [
        Sample(input=_messages(row[input_column], system_prompt, prompt), target=row[output_column], id=i)
        for i, row in enumerate(rows, 1)
    ]
    return Task(
        dataset=MemoryDataset(samples, name=Path(data_path).stem, location=data_path),
        solver=generate(),
        scorer=match("exact", ignore_case=False),  # the default ignores case, and every base model would score 1.0
    )


def _messages(word: str, system_prompt: str, prompt: str) -> list[ChatMessage]:
    system: list[ChatMessage] = [ChatMessageSystem(content=system_prompt)] if system_prompt else []
    return [*system, ChatMessageUser(content=prompt.replace("{input}", word))]
