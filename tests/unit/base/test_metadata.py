"""model-metadata.yaml, the code and docs/parameters.md agree: the YAML is the one list of what users can set."""

import os
from collections import Counter
from pathlib import Path
from unittest import mock

import pytest
from datarobot_drum.drum.model_metadata import read_model_metadata_yaml
from datarobot_drum.runtime_parameters.runtime_parameters import RuntimeParametersLoader

from nimdrum.base.parameters import Parameter, convert, read_parameters, replace_table, table
from nimdrum.base.settings import ARTIFACTS_TARGETS, LOG_LEVELS, load_settings
from nimdrum.engines.choose import AUTO, find_kinds

ROOT = Path(__file__).resolve().parents[3]
PARAMETERS = read_parameters(ROOT)
PROMISED = set(
    "NGC_API_KEY NIM_MODEL_PROFILE NIM_LOG_LEVEL NIM_MAX_MODEL_LEN system_prompt prompt_column_name max_tokens n "
    "temperature verifySSL served_model_name DR_NIM_SERVER_HOST DR_NIM_SERVER_PORT DR_NIM_HEALTH_ROUTE max_watchdog_restarts "
    "max_watchdog_backoff_sec DRUM_OPENAI_CLIENT_TIMEOUT engine startup_timeout_sec max_concurrency row_timeout_sec "
    "extra_output_columns".split()
)


def test_drum_accepts_the_file() -> None:
    """DRUM checks it against its strict schema at every start."""
    document = read_model_metadata_yaml(ROOT)
    assert document["targetType"] == "textgeneration"
    assert document["inferenceModel"]["targetName"] == "resultText"


def test_drum_loads_the_parameters(tmp_path: Path) -> None:
    """Through DRUM's loader every default arrives as the settings that we get without any file."""
    values = tmp_path / "values.yaml"
    values.write_text("max_tokens: 64\ntemperature: 0\nunknown: ignored\n")
    with mock.patch.dict(os.environ):
        RuntimeParametersLoader(str(values), str(ROOT)).setup_environment_variables()
        loaded = load_settings(ROOT)
    assert loaded == load_settings(ROOT, {"max_tokens": 64, "temperature": 0}.get)


def test_the_promised_parameters_are_defined() -> None:
    """None of them may go; more may come."""
    assert set(PARAMETERS) >= PROMISED


def test_each_definition_is_read_once_and_nothing_else_is() -> None:
    """A parameter in the YAML that nobody reads, or one that is read but not defined, fails here."""
    reads: Counter[str] = Counter()
    try:
        load_settings(ROOT, lambda name: reads.update([name]))
    except KeyError as error:
        pytest.fail(
            f"load_settings in nimdrum/base/settings.py reads {error}, which model-metadata.yaml does not define."
        )
    forgotten = ", ".join(PARAMETERS.keys() - reads)
    assert not forgotten, (
        f"model-metadata.yaml defines {forgotten}; load_settings in nimdrum/base/settings.py reads it not."
    )
    assert reads == dict.fromkeys(PARAMETERS, 1)


@pytest.mark.parametrize("parameter", PARAMETERS.values(), ids=list(PARAMETERS))
def test_each_definition_is_complete(parameter: Parameter) -> None:
    """It has a description and a default that its own rules accept; a number also has both bounds."""
    assert parameter.description.endswith(".")
    assert convert(parameter, None) == parameter.default
    if parameter.default is not None:
        assert convert(parameter, parameter.default) == parameter.default
    if parameter.type == "numeric":
        assert parameter.minimum is not None
        assert parameter.maximum is not None


WORDS = {
    "engine": {AUTO, *(kind.name for kind in find_kinds())},
    "NIM_LOG_LEVEL": set(LOG_LEVELS),
    "model_artifacts_target": set(ARTIFACTS_TARGETS),
}


@pytest.mark.parametrize("name", WORDS)
def test_descriptions_list_the_allowed_words(name: str) -> None:
    """All of them and no other: DataRobot shows the description and no list of choices."""
    listed = PARAMETERS[name].description.partition("One of ")[2].partition(". ")[0].split(", ")
    missing, unknown = sorted(WORDS[name] - set(listed)), sorted(set(listed) - WORDS[name])
    assert not missing, f"The description of {name} in model-metadata.yaml does not list {missing}."
    assert not unknown, (
        f"The description of {name} in model-metadata.yaml lists {unknown}, which the code does not know. An engine is "
        "known by the KIND of its module in nimdrum/engines."
    )


def test_the_documentation_shows_this_list() -> None:
    """Its table is the one that the file gives: `python -m nimdrum parameters --write docs/parameters.md` renews it."""
    page = (ROOT / "docs/parameters.md").read_text(encoding="utf-8")
    assert replace_table(page, table(PARAMETERS.values())) == page, (
        "docs/parameters.md does not agree with model-metadata.yaml: python -m nimdrum parameters --write docs/parameters.md"
    )
