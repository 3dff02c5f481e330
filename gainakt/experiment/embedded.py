"""The embedded default data: simulated students, made once where experiments are kept."""

from __future__ import annotations

from pathlib import Path

from gainakt.experiment.console import RunConsole

# The same students for everyone: figures of the quick start can be compared.
STUDENTS, SKILLS, SEED = 2000, 20, 42


def embedded_data(out: Path, console: RunConsole) -> Path:
    """Return the simulated data set under `out`, making it on first use."""
    path = out / "data" / f"simulated_{STUDENTS}_students_{SKILLS}_skills_seed_{SEED}"
    if not path.exists():
        from gainakt.data.simulate import simulate

        console.say(f"no --data given: simulating {STUDENTS:,} students in {path}")
        simulate(path, students=STUDENTS, skills=SKILLS, seed=SEED)
    return path
