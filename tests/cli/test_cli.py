"""The command line: a stable surface, plain answers to mistakes, results that machines can read.

Run as a script, this file writes tests/golden/cli.txt anew.
"""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

from gainakt.cli.main import app, main
from gainakt.config import FILLED_BY_RUN, GROUPS, parameters

ROOT = Path(__file__).parents[2]
GOLDEN = Path(__file__).parents[1] / "golden" / "cli.txt"
PARAMETERS = [(g, n, f) for g, n, f in parameters() if n not in FILLED_BY_RUN]
HEAVY = ("torch", "polars", "pyarrow", "dataframely", "scipy", "sklearn", "numpy", "jinja2")

Result = tuple[int, str, str]


def verbs() -> list[str]:
    return sorted(name for name in app if not name.startswith("-"))


def options(verb: str) -> list[tuple[str, ...]]:
    """Every option of a verb, each with all its spellings."""
    return [argument.names for argument in app[verb].assemble_argument_collection()]


def surface() -> str:
    """What tests/golden/cli.txt must say: verbs and options; parameters once, at the end."""
    flags = {f"--{name}" for _, name, _ in PARAMETERS}
    lines = []
    for verb in verbs():
        lines.append(verb)
        given = options(verb)
        own = [names for names in given if not (len(given) > len(flags) and names[0] in flags)]
        lines += [f"    {' '.join(names)}" for names in own]
        if len(own) < len(given):
            lines.append("    every parameter")
    lines.append("every parameter")
    train = {names[0]: names for names in options("train")}
    lines += [f"    {' '.join(train[f'--{name}'])}" for _, name, _ in PARAMETERS]
    return "\n".join(lines) + "\n"


@pytest.fixture
def gainakt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., Result]:
    """Run the command line in an empty folder: exit code, stdout, stderr."""
    monkeypatch.chdir(tmp_path)
    # rich breaks lines to the width of the terminal
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("NO_COLOR", "1")

    def run(*words: str) -> Result:
        capsys.readouterr()
        with pytest.raises(SystemExit) as end:
            main(words)
        said = capsys.readouterr()
        assert isinstance(end.value.code, int)
        return end.value.code, said.out, said.err

    return run


def test_verbs_and_options_are_those_that_users_scripts_know() -> None:
    assert GOLDEN.read_text(encoding="utf-8") == surface(), (
        "the command line has changed; where that is meant, renew: python tests/cli/test_cli.py"
    )


def test_every_parameter_is_a_flag_of_train_and_crossval_in_both_spellings() -> None:
    for verb in ("train", "crossval"):
        known = {name for names in options(verb) for name in names}
        for _, name, _ in PARAMETERS:
            assert {f"--{name}", f"--{name.replace('_', '-')}"} <= known


def test_what_the_run_fills_in_is_no_flag() -> None:
    assert not {f"--{name}" for name in FILLED_BY_RUN} & {n for o in options("train") for n in o}


@pytest.mark.parametrize("verb", verbs())
def test_every_verb_explains_itself_with_an_example(
    verb: str, gainakt: Callable[..., Result]
) -> None:
    code, out, _ = gainakt(verb, "--help")
    assert code == 0
    assert f"gainakt {verb} " in " ".join(out.split("Parameters")[0].split()).split(verb, 1)[1]


@pytest.mark.parametrize("verb", verbs())
def test_every_option_has_a_sentence(verb: str) -> None:
    described = app[verb].assemble_argument_collection(parse_docstring=True)
    for argument in described:
        assert argument.parameter.help, f"{verb} {argument.names[0]}"


def test_help_is_grouped_in_canonical_order() -> None:
    page = io.StringIO()
    app.help_print(["train"], console=Console(file=page, width=200))
    out = page.getvalue()
    titles = re.findall(r"^╭─ (\w+) ─", out, re.MULTILINE)
    assert titles == ["Parameters", *GROUPS]
    text = " ".join(re.sub("[│╭╮╰╯─]", " ", out).split())
    for group, name, field in PARAMETERS:
        sentence = " ".join((field.description or "").replace("`", "").split())
        assert sentence, f"{group}.{name} has no sentence"
        assert sentence in text, f"{group}.{name}"


def child(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=ROOT
    )


HELP = """
import sys
from gainakt.cli import main
try:
    main(["--help"])
except SystemExit as end:
    assert end.code == 0
"""


def test_help_imports_nothing_heavy() -> None:
    done = child(HELP + f"print(sorted(set(sys.modules) & set({HEAVY})), file=sys.stderr)")
    assert done.stderr == "[]\n"


