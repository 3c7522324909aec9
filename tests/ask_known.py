"""What an interview may know, for tests without conf folders or disk."""

from runplan.ask.known import Known, Thing
from runplan.facts import Status
from runplan.plan import Check

KNOWN = Known(
    chosen={"site": "local", "model": "1B", "dataset": "capitalization", "resources": "a100-80",
            "evaluation": "capitalization", "trainer": "torchtune"},
    values={"lora.quantize_base": "false", "lora.rank": "8",
            "optimizer.lr": "3e-4", "epochs": "1", "max_seq_len": "2048", "packed": "auto",
            "naming": "short", "seed": "14", "system_prompt": "", "prompt": "{input}", "validation": "true",
            "controls": "true", "resources.gpus": "1"},
    sites=(Thing("local"), Thing("della")),
    models=(Thing("1B", path="/m/1B"), Thing("3B"), Thing("./models/own", path="./models/own")),
    datasets=(Thing("capitalization", kind="json"), Thing("./data/a.json", path="./data/a.json", kind="json"),
              Thing("./data/c.json", path="./data/c.json", kind="chat"),
              Thing("./tasks/t/input/b.json", path="./tasks/t/input/b.json", kind="json")),
    evaluations=(Thing("capitalization"), Thing("none"), Thing("./tasks/t/inspect.py")),
    gpus=(Thing("a100-80"), Thing("h100-80"), Thing("v100-32")),
)  # fmt: skip
MISSING_DATA = Check("dataset", "capitalization", "/d.json", Status.missing, "not there", "dataset.create=true")
MISSING_MODEL = Check("model", "1B", "/m", Status.missing, "no such folder", "hf download x")
