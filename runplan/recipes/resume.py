"""What of a run's earlier attempts still counts, for finetune.slurm; standard library only.

    python resume.py EPOCHS [CONFIG…]

Prints three words: what to do, with which configuration, and the last epoch that is kept (-1: none).

- `complete CONFIG LAST`: the last attempt ended well, and its last epoch is there;
- `resume CONFIG EPOCH`: continue behind this epoch, which is saved whole, optimizer included;
- `start CONFIG -1`: begin anew; what is there is of another configuration, or was being written when the job ended.

The configuration is that of the last attempt: a smaller batch was chosen because a larger one did not fit. An attempt
counts only while its configuration is, byte for byte, the one it ran with.
"""

import hashlib
import json
import pickletools
import sys
import zipfile
from pathlib import Path

ARTIFACTS = Path("artifacts")
STATE = ARTIFACTS / "recipe_state" / "recipe_state.pt"  # torchtune's
CHECKPOINTS = "checkpoint-*"  # TRL's: adapters, optimizer, schedule, random numbers and where it was
EPOCHS_RUN = "epochs_run"  # torchtune 0.6.1, training/checkpointing/_utils.py: EPOCHS_KEY


def read_events(path):
    """The lines of jobs.jsonl about training, in order; a line that was cut short says nothing."""
    try:
        lines = Path(path).read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
    events = []
    for line in lines:
        try:
            event = json.loads(line)
        except ValueError:
            continue
        if isinstance(event, dict) and event.get("kind") == "train":
            events.append(event)
    return events


def digest(path):
    """SHA-256 of a file; None when it cannot be read."""
    try:
        return hashlib.sha256(Path(path).read_bytes()).hexdigest()
    except OSError:
        return None


def is_whole_archive(path):
    """Whether every byte of what `torch.save` wrote is there (a zip file with checksums)."""
    try:
        with zipfile.ZipFile(str(path)) as archive:
            return archive.testzip() is None
    except (OSError, ValueError, zipfile.BadZipFile):
        return False


def is_whole_safetensors(path):
    """Whether a file is as long as its header says."""
    try:
        with Path(path).open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            size = Path(path).stat().st_size
            if not 0 < length <= size - 8:
                return False
            header = json.loads(file.read(length).decode())
        ends = [entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"]
        return size == 8 + length + max(ends, default=0)
    except (OSError, ValueError, KeyError, TypeError, IndexError, AttributeError):
        return False


def is_whole_epoch(folder):
    """Whether an epoch's adapters, and its weights where it has any, are there to the last byte.

    torchtune saves adapters in its own format and in PEFT's, TRL in PEFT's alone.
    """
    weights = list(folder.glob("*.safetensors"))
    try:
        index = json.loads((folder / "model.safetensors.index.json").read_text(encoding="utf-8"))
        weights += [folder / name for name in set(index["weight_map"].values())]
    except FileNotFoundError:
        pass  # adapters only
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False
    trl = not (folder / "adapter_model.pt").exists() and (folder / "adapter_config.json").exists() and bool(weights)
    return (trl or is_whole_archive(folder / "adapter_model.pt")) and all(map(is_whole_safetensors, weights))


def epochs_run(path):
    """How many epochs the optimizer's state has seen, read without torch; 0 when the file is not whole."""
    if not is_whole_archive(path):
        return 0
    with zipfile.ZipFile(str(path)) as archive:
        name = next((name for name in archive.namelist() if name.endswith("/data.pkl")), None)
        words = pickletools.genops(archive.read(name)) if name else iter(())
        try:
            for _, value, _ in words:
                if value == EPOCHS_RUN:
                    return next((number for word, number, _ in words if "INT" in word.name), 0)
        except ValueError:
            pass
    return 0


def epochs_in_checkpoints():
    """How many epochs the newest of TRL's whole checkpoints has seen; 0 without one at the end of an epoch."""
    done = [0]
    for folder in ARTIFACTS.glob(CHECKPOINTS):
        try:
            epoch = json.loads((folder / "trainer_state.json").read_text(encoding="utf-8"))["epoch"]
            whole = all(is_whole_archive(folder / name) for name in ("optimizer.pt", "scheduler.pt"))
            if whole and is_whole_safetensors(folder / "adapter_model.safetensors") and epoch == int(epoch):
                done.append(int(epoch))
        except (OSError, ValueError, KeyError, TypeError, OverflowError):
            continue
    return max(done)


def decide(epochs, configs):
    """What to do, with which configuration, and the last epoch to keep.

    Args:
        epochs: how many the run has.
        configs: in the order in which they are tried.
    """
    events = read_events("jobs.jsonl")
    attempts = [at for at, event in enumerate(events) if event.get("event") == "attempt"]
    last = events[attempts[-1]] if attempts else {}
    config = last.get("config")
    if config not in configs or last.get("sha256") != digest(config):
        return "start", configs[0], -1
    ended = [event for event in events[attempts[-1] :] if event.get("event") == "ended"]
    well = any(event.get("exit_code") == 0 and event.get("job_id") == last.get("job_id") for event in ended)
    if well and is_whole_epoch(ARTIFACTS / f"epoch_{epochs - 1}"):
        return "complete", config, epochs - 1
    done = max(epochs_run(STATE), epochs_in_checkpoints())
    if 0 < done < epochs and is_whole_epoch(ARTIFACTS / f"epoch_{done - 1}"):
        return "resume", config, done - 1
    return "start", config, -1


if __name__ == "__main__":
    sys.stdout.write(" ".join(map(str, decide(int(sys.argv[1]), sys.argv[2:]))) + "\n")
