"""The configuration: its canonical order and defaults, its files, its refusals and its hash."""

from __future__ import annotations

import json
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gainakt.config import (
    MODELS,
    SWITCHES,
    Config,
    config_hash,
    dump_config,
    flatten,
    group_of,
    load_config,
    named_configs,
    overridden,
    parameters,
    parse_config,
)
from gainakt.errors import ConfigError

# Canonical order with every default. Names and values are in published results: this changes only
# by adding.
DEFAULTS: dict[str, dict[str, Any]] = {
    "runtime": {
        "seed": 42,
        "monitor_freq": 50,
        "use_amp": False,
        "use_wandb": False,
        "use_mlflow": False,
        "enable_cosine_perf_schedule": False,
        "auto_shifted_eval": True,
        "deterministic": True,
        "command": "",
        "train_command": "",
        "eval_command": "",
        "repro_command": "",
        "timestamp": "",
    },
    "hardware": {"devices": "auto", "threads": 0, "cuda_graphs": "auto", "compile": "auto"},
    "seeds": {"primary": 42, "all": [42]},
    "training": {
        "epochs": 12,
        "batch_size": 64,
        "learning_rate": 1.74e-4,
        "weight_decay": 1.7571e-5,
        "optimizer": "adam",
        "mixed_precision": "bf16",
        "gradient_clip": 1.0,
        "patience": 20,
        "beta2": 0.999,
        "learning_rate_schedule": "constant",
        "warmup_steps": 0,
        "teachers": 0,
        "teacher_epochs": 4,
        "teacher_weight": 0.8,
        "weight_average": 0.0,
        "weight_average_warmup": False,
    },
    "experiment": {"id": "", "model": "gainakt2exp", "short_title": "run", "purpose": ""},
    "data": {"dataset": "simulated", "fold": 0, "test_fold": -1},
    "interpretability": {
        "use_mastery_head": True,
        "use_gain_head": True,
        "enhanced_constraints": True,
        "non_negative_loss_weight": 0.0,
        "monotonicity_loss_weight": 0.1,
        "mastery_performance_loss_weight": 0.8,
        "gain_performance_loss_weight": 0.8,
        "sparsity_loss_weight": 0.2,
        "consistency_loss_weight": 0.3,
        "warmup_constraint_epochs": 8,
        "max_semantic_students": 50,
    },
    "alignment": {
        "enable_alignment_loss": True,
        "alignment_weight": 0.25,
        "alignment_warmup_epochs": 8,
        "adaptive_alignment": True,
        "alignment_min_correlation": 0.05,
        "alignment_share_cap": 0.08,
        "alignment_share_decay_factor": 0.7,
    },
    "global_alignment": {
        "enable_global_alignment_pass": True,
        "alignment_global_students": 600,
        "use_residual_alignment": True,
        "alignment_residual_window": 5,
    },
    "refinement": {
        "enable_retention_loss": True,
        "retention_delta": 0.005,
        "retention_weight": 0.14,
        "enable_lag_gain_loss": True,
        "lag_gain_weight": 0.06,
        "lag_max_lag": 3,
        "lag_l1_weight": 0.5,
        "lag_l2_weight": 0.3,
        "lag_l3_weight": 0.2,
        "consistency_rebalance_epoch": 8,
        "consistency_rebalance_threshold": 0.1,
        "consistency_rebalance_new_weight": 0.2,
        "variance_floor": 1e-4,
        "variance_floor_patience": 3,
        "variance_floor_reduce_factor": 0.5,
    },
    "model": {
        "seq_len": 200,
        "d_model": 512,
        "n_heads": 8,
        "num_encoder_blocks": 6,
        "d_ff": 1024,
        "dropout": 0.2,
        "emb_type": "qid",
        "question_ids": False,
        "question_dropout": 0.1,
    },
    "evaluation": {"window_stride": 20, "bootstrap_samples": 1000},
}

