"""How far the closed forms of memory are off, on random settings that nobody chose.

    python benchmarks/allocator/differences.py              # 100 settings, a second each
    python benchmarks/allocator/differences.py 1000 1300    # those of other seeds
    python benchmarks/allocator/differences.py --of wide        # shapes that ship, narrow ones, any loss
    python benchmarks/allocator/differences.py --of shared      # on several GPUs, with activations offloaded
    python benchmarks/allocator/differences.py --of validated   # a batch without gradients
    python benchmarks/allocator/differences.py --of trl         # TRL's instead of torchtune's

Each is simulated on fake tensors (allocator/recipe.py, fine_tuner.py); printed are those off by more than 0.3 %, then
how all are distributed. Needs torch and torchtune or TRL, no GPU.
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

from allocator import fine_tuner, recipe, sharded
from allocator.draws import Draw, draw, draw_shared, draw_trl, draw_validated, draw_wide

from runplan.estimate.memory import closed_form, nf4, torchtune_step
from runplan.estimate.memory.weights import ELEMENT_BYTES, quantised_shapes, weight_bytes
from runplan.estimate.workload import TRL

TOLD = 0.003


def difference(one: Draw) -> float:
    """Computed over simulated peak, less 1, both with cuBLAS's workspace, which a GPU counts as allocated.

    Of QLoRA the peak may be that of loading, which is not simulated.
    """
    w = one.workload
    traced = (fine_tuner if w.trainer == TRL else sharded if w.gpus > 1 else recipe).traced
    if w.validation_lengths is not None:
        footprint = closed_form.validation_footprint_for(w)
        trace = traced(w, one.batch, (min(16, one.tokens),), one.accumulation, (one.tokens,))
    else:
        footprint = closed_form.footprint_for(w, one.accumulation)
        # The first makes the optimizer's state.
        trace = traced(w, one.batch, (min(16, one.tokens), one.tokens), one.accumulation)
    peak: float = recipe.peak_bytes(trace)
    if w.adapter.quantize_base and w.validation_lengths is None:
        shapes = quantised_shapes(w.architecture, w.adapter)
        stored = weight_bytes(w.architecture, w.adapter, w.dtype) / w.gpus + torchtune_step.rope_bytes(w.architecture)
        peak = max(peak, stored + nf4.making_bytes(shapes, ELEMENT_BYTES[w.dtype]))
    computed = footprint.peak_bytes(one.batch, one.tokens) if footprint else 0.0
    return computed / (peak + torchtune_step.workspace_bytes(w.gpu.name)) - 1


KINDS = {"plain": draw, "wide": draw_wide, "shared": draw_shared, "validated": draw_validated, "trl": draw_trl}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("first", type=int, nargs="?", default=0, help="first seed")
    parser.add_argument("end", type=int, nargs="?", default=100, help="seed to stop before")
    parser.add_argument("--of", choices=KINDS, default="plain", help="what kind of settings")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    errors = []
    for seed in range(arguments.first, arguments.end):
        one = KINDS[arguments.of](random.Random(seed))
        errors.append(abs(error := difference(one)))
        if abs(error) > TOLD:
            print(f"{seed:6} {error:+7.2%}  {one}", flush=True)
    cuts = statistics.quantiles(errors, n=100)
    print(f"{len(errors)} settings: median {cuts[49]:.3%}, 90 % below {cuts[89]:.2%}, worst {max(errors):.2%}")


if __name__ == "__main__":
    main()
