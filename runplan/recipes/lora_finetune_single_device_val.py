"""torchtune 0.6.1's single-device LoRA recipe with validation loss during training.

    tune run lora_finetune_single_device_val.py --config finetune.yaml

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
from torchtune import config, utils

log = utils.get_logger("DEBUG")  # the level the stock recipe sets; the logger is shared


def _stock(name):
    """A recipe as torchtune installs it: `recipes` lies beside the package and forbids importing it by name."""
    file = Path(torchtune.__file__).parent.parent / "recipes" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(f"torchtune_recipe_{name}", file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


stock = _stock("lora_finetune_single_device")


class AfterStep:
    """A profiler that also calls back: the training loop steps its profiler once a batch, after everything else."""

    def __init__(self, profiler, callback):
        self.profiler, self.callback = profiler, callback

    def __enter__(self):
        self.profiler.__enter__()
        return self

    def __exit__(self, *exc):
        return self.profiler.__exit__(*exc)

    def step(self):
        """Step the real profiler, then call back."""
        self.profiler.step()
        self.callback()


class LoRAFinetuneValRecipeSingleDevice(stock.LoRAFinetuneRecipeSingleDevice):
    """The stock recipe; validates every `run_val_every_n_steps` optimizer steps."""

    def setup(self, cfg):
        """Set the stock recipe up, then validation, which takes nothing from the random state of training."""
        super().setup(cfg)
        self._val_every = cfg.get("run_val_every_n_steps")
        self._validated_at = self.global_step
        if not cfg.get("dataset_val") or not self._val_every:
            return
        batch_size = cfg.get("batch_size_val") or cfg.batch_size
        loader = self._setup_data(
            cfg_dataset=cfg.dataset_val,
            shuffle=False,
            batch_size=batch_size,
            collate_fn=cfg.get("collate_fn", "torchtune.data.padded_collate_sft"),
        )
        # Every row counts, so the last batch stays, however short; a loader with a generator of its own leaves the
        # global random state alone.
        self._val_loader = torch.utils.data.DataLoader(
            loader.dataset,
            batch_size=batch_size,
            collate_fn=loader.collate_fn,
            generator=torch.Generator(),
        )
        rows = max(batch_size, cfg.batch_size)
        self.ignore_labels_cache = torch.full((rows, 1), self._loss_fn.ignore_index, device=self._device)
        self._profiler = AfterStep(self._profiler, self._validate_when_due)

    def _setup_lr_scheduler(self, **settings):
        """Go on where the saved epochs ended: the stock recipe does so only where `max_steps_per_epoch` ends them."""
        self.global_step = self.epochs_run * self._steps_per_epoch
        return super()._setup_lr_scheduler(**settings | {"last_epoch": self.global_step - 1})

    def _validate_when_due(self):
        due = self.global_step % self._val_every == 0 and self.global_step != self._validated_at
        if due:
            self._validated_at = self.global_step
            self.validate()

    @torch.no_grad()
    def validate(self):
        """Log the mean loss a predicted token of the validation rows has."""
        started = time.perf_counter()
        total, tokens, batches = 0.0, 0, 0
        self._model.eval()
        for batch in self._val_loader:
            utils.batch_to_device(batch, self._device)
            predicted = int((batch["labels"][..., 1:] != self._loss_fn.ignore_index).sum())
            batches += 1
            if predicted:
                total += float(self._loss_step(batch)) * predicted
                tokens += predicted
        self._model.train()
        loss = total / tokens if tokens else float("nan")
        spent = time.perf_counter() - started
        log.info("Validation loss: %.6f | step %d | %d batches in %.2f seconds", loss, self.global_step, batches, spent)
        self._metric_logger.log_dict({"val_loss": loss}, step=self.global_step)

    def save_checkpoint(self, epoch):
        """Save as the stock recipe does.

        It merges the adapters into a copy of the weights made by `.cpu()`, which on a CPU is no copy: there the live
        weights would change under the next epoch, so they are put back. Weights in 4 bits cannot change: `state_dict`
        unpacks them into tensors that are no parameters.
        """
        live = self._model.state_dict(keep_vars=True) if self._device.type == "cpu" else {}
        kept = {name: value.detach().clone() for name, value in live.items() if isinstance(value, torch.nn.Parameter)}
        super().save_checkpoint(epoch)
        if kept:
            self._model.load_state_dict(kept, strict=False)


@config.parse
def recipe_main(cfg):
    """Run the recipe with a configuration file and overrides."""
    config.log_config(recipe_name="LoRAFinetuneValRecipeSingleDevice", cfg=cfg)
    recipe = LoRAFinetuneValRecipeSingleDevice(cfg=cfg)
    recipe.setup(cfg=cfg)
    recipe.train()
    recipe.cleanup()


if __name__ == "__main__":
    sys.exit(recipe_main())