@pytest.mark.parametrize(
    "words",
    [
        ["check", "nothing"],
        ["evaluate", "nothing"],
        ["resume", "nothing"],
        ["reproduce", "nothing"],
        ["report", "nothing"],
        ["compare", "nothing", "nothing"],
        ["explain", "nothing", "--student", "1"],
        ["score", "nothing", "--data", "data", "--out", "out.parquet"],
    ],
    ids=lambda words: words[0],
)
def test_a_mistyped_run_is_answered_before_anything_heavy_is_loaded(
    words: list[str], tmp_path: Path
) -> None:
    code = HELP.replace('["--help"]', repr(words)).replace("end.code == 0", "end.code == 1")
    assert code.count("nothing")
    done = child(code + f"print(sorted(set(sys.modules) & set({HEAVY})), file=sys.stderr)")
    assert "no experiment folder 'nothing'" in done.stderr
    assert done.stderr.endswith("[]\n")


def test_help_answers_at_once() -> None:
    # processor time, so that a busy machine does not fail it; the best of three
    seconds = []
    for _ in range(3):
        before = os.times()
        assert child(HELP).returncode == 0
        after = os.times()
        seconds.append(
            after.children_user
            - before.children_user
            + after.children_system
            - before.children_system
        )
    assert min(seconds) < 1.5


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["trian"], 2, 'Did you mean "train"?'),
        (["train", "--epoch", "3"], 2, "Did you mean --epochs?"),
        (["train", "--batch_sise", "3"], 2, "--batch_size"),
        (["train", "--epochs", "many"], 2, '"many"'),
        (["train", "--epochs"], 2, "requires an argument"),
        (["train", "--use_amp", "maybe"], 2, '"maybe"'),
        (["train", "--no-use_amp"], 2, "--no-use_amp"),
        (["train", "--optimizer", "sgd"], 2, '"adam"'),
        (["train", "surplus"], 2, "surplus"),
        (["evaluate", "nothing", "--split", "train"], 2, '"valid"'),
        (["simulate"], 2, "--out"),
        (["check"], 2, "--run"),
        (["train", "--epochs", "0"], 1, "training.epochs = 0"),
        (["train", "--learning_rate", "nan"], 1, "training.learning_rate = nan"),
        (["train", "--fold", "-1"], 1, "data.fold = -1"),
        (["train", "--n_heads", "7"], 1, "n_heads = 7 must divide d_model = 512"),
        (["train", "--model", "gainakt2"], 1, "did you mean 'gainakt2exp'?"),
        (["train", "--config", "quikstart"], 1, "did you mean 'quickstart'?"),
        (["train", "--config", "broken.json"], 1, "broken.json"),
        (["train", "--config", "wrong_group.json"], 1, "did you mean 'training'?"),
        (["train", "--config", "wrong_name.json"], 1, "did you mean 'epochs'?"),
        (["train", "--data", "nowhere"], 1, "no prepared data set at nowhere"),
        (["train", "--devices", "cuda:99", "--data", "nowhere"], 1, "choose another device"),
        (["train", "--devices", "tpu"], 1, "hardware.devices = 'tpu'"),
        (["train", "--short_title", "a/b"], 1, "experiment.short_title = 'a/b'"),
        (["check", "nothing"], 1, "no experiment folder 'nothing'"),
        (["evaluate", "nothing"], 1, "no experiment folder 'nothing'"),
        (["prepare"], 1, "prepare needs READER"),
        (["prepare", "pykt", "nowhere"], 1, "prepare needs --out DIR"),
        (["prepare", "pykt", "nowhere", "--out", "data"], 1, "nowhere"),
        (["prepare", "pikt", "nowhere", "--out", "data"], 1, "did you mean 'pykt'?"),
        (["prepare", "pykt", "nowhere", "--out", "data", "--sep", ";"], 1, "no option 'sep'"),
        (["prepare", "akt_lines", "broken.json", "--out", "d", "--lines", "5"], 1, "'5'"),
        (["simulate", "--out", "data", "--students", "0"], 1, "students must be at least 1"),
        (["simulate", "--out", "."], 1, "exists already"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_mistakes_get_a_plain_answer(
    words: list[str], code: int, said: str, gainakt: Callable[..., Result], tmp_path: Path
) -> None:
    (tmp_path / "broken.json").write_text("{", encoding="utf-8")
    (tmp_path / "wrong_group.json").write_text('{"trainig": {}}', encoding="utf-8")
    (tmp_path / "wrong_name.json").write_text('{"training": {"epoch": 3}}', encoding="utf-8")
    before = sorted(tmp_path.iterdir())
    ended, out, err = gainakt(*words)
    assert (ended, out) == (code, "")
    assert err.startswith("gainakt: ")
    assert said in err
    assert "Traceback" not in err
    assert sorted(tmp_path.iterdir()) == before, "nothing may be left behind"


@pytest.mark.parametrize(
    "words",
    [
        ["train", "--seed", "1.5"],
        ["train", "--batch_size=8.9"],
        ["train", "--all", "1", "2.5"],
        ["crossval", "--folds", "0.5"],
        ["simulate", "--out", "data", "--students", "30.5"],
    ],
    ids=" ".join,
)
def test_a_whole_number_is_never_rounded(words: list[str], gainakt: Callable[..., Result]) -> None:
    code, out, err = gainakt(*words)
    assert (code, out) == (2, "")
    assert "into int" in err


@pytest.mark.parametrize("given", [["--purpose=-x"], ["--purpose", "-x"]])
def test_a_purpose_may_begin_with_a_dash(
    given: list[str], gainakt: Callable[..., Result], tiny_data: Path
) -> None:
    code, out, _ = gainakt("train", "--data", str(tiny_data), *TINY, *given, "--no-report")
    assert code == 0
    config = json.loads((Path(out.strip()) / "config.json").read_text(encoding="utf-8"))
    assert config["experiment"]["purpose"] == "-x"


def test_no_verb_shows_what_there_is(gainakt: Callable[..., Result]) -> None:
    code, out, _ = gainakt()
    assert code == 0
    assert all(verb in out for verb in verbs())


def test_the_version_is_the_packages(gainakt: Callable[..., Result]) -> None:
    import gainakt as package

    assert gainakt("--version") == (0, f"{package.__version__}\n", "")


def test_the_readers_are_listed(gainakt: Callable[..., Result]) -> None:
    from gainakt.data.readers import READERS

    code, out, _ = gainakt("prepare", "--list")
    assert code == 0
    lines = out.splitlines()
    assert [line.split()[0] for line in lines if not line.startswith(" ")] == list(READERS)
    for reader in READERS.values():
        for option in reader.options:
            assert f"--{option.replace('_', '-')} " in out, (reader.name, option)


TINY = [
    *("--epochs=1", "--d_model=8", "--n-heads=2", "--num_encoder_blocks=1", "--d-ff", "8"),
    *("--threads", "1", "--bootstrap_samples=100", "--batch-size", "16"),
]


def test_results_go_to_stdout_as_json_and_progress_to_stderr(
    gainakt: Callable[..., Result],
) -> None:
    code, out, err = gainakt(
        *("simulate", "--out", "data", "--students", "60", "--skills", "4", "--json")
    )
    assert (code, err) == (0, "")
    assert json.loads(out)["counts"]["students"] == 60

    switches = ["--use_amp", "false", "--auto-shifted-eval=true", "--enable_lag_gain_loss", "False"]
    code, out, err = gainakt("train", "--data", "data", *TINY, *switches, "--use-mlflow=no")
    assert code == 0
    folder = Path(out.strip())
    assert folder.parent.name == "experiments"
    assert "epoch 1/1 done" in err and "next: gainakt evaluate" in err
    recorded = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    assert recorded["refinement"]["enable_lag_gain_loss"] is False
    assert recorded["runtime"]["auto_shifted_eval"] is True
    assert recorded["override_applied"]["batch_size"] == 16

    # a unique start of the folder's name is enough
    code, out, err = gainakt("evaluate", folder.name[:8], "--json", "--quiet")
    assert (code, err) == (0, "")
    metrics = json.loads(out)
    assert metrics["split"] == "test" and 0 <= metrics["auc"] <= 1

    code, out, err = gainakt("check", folder.name[:8], "--json")
    checks = json.loads(out)
    assert len(checks) == 10 and {"title", "passed", "reason"} <= set(checks[0])
    assert code == (0 if all(check["passed"] for check in checks) else 1)

    code, out, err = gainakt("compare", str(folder), str(folder), "--json")
    assert (code, json.loads(out)["verdict"]) == (0, "IDENTICAL")

    (folder / "SEEDS.md").unlink()
    code, out, _ = gainakt("check", str(folder))
    assert code == 1
    assert "❌ Seeds documented: SEEDS.md is missing" in out


def test_it_runs_as_a_module() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "gainakt", "check", "nothing"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("gainakt: no experiment folder")


if __name__ == "__main__":
    GOLDEN.parent.mkdir(exist_ok=True)
    GOLDEN.write_text(surface(), encoding="utf-8")
