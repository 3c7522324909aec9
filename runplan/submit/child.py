"""The process of a job that runs on this machine."""

from __future__ import annotations

import os
import signal
import subprocess
from contextlib import suppress
from typing import TYPE_CHECKING

from runplan.errors import SubmitError
from runplan.jobs.attempts import LOCAL
from runplan.submit.gpu_locks import release

if TYPE_CHECKING:
    from collections.abc import Sequence

    from runplan.files.written import Job
    from runplan.submit.lanes import Share

OF_SLURM = ("SLURM_JOB_ID", "SLURM_JOBID", "SLURM_ARRAY_JOB_ID", "SLURM_ARRAY_TASK_ID", "SLURM_SUBMIT_DIR")
"""What would make a job take itself for the one around it, where this runs inside an allocation."""


def launch(job: Job, share: Share, locks: Sequence[int]) -> subprocess.Popen[bytes]:
    """Start a job's script in a session of its own; it keeps its log itself, and its GPUs' locks until it ends.

    Args:
        job: the job.
        share: what it gets.
        locks: open files that it inherits; they are closed here.

    Raises:
        SubmitError: the script or its directory is gone.
    """
    kept = {key: value for key, value in os.environ.items() if key not in OF_SLURM}
    gpus = {"CUDA_VISIBLE_DEVICES": ",".join(share.gpus)}
    try:
        return subprocess.Popen(
            ["bash", job.script],
            cwd=job.directory,
            env=kept | gpus,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            pass_fds=locks,
        )
    except OSError as error:
        raise SubmitError(f"{job.directory / job.script}: cannot be started ({error.strerror}); plan again") from error
    finally:
        release(locks)


def send_signal(job_id: str, number: signal.Signals, *, group: bool = False) -> None:
    """Send a signal to the process of a job, or to all of its session."""
    pid = int(job_id.removeprefix(LOCAL))
    with suppress(ProcessLookupError, PermissionError):
        if group:
            os.killpg(pid, number)
        else:
            os.kill(pid, number)
