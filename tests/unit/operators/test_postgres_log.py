"""Whether Postgres's own log has what people write, as `worker doctor` judges its settings."""

import pytest

from worker.cli.doctor.check_postgres import judge_log
from worker.domain.reports.finding import Level

SLOW = {"log_min_duration_statement": "500"}


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"log_statement": "ddl", "log_transaction_sample_rate": "0"},
        SLOW | {"log_error_verbosity": "terse"},
        SLOW | {"log_parameter_max_length": "0"},
        {"auto_explain.log_min_duration": "0", "auto_explain.log_parameter_max_length": "0"},
    ],
)
def test_a_log_without_parameters_is_fine(settings: dict[str, str]) -> None:
    assert judge_log(settings).level is Level.OK


@pytest.mark.parametrize(
    ("settings", "by"),
    [
        (SLOW, "log_min_duration_statement"),
        ({"log_min_duration_statement": "0"}, "log_min_duration_statement"),
        ({"log_min_duration_sample": "5"}, "log_min_duration_sample"),
        ({"log_statement": "all"}, "log_statement"),
        ({"log_statement": "mod"}, "log_statement"),
        ({"log_transaction_sample_rate": "0.1"}, "log_transaction_sample_rate"),
        (SLOW | {"log_error_verbosity": "verbose"}, "log_min_duration_statement"),
        (SLOW | {"log_parameter_max_length": "20"}, "log_min_duration_statement"),
        ({"log_parameter_max_length_on_error": "-1"}, "log_parameter_max_length_on_error"),
        (
            {"auto_explain.log_min_duration": "0", "log_error_verbosity": "terse"},
            "auto_explain",
        ),
        ({"pgaudit.log_parameter": "on"}, "pgaudit.log_parameter"),
    ],
)
def test_a_log_with_parameters_is_a_warning(settings: dict[str, str], by: str) -> None:
    found = judge_log(settings)
    assert found.level is Level.WARNING
    assert by in found.found
    assert "log_parameter_max_length" in found.fix
