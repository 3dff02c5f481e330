"""A short run whose every loss, term by term, is known to the last digit.

The run uses only the instructions that every x86-64 processor has, so that machines of one make
compute the same bits. The matrix library still sums in another order on another make of
processor: there the curve must be close, not equal. `python -m tests.training.test_golden_curve`
renews the curve, on the make that it was recorded on; CONTRIBUTING says when that is legitimate.
"""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import torch

GOLDEN = Path(__file__).parents[1] / "golden" / "metrics_epoch.csv"

RECORDED_ON = "GenuineIntel"
# Losses then differ by some 1e-8, and an AUC by 8e-6 where two answers change places.
CLOSE = 5e-5
# The oldest instruction set each library can be held to.
ANY_PROCESSOR = {
    "ATEN_CPU_CAPABILITY": "default",
    "MKL_CBWR": "COMPATIBLE",
    "ONEDNN_MAX_CPU_ISA": "SSE41",
    "OMP_NUM_THREADS": "1",
}
PARAMETERS = {
    "epochs": 4,
    "batch_size": 16,
    "seq_len": 40,
    "d_model": 16,
    "n_heads": 2,
    "num_encoder_blocks": 2,
    "d_ff": 32,
    "learning_rate": 0.003,
    "non_negative_loss_weight": 0.1,
    # short warm-ups, so that retention, lag, adaptive weights and the rebalance all take part
    "warmup_constraint_epochs": 1,
    "alignment_warmup_epochs": 1,
    "consistency_rebalance_epoch": 2,
    "devices": "cpu",
    "threads": 1,
    "bootstrap_samples": 100,
}


def train_golden(folder: Path) -> str:
    """Train the golden run under `folder` and return its metrics_epoch.csv."""
    from gainakt.data.simulate import simulate

    simulate(folder / "data", students=120, skills=5, seed=3)
    flags = [f"--{name}={value}" for name, value in PARAMETERS.items()]
    subprocess.run(
        [sys.executable, "-m", "gainakt", "train", f"--data={folder / 'data'}"]
        + [f"--out={folder / 'out'}", "--quiet", *flags],
        check=True,
        capture_output=True,
        env=os.environ | ANY_PROCESSOR,
    )
    (run,) = (folder / "out").iterdir()
    return (run / "metrics_epoch.csv").read_text()


def make_of_processor() -> str:
    """The processor's maker as Linux names it, or nothing."""
    facts = Path("/proc/cpuinfo")
    lines = facts.read_text().splitlines() if facts.exists() else []
    return next((line.split()[-1] for line in lines if line.startswith("vendor_id")), "")


def numbers(curve: str) -> np.ndarray:
    return np.loadtxt(curve.splitlines(), delimiter=",", skiprows=1)


def without_auc(curve: str) -> list[list[str]]:
    """All columns but the AUCs, whose last bit depends on the order in which areas are added."""
    rows = [line.split(",") for line in curve.splitlines()]
    kept = [place for place, name in enumerate(rows[0]) if not name.endswith("_auc")]
    return [[row[place] for place in kept] for row in rows]


def test_the_curve_is_reproduced(tmp_path):
    curve, golden = train_golden(tmp_path), GOLDEN.read_text()
    hint = f"computed with torch {torch.__version__}; see CONTRIBUTING on renewing the golden curve"
    assert curve.splitlines()[0] == golden.splitlines()[0]
    if make_of_processor() == RECORDED_ON:
        assert without_auc(curve) == without_auc(golden), hint
        np.testing.assert_allclose(numbers(curve), numbers(golden), rtol=1e-14, err_msg=hint)
    np.testing.assert_allclose(numbers(curve), numbers(golden), atol=CLOSE, err_msg=hint)


def test_every_term_takes_part_in_the_curve():
    import csv

    rows = list(csv.DictReader(GOLDEN.read_text().splitlines()))
    for term in ("main", "constraint", "alignment", "lag", "retention"):
        assert any(float(row[f"{term}_loss"]) != 0 for row in rows), term


if __name__ == "__main__":
    import tempfile

    with tempfile.TemporaryDirectory() as temporary:
        GOLDEN.write_text(train_golden(Path(temporary)))
    print(f"renewed {GOLDEN}")
