"""One run of the trainer, watched from outside: when each step ended, and what memory the process held."""

from __future__ import annotations

import os
import re
import shutil
import statistics
import subprocess
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

_STEP = re.compile(rb"\|(\d+)\|Loss: ")
_BAR = re.compile(rb"\b0/\d+ \[00:00<")
_SAVED = re.compile(r"Checkpoint saved in ([\d.]+) seconds")
_PEAK = re.compile(r"peak_memory_(active|alloc|reserved):([\d.]+)")
_INIT = re.compile(r"GPU peak memory (active|alloc\w*|reserved): ([\d.]+) GiB")
_GPU_OOM = re.compile(
    r"(?:torch\.)?(?:cuda\.)?OutOfMemoryError[^\n]*|CUDA out of memory[^\n]*|CUDA error: out of memory"
)
_MIB = 1024.0
WARM_STEPS = 5


@dataclass
class Trace:
    """What was seen of one run; None where this machine does not tell."""

    exit_code: int = 0
    wall_s: float = 0.0
    bar_s: float | None = None
    """From the start of the process to the empty bar."""
    steps_s: list[float] = field(default_factory=list)
    """When each step ended, from the start of the process."""
    process_gib: float | None = None
    """Highest memory that nvidia-smi counted for the process."""
    device_gib: float | None = None
    """Highest memory in use on the GPU above what was in use before."""
    max_rss_gib: float = 0.0
    timed_out: bool = False
    log: str = ""

    @property
    def first_step_s(self) -> float | None:
        """Seconds of the first step."""
        return self.steps_s[0] - self.bar_s if self.steps_s and self.bar_s is not None else None

    def steady_s(self) -> tuple[float | None, float | None]:
        """Mean and median seconds of a step, the first ones left out."""
        skip = min(WARM_STEPS, len(self.steps_s) // 3)
        taken = [b - a for a, b in zip(self.steps_s[skip:], self.steps_s[skip + 1 :], strict=False)]
        return (statistics.fmean(taken), statistics.median(taken)) if taken else (None, None)

    @property
    def state(self) -> str:
        """ok, oom (of the GPU), timeout or failed."""
        if self.exit_code == 0:
            return "ok"
        if self.timed_out:
            return "timeout"
        return "oom" if _GPU_OOM.search(self.log) else "failed"

    @property
    def reason(self) -> str:
        """The line that says why it ended early."""
        if self.exit_code == 0:
            return ""
        found = _GPU_OOM.search(self.log)
        last = [line for line in self.log.splitlines() if line.strip()]
        return (found[0] if found else last[-1] if last else f"exit {self.exit_code}")[:300]

    @property
    def checkpoint_s(self) -> float | None:
        """Seconds that saving took, as the trainer says."""
        found = _SAVED.findall(self.log)
        return float(found[-1]) if found else None


def peaks(disk_log: str) -> dict[str, float]:
    """Highest logged peak by kind (active, alloc, reserved), in GiB."""
    found: dict[str, float] = {}
    for kind, value in _PEAK.findall(disk_log):
        found[kind] = max(found.get(kind, 0.0), float(value))
    return found


def after_init(log: str) -> float | None:
    """Allocated memory after the model was made, in GiB."""
    found = dict(_INIT.findall(log))
    return next((float(value) for kind, value in found.items() if kind.startswith("alloc")), None)


def watch(command: list[str], folder: Path, environment: dict[str, str], limit_s: float) -> Trace:
    """Run a command in a folder, its output kept in `train.out` there as a job's would be; stop it after `limit_s`."""
    seen = Trace()
    memory = _Memory(folder)
    started = time.perf_counter()
    process = subprocess.Popen(
        command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True
    )

    def stop() -> None:
        seen.timed_out = True
        os.killpg(process.pid, 9)

    timer = threading.Timer(limit_s, stop)
    timer.start()
    try:
        _follow(process, folder / "train.out", seen, started)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    finally:
        timer.cancel()
        if process.returncode is None:
            os.killpg(process.pid, 9)
            process.wait()
        if process.stdout:
            process.stdout.close()
    seen.wall_s = time.perf_counter() - started
    seen.exit_code = process.returncode
    seen.max_rss_gib = usage.ru_maxrss / 2**20
    seen.process_gib, seen.device_gib = memory.stop()
    seen.log = (folder / "train.out").read_text(encoding="utf-8", errors="replace")
    return seen


def _follow(process: subprocess.Popen[bytes], log: Path, seen: Trace, started: float) -> None:
    """Copy the output to the log, noting when each step is first spoken of."""
    last, tail = 0, b""
    with log.open("wb") as file:
        while chunk := os.read(process.stdout.fileno(), 65536) if process.stdout else b"":
            now = time.perf_counter() - started
            file.write(chunk)
            file.flush()
            tail = tail[-200:] + chunk
            if seen.bar_s is None and _BAR.search(tail):
                seen.bar_s = now
            for found in _STEP.finditer(tail):
                if int(found[1]) > last:
                    last = int(found[1])
                    seen.steps_s.append(now)


class _Memory:
    """nvidia-smi beside the run: the samples a job keeps (`gpu_metrics.csv`), and the process's own memory."""

    def __init__(self, folder: Path) -> None:
        self.samplers: list[subprocess.Popen[bytes]] = []
        self.folder = folder
        if shutil.which("nvidia-smi") is None:
            return
        self.before = _used(_ask("--query-gpu=memory.used", "--format=csv,noheader,nounits"))
        columns = "timestamp,index,name,utilization.gpu,memory.used,memory.total,power.draw"
        self._start("gpu_metrics.csv", f"--query-gpu={columns}", "--format=csv", "--loop-ms=100")
        apps = ("--query-compute-apps=pid,used_memory", "--format=csv,noheader,nounits", "--loop-ms=100")
        self._start("apps.csv", *apps)

    def _start(self, name: str, *arguments: str) -> None:
        with (self.folder / name).open("wb") as file:
            self.samplers.append(subprocess.Popen(["nvidia-smi", *arguments], stdout=file, stderr=subprocess.DEVNULL))

    def stop(self) -> tuple[float | None, float | None]:
        """(highest memory of the process, of the GPU above what others held), in GiB."""
        if not self.samplers:
            return None, None
        for sampler in self.samplers:
            sampler.terminate()
            sampler.wait()
        apps = [
            float(cells[1])
            for line in (self.folder / "apps.csv").read_text().splitlines()
            if len(cells := line.split(",")) == 2 and cells[1].strip().isdigit()
        ]
        rows = (self.folder / "gpu_metrics.csv").read_text().splitlines()[1:]
        used = [_used(row.split(",")[4]) for row in rows if row.count(",") >= 6]
        (self.folder / "apps.csv").unlink()
        device = max(used, default=self.before) - self.before
        return max(apps) / _MIB if apps else None, device / _MIB if used else None


def _ask(*arguments: str) -> str:
    return subprocess.run(["nvidia-smi", *arguments], capture_output=True, text=True, check=False).stdout


def _used(text: str) -> float:
    found = re.search(r"[\d.]+", text)
    return float(found[0]) if found else 0.0
