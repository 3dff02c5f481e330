"""pyKT's own training loop under the clock; runs in the environment that `peers.py` makes.

Everything is pyKT's as published: the cutting of sequences, data set, loaders, models, loop. Two
things are done for it. `pykt.datasets.data_loader` takes its tensor types from torch.cuda alone;
where there is no GPU they are the CPU's. And the loaders are handed over in a wrapper that notes
when each batch is asked for, and ends early where only some steps are to be measured.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from measuring import Instant, Watched, whole_pass

# The values of pyKT's configs/kt_config.json and examples/wandb_train.py; those of
# examples/wandb_akt_train.py for akt, whose entry in kt_config.json (akt_1_block here) is smaller.
MODELS: dict[str, dict[str, Any]] = {
    "dkt": {
        "batch_size": 256,
        "learning_rate": 1e-3,
        "parameters": {"emb_size": 200, "dropout": 0.1},
    },
    "sakt": {
        "batch_size": 64,
        "learning_rate": 1e-3,
        "parameters": {
            "seq_len": 200,
            "emb_size": 256,
            "num_attn_heads": 8,
            "dropout": 0.2,
            "num_en": 1,
        },
    },
    "akt_1_block": {
        "batch_size": 64,
        "learning_rate": 1e-5,
        "parameters": {"d_model": 256, "n_blocks": 1, "dropout": 0.05, "d_ff": 256},
    },
    "akt": {
        "batch_size": 64,
        "learning_rate": 1e-4,
        "parameters": {
            "d_model": 256,
            "n_blocks": 4,
            "dropout": 0.2,
            "d_ff": 512,
            "num_attn_heads": 8,
        },
    },
}
SEED = 42


def cut(data: str, out: str) -> dict[str, Any]:
    """Cut pyKT's train_valid.csv and test.csv to sequences of 200 as its preprocessing does.

    Returns:
        pyKT's data configuration of the folder `out`.
    """
    import pandas as pd
    from pykt.preprocess.split_datasets import generate_sequences

    concepts = 0
    for name in ("train_valid", "test"):
        table = pd.read_csv(Path(data) / f"{name}.csv")
        keys = ["fold", "uid", "concepts", "responses"]
        generate_sequences(table, keys, 3, 200).to_csv(
            Path(out) / f"{name}_sequences.csv", index=False
        )
        codes = table["concepts"].str.split(",").explode().astype(int)
        concepts = max(concepts, int(codes.max()) + 1)
    return {
        "dpath": out,
        "num_q": 0,
        "num_c": concepts,
        "input_type": ["concepts"],
        "max_concepts": 1,
        "emb_path": "",
        "folds": sorted(
            int(fold) for fold in pd.read_csv(Path(data) / "train_valid.csv")["fold"].unique()
        ),
        "train_valid_file": "train_valid_sequences.csv",
        "test_file": "test_sequences.csv",
        "maxlen": 200,
    }


def load(data_config: dict[str, Any], fold: int) -> dict[str, Any]:
    """Let pyKT read the sequences once, so that later processes find them in its own cache."""
    train, valid = _loaders("dkt", data_config, fold, 256)
    return {"training": len(train.dataset), "validation": len(valid.dataset)}


def _loaders(name: str, data_config: dict[str, Any], fold: int, batch_size: int) -> Any:
    import torch
    from pykt.datasets import data_loader, init_dataset4train

    if not torch.cuda.is_available():
        data_loader.LongTensor, data_loader.FloatTensor = torch.LongTensor, torch.FloatTensor
    return init_dataset4train("data", name, {"data": data_config}, fold, batch_size)[:2]


def train(
    model: str,
    data_config: dict[str, Any],
    fold: int,
    threads: int,
    steps: int | None,
    epochs: int,
    target: float | None,
) -> dict[str, Any]:
    """Train by pyKT's loop, one epoch a call, and time the training part and the validation.

    Args:
        model: of MODELS.
        data_config: from `cut`.
        fold: which validates.
        threads: of torch.
        steps: measure so many steps after one of warm-up, in place of whole epochs.
        epochs: at most.
        target: validation AUC to stop at.
    """
    import torch
    from pykt.models import init_model, train_model
    from pykt.utils import set_seed

    torch.set_num_threads(threads)
    set_seed(SEED)
    chosen = MODELS[model]
    name = "akt" if model.startswith("akt") else model
    loaders = _loaders(name, data_config, fold, chosen["batch_size"])
    net = init_model(name, chosen["parameters"], data_config, "qid")
    optimizer = torch.optim.Adam(net.parameters(), chosen["learning_rate"])
    limit = None if steps is None else steps + 1
    training, validation = (Watched(loader, limit) for loader in loaders)
    done: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(epochs if steps is None else 1):
            result = train_model(net, training, validation, 1, optimizer, folder, save_model=True)
            # pyKT computes the metrics after the last batch: they belong to the validation
            last = [*validation.instants[:-1], Instant.now()]
            done.append(
                {
                    "training": whole_pass(training.instants, steps and len(loaders[0])),
                    "validation": whole_pass(last, steps and len(loaders[1])),
                    "val_auc": float(result[4]) if steps is None else None,
                }
            )
            if steps is None and target is not None and done[-1]["val_auc"] >= target:
                break
    return {
        "parameters": sum(p.numel() for p in net.parameters()),
        "batch_size": chosen["batch_size"],
        "steps": len(loaders[0]),
        "measured_steps": len(training.instants) - 1 - (steps is not None),
        "epochs": done,
    }