# A second value of every parameter that has one, valid on its own or with the values beside it.
OTHER: dict[str, Any] = {
    "seed": 43,
    "monitor_freq": 10,
    "use_amp": True,
    "use_wandb": True,
    "use_mlflow": True,
    "enable_cosine_perf_schedule": True,
    "auto_shifted_eval": False,
    "deterministic": False,
    "command": "gainakt train",
    "train_command": "gainakt train --epochs 1",
    "eval_command": "gainakt evaluate x",
    "repro_command": "gainakt reproduce x",
    "timestamp": "20250102_030405",
    "devices": "cpu",
    "threads": 2,
    "cuda_graphs": "off",
    "compile": "on",
    "all": (42, 43),
    "epochs": 1,
    "batch_size": 32,
    "learning_rate": 1e-3,
    "weight_decay": 0.0,
    "optimizer": "adamw",
    "gradient_clip": 0.5,
    "patience": 3,
    "beta2": 0.95,
    "learning_rate_schedule": "cosine",
    "warmup_steps": 100,
    "teachers": 2,
    "teacher_epochs": 3,
    "teacher_weight": 0.5,
    "weight_average": 0.99,
    "weight_average_warmup": True,
    "id": "20250102_030405_gainakt2exp_run",
    "short_title": "a.b-c_1",
    "purpose": 'Why: ümlauts, "quotes" and\nlines.',
    "dataset": "assist2015",
    "fold": 3,
    "test_fold": 1,
    "enhanced_constraints": False,
    "non_negative_loss_weight": 0.1,
    "monotonicity_loss_weight": 0.0,
    "mastery_performance_loss_weight": 0.5,
    "gain_performance_loss_weight": 0.5,
    "sparsity_loss_weight": 0.1,
    "consistency_loss_weight": 0.1,
    "warmup_constraint_epochs": 4,
    "max_semantic_students": 10,
    "enable_alignment_loss": False,
    "alignment_weight": 0.1,
    "alignment_warmup_epochs": 4,
    "adaptive_alignment": False,
    "alignment_min_correlation": -0.1,
    "alignment_share_cap": 0.2,
    "alignment_share_decay_factor": 0.5,
    "enable_global_alignment_pass": False,
    "alignment_global_students": 100,
    "use_residual_alignment": False,
    "alignment_residual_window": 7,
    "enable_retention_loss": False,
    "retention_delta": 0.01,
    "retention_weight": 0.1,
    "enable_lag_gain_loss": False,
    "lag_gain_weight": 0.05,
    "lag_max_lag": 2,
    "lag_l1_weight": 0.6,
    "lag_l2_weight": 0.4,
    "lag_l3_weight": 0.1,
    "consistency_rebalance_epoch": 4,
    "consistency_rebalance_threshold": 0.2,
    "consistency_rebalance_new_weight": 0.1,
    "variance_floor": 1e-5,
    "variance_floor_patience": 5,
    "variance_floor_reduce_factor": 0.7,
    "seq_len": 100,
    "d_model": 256,
    "n_heads": 4,
    "num_encoder_blocks": 2,
    "d_ff": 256,
    "dropout": 0.0,
    "question_ids": True,
    "question_dropout": 0.3,
    "window_stride": 1,
    "bootstrap_samples": 200,
}
# One value only, or bound to others: `primary` follows `seed`, the heads go with the objectives.
WITHOUT_OTHER = {
    "primary",
    "mixed_precision",
    "model",
    "emb_type",
    "use_mastery_head",
    "use_gain_head",
}
# How a run is carried out, watched and named; the result is the same.
WITHOUT_INFLUENCE = {
    "monitor_freq",
    "use_wandb",
    "use_mlflow",
    "auto_shifted_eval",
    "command",
    "train_command",
    "eval_command",
    "repro_command",
    "timestamp",
    "devices",
    "threads",
    "cuda_graphs",
    "compile",
    "all",
    "id",
    "short_title",
    "purpose",
    "bootstrap_samples",
}
# Not the user's to choose.
FILLED_BY_RUN = {"command", "train_command", "eval_command", "repro_command", "timestamp", "id"}
PLAIN: dict[str, Any] = {
    "enhanced_constraints": False,
    "enable_alignment_loss": False,
    "enable_global_alignment_pass": False,
    "enable_retention_loss": False,
    "enable_lag_gain_loss": False,
}

overrides_of_any = st.lists(st.sampled_from(sorted(OTHER)), unique=True, max_size=12).map(
    lambda names: {name: OTHER[name] for name in names}
)


