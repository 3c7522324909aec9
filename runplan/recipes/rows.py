"""The rows of a run as TRL reads them, from the data file as it is; standard library only.

    python rows.py rows.json FOLDER

Writes `train.jsonl` (and `validation.jsonl`, where the run validates) into the folder: a row is `{"messages": […]}`,
with the run's system prompt in it and its prompt around every user turn. `rows.json` says which file, which of its
keys and columns, and what is put around them. The data file itself is only read.
"""

import json
import os
import sys
from pathlib import Path


def read_document(path):
    """What a JSON file holds; of JSON lines the list of them."""
    text = Path(path).read_bytes().decode("utf-8-sig")
    try:
        return json.loads(text)
    except ValueError:
        return [json.loads(line) for line in text.splitlines() if line.strip()]


def text_of(content):
    """The text of a message: a string, or a list of text parts."""
    if isinstance(content, str):
        return content
    return "".join(part["text"] for part in content)


def messages_of(row, asked):
    """The conversation that a row becomes."""
    columns = asked["columns"]
    if asked["type"] == "text":
        return [("user", row[columns["text"]])]
    if asked["type"] == "chat":
        turns = [(message["role"], text_of(message["content"])) for message in row[columns["messages"]]]
    else:
        turns = [("user", row[columns["input"]]), ("assistant", row[columns["output"]])]
    if asked["system_prompt"]:
        turns = [("system", asked["system_prompt"]), *(turn for turn in turns if turn[0] != "system")]
    return [(role, asked["prompt"].replace("{input}", text) if role == "user" else text) for role, text in turns]


def write_rows(rows, asked, target):
    """Write the conversations of rows, one a line; the file is there whole or not at all."""
    beside = target.with_name(f".{target.name}.{os.getpid()}")
    with beside.open("w", encoding="utf-8") as file:
        for row in rows:
            messages = [{"role": role, "content": text} for role, text in messages_of(row, asked)]
            file.write(json.dumps({"messages": messages}) + "\n")
    beside.replace(target)


def main(asked_file, folder):
    """Write every split that is asked for."""
    asked = json.loads(Path(asked_file).read_text(encoding="utf-8"))
    document = read_document(asked["source"])
    Path(folder).mkdir(parents=True, exist_ok=True)
    for name, split in asked["splits"].items():
        rows = document if split["field"] is None else document[split["field"]]
        write_rows(rows[: split["rows"]], asked, Path(folder) / f"{name}.jsonl")


if __name__ == "__main__":
    main(*sys.argv[1:])
