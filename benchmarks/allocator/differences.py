"""How far the closed form of torchtune's memory is off, on random settings that nobody chose.

    python benchmarks/allocator/differences.py              # 100 settings, a second each
    python benchmarks/allocator/differences.py 1000 1300    # those of other seeds

Each is simulated on fake tensors (allocator/recipe.py); printed are those off by more than 0.3 %, then how all are
distributed. Needs torch and torchtune, no GPU. A few are known to remain: adapters of the output head, and batches of
a few tokens in all, where flash attention's blocks of 128 rows count.
"""

from __future__ import annotations

import argparse
import random
import statistics
import sys
import warnings
from pathlib import Path

if __name__ == "__main__":
    sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[2])]

from allocator import recipe
from allocator.draws import Draw, draw

from runplan.estimate.memory import closed_form, nf4, torchtune_step
from runplan.estimate.memory.weights import ELEMENT_BYTES, quantised_shapes, weight_bytes

TOLD = 0.003


def difference(one: Draw) -> float:
    """Computed over simulated peak, less 1; of QLoRA the peak may be that of loading, which is not simulated."""
    w = one.workload
    steps = (min(16, one.tokens), one.tokens)  # the first makes the optimizer's state
    peak: float = recipe.peak_bytes(recipe.traced(w, one.batch, steps, one.accumulation))
    if w.adapter.quantize_base:
        shapes = quantised_shapes(w.architecture, w.adapter)
        stored = weight_bytes(w.architecture, w.adapter, w.dtype) + torchtune_step.rope_bytes(w.architecture)
        peak = max(peak, stored + nf4.making_bytes(shapes, ELEMENT_BYTES[w.dtype]))
    workspace = torchtune_step.WORKSPACE_DEFAULT_MIB / 1024
    return (closed_form.allocated_gib(w, one.batch, one.tokens, one.accumulation) - workspace) * 2**30 / peak - 1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("first", type=int, nargs="?", default=0, help="first seed")
    parser.add_argument("end", type=int, nargs="?", default=100, help="seed to stop before")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    errors = []
    for seed in range(arguments.first, arguments.end):
        one = draw(random.Random(seed))
        errors.append(abs(error := difference(one)))
        if abs(error) > TOLD:
            print(f"{seed:6} {error:+7.2%}  {one}", flush=True)
    cuts = statistics.quantiles(errors, n=100)
    print(f"{len(errors)} settings: median {cuts[49]:.3%}, 90 % below {cuts[89]:.2%}, worst {max(errors):.2%}")


if __name__ == "__main__":
    main()