def written(folder: Path, content: Any) -> Path:
    path = folder / "config.json"
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def test_groups_parameters_and_defaults_are_frozen() -> None:
    content = load_config(None).model_dump(mode="json")
    assert content == DEFAULTS
    assert list(content) == list(DEFAULTS)
    for group, values in DEFAULTS.items():
        assert list(content[group]) == list(values), group


def test_every_default_is_of_its_type_and_every_parameter_is_explained() -> None:
    for group, name, field in parameters():
        assert field.description, f"{group}.{name}"
    for group, values in DEFAULTS.items():
        for name, value in values.items():
            found = load_config(None).model_dump(mode="json")[group][name]
            assert type(found) is type(value), name


def test_names_are_unique_so_that_a_flag_needs_no_group() -> None:
    names = Counter(name for _, name, _ in parameters())
    assert [name for name, count in names.items() if count > 1] == []
    expected = {name: group for group, values in DEFAULTS.items() for name in values}
    assert expected.items() <= group_of().items()


def test_flattened_values_keep_the_order() -> None:
    flat = flatten(load_config(None))
    assert list(flat) == [name for values in DEFAULTS.values() for name in values]
    assert flat["learning_rate"] == 1.74e-4


def test_the_table_of_other_values_is_complete() -> None:
    names = {name for values in DEFAULTS.values() for name in values}
    assert set(OTHER) | WITHOUT_OTHER == names
    assert not set(OTHER) & WITHOUT_OTHER


@pytest.mark.parametrize("name", sorted(OTHER))
def test_one_override_changes_one_value_and_is_recorded(name: str) -> None:
    config = load_config(None, {name: OTHER[name]})
    expected = list(OTHER[name]) if isinstance(OTHER[name], tuple) else OTHER[name]
    changed = {
        key: value for key, value in flatten(config).items() if value != flatten(Config())[key]
    }
    follows = {"seed": {"primary": 43, "all": [43]}}.get(name, {})
    assert changed == {name: expected} | follows
    recorded = {} if name in FILLED_BY_RUN else changed
    assert dump_config(config)["override_applied"] == recorded


@pytest.mark.parametrize("name", sorted(OTHER))
def test_the_hash_changes_with_what_determines_the_result(name: str) -> None:
    changed = config_hash(load_config(None, {name: OTHER[name]})) != config_hash(load_config(None))
    assert changed == (name not in WITHOUT_INFLUENCE)


def test_the_hash_changes_with_the_heads() -> None:
    plain = load_config(None, PLAIN)
    without_mastery = load_config(None, PLAIN | {"use_mastery_head": False})
    without_heads = load_config(None, PLAIN | {"use_mastery_head": False, "use_gain_head": False})
    assert len({config_hash(c) for c in (plain, without_mastery, without_heads)}) == 3


def test_the_hash_does_not_depend_on_how_a_number_is_written() -> None:
    first = config_hash(load_config(None, {"gradient_clip": 2}))
    assert config_hash(load_config(None, {"gradient_clip": 2.0})) == first
    assert len(first) == 64


@settings(deadline=None, max_examples=60)
@given(overrides_of_any)
def test_writing_and_loading_gives_the_same_configuration(overrides: dict[str, Any]) -> None:
    config = load_config(None, overrides)
    content = dump_config(config)
    with tempfile.TemporaryDirectory() as folder:
        loaded = load_config(written(Path(folder), content))
    assert loaded == config
    assert dump_config(loaded) == content
    assert parse_config(content) == config
    # what was overridden is enough to build it again
    assert flatten(load_config(None, overridden(config))).items() >= overridden(config).items()
    assert config_hash(load_config(None, overridden(config))) == config_hash(config)


@pytest.mark.parametrize("name", MODELS)
def test_every_model_has_a_configuration_that_goes_round(name: str) -> None:
    config = load_config(None, {"model": name, **PLAIN})
    assert type(config.model) is MODELS[name].parameters
    content = dump_config(config)
    assert parse_config(content) == config
    # values that all models share are where they are for the first
    assert [group for group in content if group in DEFAULTS] == list(DEFAULTS)
    assert next(iter(content["model"])) == "seq_len"


def test_flags_go_over_the_file(tmp_path: Path) -> None:
    path = written(tmp_path, {"training": {"epochs": 3, "batch_size": 16}})
    config = load_config(path, {"epochs": 5})
    assert (config.training.epochs, config.training.batch_size) == (5, 16)
    # the file itself is complete with defaults
    assert config.training.learning_rate == 1.74e-4


