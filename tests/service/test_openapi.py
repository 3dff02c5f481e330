"""The OpenAPI document is true: generated requests are answered as it says, and never by a 5xx."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

schemathesis = pytest.importorskip("schemathesis")
pytest.importorskip("fastapi")

from hypothesis import HealthCheck, Phase, given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402
from schemathesis.specs.openapi.checks import (  # noqa: E402
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.service.client import Client, answer  # noqa: E402

CHECKS = [
    schemathesis.checks.not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]


@pytest.mark.filterwarnings("ignore")
def test_generated_requests_are_answered_as_declared(tracer: Any, tmp_path: Path) -> None:
    from gainakt.service.database import Database

    database = Database(str(tmp_path / "a.sqlite"))
    client = Client.of(tracer, database, keys=False)
    client.post(answer("ada"))
    schema = schemathesis.openapi.from_asgi("/v1/openapi.json", client.app)
    operations = [operation.ok() for operation in schema.get_all_operations()]
    assert len(operations) == 11
    modes = schemathesis.GenerationMode
    for operation in operations:
        strategies = [operation.as_strategy(generation_mode=mode) for mode in modes]

        @given(case=st.one_of(strategies))
        @settings(
            max_examples=25,
            deadline=None,
            derandomize=True,
            database=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        def answered(case: Any) -> None:
            case.call_and_validate(
                base_url="http://localhost", checks=CHECKS, headers={"Host": "localhost"}
            )

        answered()
    database.close()
