"""What the summary says of all runs at once."""

from __future__ import annotations

import pytest

from runplan.summary.settings_shown import _adapters, _evaluation, by_model


@pytest.mark.parametrize(
    ("config", "estimated", "said"),
    [
        ({}, ["lora.alpha"], "LoRA with alpha 2 × rank"),
        ({}, [], "LoRA with alpha 16"),
        ({"lora_alpha": None}, [], "LoRA"),
        ({"use_dora": True}, [], "DoRA with alpha 16"),
        ({"quantize_base": True}, [], "QLoRA (base in 4 bits) with alpha 16"),
        ({"quantize_base": True, "use_dora": True}, [], "QDoRA (base in 4 bits) with alpha 16"),
    ],
)
def test_adapters_are_called_what_they_are(config, estimated, said):
    assert _adapters({"config": {"lora_alpha": 16.0, **config}, "estimated": estimated}) == said


@pytest.mark.parametrize(
    ("runs", "said"),
    [
        ([("1B", 4), ("3B", 4)], "4"),
        ([("1B", 4), ("3B", 2)], "4 (1B), 2 (3B)"),
        ([("1B", 4), ("1B", 2), ("3B", 2)], "4/2 (1B), 2 (3B)"),
        ([("1B", "off, so"), ("1B", "on")], "off, so; on"),
        ([("1B", "off, so"), ("3B", "on")], "off, so (1B); on (3B)"),
    ],
)
def test_a_setting_is_said_once_where_runs_agree(runs, said):
    assert by_model([{"model": model, "value": value} for model, value in runs], lambda run: run["value"]) == said


@pytest.mark.parametrize(
    ("gpus", "said"),
    [
        ({"1B": [1, 1]}, ""),
        ({"1B": [0]}, ""),
        ({"70B": [2]}, "2 GPUs, over which the model is spread"),
        ({"8B": [1], "70B": [2, 2]}, "1 GPU (8B), 2 GPUs (70B), over which the model is spread"),
    ],
)
def test_evaluations_on_several_gpus_are_said(gpus, said):
    runs = [{"model": name, "cells": [{"resources": {"gpus": n}} for n in each]} for name, each in gpus.items()]
    assert _evaluation(runs) == said