def test_choosing_another_model_leaves_the_file_s_model_parameters_behind(tmp_path: Path) -> None:
    others = [name for name in MODELS if name != "gainakt2exp"]
    if not others:
        pytest.skip("there is one model only")
    path = written(tmp_path, dump_config(load_config(None, {**PLAIN, "num_encoder_blocks": 1})))
    config = load_config(path, {"model": others[0]})
    assert type(config.model) is MODELS[others[0]].parameters
    # the same model keeps them
    config = load_config(path, {"model": "gainakt2exp"})
    assert config.model_dump()["model"]["num_encoder_blocks"] == 1


@pytest.mark.parametrize("name", sorted(named_configs()))
def test_named_configurations_hold_what_they_change(name: str) -> None:
    config = load_config(name)
    content = json.loads(named_configs()[name].read_text(encoding="utf-8"))
    base = content.pop("base", None)
    below = load_config(base, {"model": config.experiment.model}).model_dump(mode="json")
    for group, values in content.items():
        for parameter, value in values.items():
            assert value == config.model_dump(mode="json")[group][parameter]
            needless = value == below[group][parameter] and parameter != "model"
            assert not needless, f"{group}.{parameter} is that of the base already"


def test_a_base_is_another_configuration(tmp_path: Path) -> None:
    for name, base in (("a", "b"), ("b", "a"), ("c", "c"), ("d", "nowhere")):
        (tmp_path / f"{name}.json").write_text(
            json.dumps({"base": base if base == "nowhere" else str(tmp_path / f"{base}.json")})
        )
    for name, message in (("a", "no other configuration"), ("c", "no other"), ("d", "base of")):
        with pytest.raises(ConfigError, match=message):
            load_config(tmp_path / f"{name}.json")
    (tmp_path / "e.json").write_text(
        json.dumps({"base": "gainsum", "experiment": {"model": "dkt"}, "training": {"epochs": 3}})
    )
    config = load_config(tmp_path / "e.json")
    assert config.experiment.model == "dkt" and config.training.epochs == 3
    assert config.model == MODELS["dkt"].parameters()
    assert config.training.optimizer == load_config("gainsum").training.optimizer


@pytest.mark.parametrize("name", MODELS)
def test_every_model_needs_nothing_but_its_name(name: str) -> None:
    config = load_config(None, {"model": name})
    assert config.interpretability.enhanced_constraints == ("mastery" in config.outputs())
    assert config.refinement.enable_lag_gain_loss == ("gains" in config.outputs())
    assert overridden(config) == ({} if name == "gainakt2exp" else {"model": name})
    automatic = dict.fromkeys(SWITCHES, "auto")
    assert load_config(None, {"model": name, **automatic}) == config


def test_all_that_a_model_lacks_is_said_at_once() -> None:
    asked = {"enable_alignment_loss": True, "enable_lag_gain_loss": True}
    with pytest.raises(ConfigError) as error:
        load_config(None, {"model": "dkt", **asked})
    assert all(f"{flag} = true needs" in str(error.value) for flag in asked)


@pytest.mark.parametrize(
    "content",
    [
        "[" * 100_000,
        '{"training": {"epochs": ' + "9" * 5000 + "}}",
        '{"training": {"epochs": 1e400}}',
    ],
)
def test_what_json_cannot_mean_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "deep.json"
    path.write_text(content)
    with pytest.raises(ConfigError):
        load_config(path)


@pytest.mark.parametrize(
    "flags",
    [
        {"d_model": 1 << 40},
        {"d_ff": 10**9},
        {"seq_len": 10**9},
        {"epochs": 10**30},
        {"variance_floor_patience": 10**30},
        {"dropout": 0.9999999},
        {"lag_gain_weight": 1e300},
    ],
)
def test_every_number_has_an_end(flags: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=next(iter(flags))):
        load_config(None, flags)


def test_names_of_the_first_version_are_understood() -> None:
    assert load_config(None, {"lag_l1": 0.7}) == load_config(None, {"lag_l1_weight": 0.7})
    values = dump_config(load_config(None))
    del values["format_version"]
    values["refinement"]["lag_l1"] = values["refinement"].pop("lag_l1_weight") + 0.25
    assert parse_config(values).refinement.lag_l1_weight == 0.75
    with pytest.raises(ConfigError, match="newer version of GainAKT"):
        parse_config(values | {"format_version": 99})


