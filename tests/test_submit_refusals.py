"""What sbatch says; the texts are SLURM 22.05's, most of them seen."""

import pytest

from runplan.submit.refusals import Verdict, reason, verdict

FAILED = "sbatch: error: Batch job submission failed: "
BUSY = "sbatch: error: Slurm temporarily unable to accept job, sleeping and retrying.\n"
POLICY = f"{FAILED}Job violates accounting/QOS policy (job submit limit, user's size and/or time limits)"


@pytest.mark.parametrize(
    ("said", "expected", "why"),
    [
        (f"{FAILED}Invalid partition name specified\n", Verdict.refused, "Invalid partition name specified"),
        (
            f"{FAILED}Invalid account or account/partition combination specified",
            Verdict.refused,
            "Invalid account or account/partition combination specified",
        ),
        ("sbatch: error: Unable to open file finetune.slurm", Verdict.refused, "Unable to open file finetune.slurm"),
        ("sbatch: unrecognized option '--foo'\nTry ...", Verdict.refused, "unrecognized option '--foo' Try ..."),
        (
            "sbatch: unrecognized option '--foo'\nTry \"sbatch --help\" for more information\n",
            Verdict.refused,
            "unrecognized option '--foo'",
        ),
        ('sbatch: error: "abc" is not a valid node count\n', Verdict.refused, '"abc" is not a valid node count'),
        (
            "Invalid time specification (pos=0): zz\nsbatch: error: Invalid --begin specification\n",
            Verdict.refused,
            "Invalid --begin specification",
        ),
        (
            (
                "sbatch: error: Batch script contains DOS line breaks (\\r\\n)\n"
                "sbatch: error: instead of expected UNIX line breaks (\\n).\n"
            ),
            Verdict.refused,
            "Batch script contains DOS line breaks (\\r\\n) instead of expected UNIX line breaks (\\n).",
        ),
        (
            (
                "sbatch: error: This does not look like a batch script.  The first\n"
                "sbatch: error: line must start with #! followed by the path to an interpreter.\n"
                "sbatch: error: For instance: #!/bin/sh\n"
            ),
            Verdict.refused,
            (
                "This does not look like a batch script.  The first line must start with #! "
                "followed by the path to an interpreter. For instance: #!/bin/sh"
            ),
        ),
        (
            f"sbatch: error: invalid partition specified: nope\n{FAILED}Invalid partition name specified\n",
            Verdict.refused,
            "Invalid partition name specified",
        ),
        (
            "/usr/local/bin/sbatch: line 3: real-sbatch: command not found",
            Verdict.unknown,
            "/usr/local/bin/sbatch: line 3: real-sbatch: command not found",
        ),
        (f"sbatch: error: AssocMaxSubmitJobLimit\n{POLICY}", Verdict.full, "AssocMaxSubmitJobLimit"),
        (f"sbatch: error: QOSMaxSubmitJobPerUserLimit\n{POLICY}", Verdict.full, "QOSMaxSubmitJobPerUserLimit"),
        (f"sbatch: error: QOSGrpSubmitJobsLimit\n{POLICY}", Verdict.full, "QOSGrpSubmitJobsLimit"),
        (POLICY, Verdict.full, "Job violates accounting/QOS policy (job submit limit, user's size and/or time limits)"),
        (f"sbatch: error: QOSMaxWallDurationPerJobLimit\n{POLICY}", Verdict.refused, "QOSMaxWallDurationPerJobLimit"),
        (
            f"{FAILED}Unable to contact slurm controller (connect failure)",
            Verdict.unknown,
            "Unable to contact slurm controller (connect failure)",
        ),
        (
            f"{FAILED}Socket timed out on send/recv operation",
            Verdict.unknown,
            "Socket timed out on send/recv operation",
        ),
        (
            f"{FAILED}Zero Bytes were transmitted or received",
            Verdict.unknown,
            "Zero Bytes were transmitted or received",
        ),
        (
            f"{BUSY}{FAILED}Resource temporarily unavailable",
            Verdict.full,
            "Resource temporarily unavailable",
        ),
        ("Killed", Verdict.unknown, "Killed"),
        ("", Verdict.unknown, "sbatch said nothing"),
    ],
)
def test_verdicts(said, expected, why):
    assert (verdict(said), reason(said)) == (expected, why)
