"""torchtune 0.6.1's distributed (FSDP) LoRA recipe with validation loss during training.

    tune run --nproc_per_node 4 lora_finetune_distributed_val.py --config finetune.yaml

Needs nothing but torchtune. Three keys more than the recipe it extends: `dataset_val` (a dataset like `dataset`),
`run_val_every_n_steps` (optimizer steps) and `batch_size_val` (default `batch_size`). Without `dataset_val` it is the
same recipe. Training is untouched: the same losses with and without validation.
"""

import importlib.util
import sys
import time
from pathlib import Path

import torch
import torchtune
from torch.utils.data import DistributedSampler
from torchtune import config, training, utils

log = utils.get_logger("DEBUG")  # the level the stock recipe sets; the logger is shared


def _stock(name):
    """A recipe as torchtune installs it: `recipes` lies beside the package and forbids importing it by name."""
    file = Path(torchtune.__file__).parent.parent / "recipes" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(f"torchtune_recipe_{name}", file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


stock = _stock("lora_finetune_distributed")


class AfterStep:
    """A profiler that also calls back: the training loop steps its profiler after every optimizer step."""

    def __init__(self, profiler, callback):
        self.profiler, self.callback = profiler, callback

    def start(self):
        """Start the real profiler."""
        self.profiler.start()

    def stop(self):
        """Stop the real profiler."""
        self.profiler.stop()

    def step(self):
        """Step the real profiler, then call back."""
        self.profiler.step()
        self.callback()


class LoRAFinetuneValRecipeDistributed(stock.LoRAFinetuneRecipeDistributed):
    """The stock recipe; validates every `run_val_every_n_steps` optimizer steps."""

    def setup(self, cfg):
        """Set the stock recipe up, then validation, which takes nothing from the random state of training."""
        super().setup(cfg)
        self._val_every = cfg.get("run_val_every_n_steps")
        if not cfg.get("dataset_val") or not self._val_every:
            return
        batch_size = cfg.get("batch_size_val") or cfg.batch_size
        loader = self._setup_data(
            cfg_dataset=cfg.dataset_val,
            shuffle=False,
            batch_size=batch_size,
            collate_fn=cfg.get("collate_fn", "torchtune.data.padded_collate_sft"),
        )
        # Every rank must go through the sharded model equally often: the sampler repeats rows (fewer than there are
        # ranks) to make the parts equal. A generator of its own leaves the global random state alone.
        self._val_loader = torch.utils.data.DataLoader(
            loader.dataset,
            batch_size=batch_size,
            sampler=DistributedSampler(loader.dataset, num_replicas=self.world_size, rank=self.rank, shuffle=False),
            collate_fn=loader.collate_fn,
            generator=torch.Generator(),
        )
        rows = max(batch_size, cfg.batch_size)
        self.ignore_labels_cache = torch.full((rows, 1), self._loss_fn.ignore_index, device=self._device)
        self._profiler = AfterStep(self._profiler, self._validate_when_due)

    def _validate_when_due(self):
        if self.global_step % self._val_every == 0:
            self.validate()

    @torch.no_grad()
    def validate(self):
        """Log the mean loss a predicted token of the validation rows has, over all ranks."""
        started = time.perf_counter()
        total = torch.zeros(2, dtype=torch.float64, device=self._device)
        batches = 0
        self._model.eval()
        for batch in self._val_loader:
            utils.batch_to_device(batch, self._device)
            predicted = (batch["labels"][..., 1:] != self._loss_fn.ignore_index).sum()
            loss = self._batch_loss(batch)
            total += torch.stack((torch.nan_to_num(loss.double()) * predicted, predicted.double()))
            batches += 1
        self._model.train()
        torch.distributed.all_reduce(total)
        loss = (total[0] / total[1]).item()
        spent = time.perf_counter() - started
        if self._is_rank_zero:
            log.info(
                "Validation loss: %.6f | step %d | %d batches in %.2f seconds", loss, self.global_step, batches, spent
            )
            self._metric_logger.log_dict({"val_loss": loss}, step=self.global_step)

    def _batch_loss(self, batch):
        labels = batch.pop("labels")
        with self.activations_handling_ctx:
            logits = self._model(**batch)
        labels = torch.hstack((labels[..., 1:], self.ignore_labels_cache[: labels.shape[0]]))
        if not isinstance(logits, list):
            labels = labels.reshape(-1)
            logits = logits.reshape(-1, logits.size(-1))
        return self._loss_fn(logits, labels)


@config.parse
def recipe_main(cfg):
    """Run the recipe with a configuration file and overrides, one process a GPU."""
    if not training.is_distributed():
        raise RuntimeError("start this recipe with: tune run --nproc_per_node GPUS ...")
    torch.distributed.init_process_group("cuda:nccl,cpu:gloo")
    config.log_config(recipe_name="LoRAFinetuneValRecipeDistributed", cfg=cfg)
    recipe = LoRAFinetuneValRecipeDistributed(cfg=cfg)
    recipe.setup(cfg=cfg)
    recipe.train()
    recipe.cleanup()


if __name__ == "__main__":
    sys.exit(recipe_main())