def test_a_purpose_says_what_was_changed() -> None:
    purpose = load_config("gainsum_assist2015").experiment.purpose
    config = load_config("gainsum_assist2015", {"teachers": 0, "seed": 7})
    assert config.experiment.purpose == f"{purpose}; changed: teachers 0"


def test_the_seed_run_by_name() -> None:
    if "tolerance_test" not in named_configs():
        pytest.skip("the named configurations are not there yet")
    expected = load_config(None, {"epochs": 1, "batch_size": 32, "dataset": "assist2015"})
    assert config_hash(load_config("tolerance_test")) == config_hash(expected)


@pytest.mark.parametrize(
    ("overrides", "seed", "all_seeds"),
    [
        ({}, 42, (42,)),
        ({"seed": 7}, 7, (7,)),
        ({"primary": 7}, 7, (7,)),
        ({"seed": 7, "all": (6, 7)}, 7, (6, 7)),
        ({"seed": 7, "primary": 7}, 7, (7,)),
    ],
)
def test_the_seeds_follow(overrides: dict[str, Any], seed: int, all_seeds: tuple[int, ...]) -> None:
    config = load_config(None, overrides)
    assert config.runtime.seed == config.seeds.primary == seed
    assert config.seeds.all == all_seeds


def test_a_seed_among_those_of_the_file_keeps_them(tmp_path: Path) -> None:
    path = written(tmp_path, {"seeds": {"all": [42, 43, 44]}})
    assert load_config(path, {"seed": 43}).seeds.all == (42, 43, 44)
    assert load_config(path, {"seed": 9}).seeds.all == (9,)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        # unknown names, with the near one
        (
            {"learning_rte": 0.1},
            r"unknown parameter 'learning_rte'; did you mean 'learning_rate'\?",
        ),
        ({"nheads": 4}, "did you mean 'n_heads'"),
        ({"zzzzzz": 1}, "unknown parameter 'zzzzzz'$"),
        ({"model": "gainakt2xp"}, r"did you mean 'gainakt2exp'.*allowed: gainakt2exp"),
        # wrong types
        ({"epochs": "three"}, "training.epochs = 'three'"),
        ({"epochs": 1.5}, "training.epochs = 1.5"),
        ({"epochs": True}, "training.epochs = True"),
        ({"learning_rate": "fast"}, "training.learning_rate = 'fast'"),
        ({"use_amp": 1}, "runtime.use_amp = 1"),
        ({"dataset": 5}, "data.dataset = 5"),
        ({"all": 42}, "seeds.all = 42"),
        ({"all": (42, "x")}, "seeds.all.1 = 'x'"),
        # impossible values
        ({"n_heads": 7}, "n_heads = 7 must divide d_model = 512"),
        ({"fold": 0, "test_fold": 0}, "test_fold = 0 must not be the validation fold"),
        ({"fold": -1}, "data.fold = -1.*greater than or equal to 0"),
        ({"sparsity_loss_weight": -0.1}, "sparsity_loss_weight = -0.1.*greater than or equal to 0"),
        ({"alignment_weight": float("nan")}, "alignment_weight = nan"),
        ({"alignment_weight": float("inf")}, "alignment_weight = inf"),
        ({"learning_rate": 0.0}, "learning_rate = 0.0.*greater than 0"),
        ({"dropout": 1.0}, "dropout = 1.0.*less than or equal to 0.99"),
        ({"batch_size": 0}, "batch_size = 0"),
        ({"seq_len": 2}, "seq_len = 2"),
        ({"seed": -1}, "seed = -1"),
        ({"seed": 2**32}, "seed = 4294967296"),
        ({"all": (42, -1)}, "seeds.all.1 = -1"),
        ({"all": ()}, "seeds.all"),
        ({"devices": "tpu"}, "hardware.devices = 'tpu'"),
        ({"optimizer": "sgd"}, "optimizer = 'sgd'.*'adam' or 'adamw'"),
        ({"short_title": "a/b"}, "short_title = 'a/b'"),
        ({"short_title": "../up"}, "short_title"),
        ({"alignment_share_cap": 1.5}, "alignment_share_cap = 1.5"),
        ({"alignment_min_correlation": -2.0}, "alignment_min_correlation = -2.0"),
        ({"lag_max_lag": 4}, "lag_max_lag = 4"),
        ({"beta2": 1.0}, "beta2 = 1.0"),
        # values that contradict one another
        ({"alignment_residual_window": 4}, "alignment_residual_window must be odd"),
        ({"lag_max_lag": 1, "lag_l1_weight": 0.0}, "lag_l1_weight to lag_l3_weight"),
        ({"seed": 7, "primary": 8}, "primary = 8 and seed = 7"),
        ({"all": (1, 2)}, r"all = \[1, 2\] must contain primary = 42"),
        ({"use_gain_head": False}, "use_mastery_head = true needs use_gain_head"),
        (
            {"use_mastery_head": False, "enhanced_constraints": True},
            "enhanced_constraints = true needs mastery",
        ),
        (
            {**PLAIN, "use_mastery_head": False, "enable_retention_loss": True},
            "enable_retention_loss = true needs mastery",
        ),
        (
            {
                **PLAIN,
                "use_mastery_head": False,
                "use_gain_head": False,
                "enable_lag_gain_loss": True,
            },
            "enable_lag_gain_loss = true needs gains",
        ),
    ],
    ids=lambda value: str(value)[:50] if isinstance(value, dict) else "",
)
def test_what_is_refused_is_named(overrides: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_config(None, overrides)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([1], "must hold groups of parameters"),
        ("text", "must hold groups of parameters"),
        ({"trainin": {}}, "unknown group 'trainin'; did you mean 'training'"),
        ({"training": 5}, "group 'training' must hold parameters by name"),
        ({"experiment": 5}, "group 'experiment' must hold parameters by name"),
        ({"seeds": None}, "group 'seeds' must hold parameters by name"),
        ({"experiment": {"model": ["a"]}}, r"experiment.model = \['a'\] is not a model"),
        ({"training": {"epoch": 1}}, "unknown parameter training.epoch; did you mean 'epochs'"),
        # right name, wrong group
        ({"training": {"dropout": 0.1}}, "unknown parameter training.dropout; did you mean"),
        ({"seeds": {"all": 5}}, "seeds.all = 5"),
        ({"runtime": {"seed": 7}}, "primary = 42 and seed = 7"),
    ],
    ids=str,
)
@pytest.mark.parametrize("overrides", [{}, {"epochs": 2}], ids=["alone", "with flags"])
def test_files_that_are_refused(
    content: Any, message: str, overrides: dict[str, Any], tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=message):
        load_config(written(tmp_path, content), overrides)


