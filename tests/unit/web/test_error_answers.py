"""Error answers over DRUM's own Flask app, whose handlers before and after a request are older than ours."""

from typing import Any

import pytest
from datarobot_drum.drum.exceptions import CustomHTTPError
from datarobot_drum.drum.server import empty_api_blueprint, get_flask_app
from flask.testing import FlaskClient
from http_face import Face, face  # noqa: F401 - a fixture

from nimdrum import hooks
from nimdrum.web.install import install


def drum(model: hooks.Model) -> FlaskClient:
    """DRUM's app with a /predict/ that fails as DRUM's does on an error that is not for the caller."""
    api = empty_api_blueprint()

    @api.route("/predict/", methods=["POST"])
    def predict() -> Any:
        return {"message": "ERROR: Exception: ValueError('my confidential prompt')"}, 500

    app = get_flask_app(api)
    install(app, model)
    return app.test_client()


@pytest.mark.parametrize("headers", [{}, {"X-Request-Id": "mine-1"}], ids=["DRUM's id", "the caller's"])
def test_a_failure_of_the_server_names_the_request_and_nothing_else(face: Face, headers: dict[str, str]) -> None:  # noqa: F811
    """With the id under which DRUM's log has the cause, which is also in the answer's header."""
    answer = drum(face.model).post("/predict/", headers=headers)
    assert answer.status_code == 500
    assert "confidential" not in answer.text
    assert f"request id {answer.headers['X_Request_ID']}." in answer.json["message"]


def test_the_callers_mistake_is_one_stack_in_drums_log(face: Face) -> None:  # noqa: F811
    """DRUM logs each of them with all its causes; the sentence says everything."""
    with pytest.raises(CustomHTTPError) as raised:
        hooks.read_input_data(b"")
    assert raised.value.__cause__ is None