def test_flags_over_a_damaged_group_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="group 'training' must hold"):
        load_config(written(tmp_path, {"training": [1]}), {"epochs": 2})
    with pytest.raises(ConfigError, match=r"seeds\.all = 5"):
        load_config(written(tmp_path, {"seeds": {"all": 5}}), {"seed": 2})


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such file, and no named configuration"):
        load_config(tmp_path / "missing.json")
    path = tmp_path / "config.json"
    for content in (b"", b"{", b"\xff\xfe\x00", b'{"a": }'):
        path.write_bytes(content)
        with pytest.raises(ConfigError, match="cannot be read as JSON"):
            load_config(path)
    with pytest.raises(ConfigError, match="cannot be read"):
        load_config(tmp_path)


def test_a_misspelt_named_configuration_is_suggested() -> None:
    if "quickstart" not in named_configs():
        pytest.skip("the named configurations are not there yet")
    with pytest.raises(ConfigError, match="did you mean 'quickstart'"):
        load_config("quickstrt")


def test_a_configuration_never_changes() -> None:
    config = load_config(None)
    with pytest.raises(ValueError, match="frozen"):
        config.training.epochs = 3


def test_outputs_follow_the_heads() -> None:
    assert load_config(None).outputs() == {"mastery", "gains"}
    assert load_config(None, {**PLAIN, "use_mastery_head": False}).outputs() == {"gains"}
    none = {**PLAIN, "use_mastery_head": False, "use_gain_head": False}
    assert load_config(None, none).outputs() == frozenset()
