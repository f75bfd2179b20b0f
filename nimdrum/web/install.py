"""What `custom_flask.py` adds to DRUM's Flask app: one look at each request before DRUM's handlers, one after."""

import time
from typing import Any

from nimdrum.base.errors import EngineStartError, EngineUnavailableError, HTTPStatusError, SupervisorError
from nimdrum.base.log import event, get_logger
from nimdrum.session.caller import answering, take_turn
from nimdrum.session.exchange import via_name
from nimdrum.session.model import Model
from nimdrum.web import bodies, error_answers, metrics
from nimdrum.web.health import ROUTES as HEALTH_ROUTES
from nimdrum.web.health import health
from nimdrum.web.metrics import CONTENT_TYPE
from nimdrum.web.page import is_of_page, page
from nimdrum.web.pass_through import METHODS, pass_through
from nimdrum.web.stream import STREAM, Ending

ROUTES = {
    "/chat/completions": "chat",
    "/v1/chat/completions": "chat",
    "/models": "models",
    "/v1/models": "models",
    "/predict/": "predict",
    "/predictions/": "predict",
    "/invocations": "predict",
    "/metrics": "metrics",
}
PASS_THROUGH = ("/nim/", "/directAccess/")
LOOP_DETECTED = 508
BEGAN = "nimdrum_began"
DONE = "nimdrum_done"
UNCOUNTED = (None, "health", "metrics", "page")

log = get_logger("web")


def route_of(path: str) -> str | None:
    """Our word for a path below the URL prefix; None for one that is DRUM's alone. Pure."""
    if path in HEALTH_ROUTES:
        return "health"
    if is_of_page(path):
        return "page"
    return "nim" if path.startswith(PASS_THROUGH) else ROUTES.get(path)


def one_answer(wsgi_app: Any) -> Any:
    """`wsgi_app`, whose answers close their connections although gunicorn's keep-alive is on.

    DRUM has it off, because pools of proxies hold connections that they do not use, and the moment at which one is
    closed may be that of their next request. But it is gunicorn's only time limit for the head of a request.
    """

    def closing(environ: dict[str, Any], start_response: Any) -> Any:
        if (response := getattr(start_response, "__self__", None)) is not None and hasattr(response, "force_close"):
            response.force_close()
        return wsgi_app(environ, start_response)

    return closing


def install(app: Any, model: Model) -> None:
    """Answer health, metrics and pass-through on `app`, and look after what DRUM answers itself."""
    if app.extensions.setdefault("nimdrum", model) is not model:
        return  # a user's custom_flask.py called it as well
    import openai.types.chat  # noqa: F401

    import nimdrum.web.chat  # noqa: F401 - the first caller should not wait for imports

    if model.hosting.environ.get("NIMDRUM_ONE_ANSWER"):
        app.wsgi_app = one_answer(app.wsgi_app)
    prefix = model.hosting.environ.get("URL_PREFIX", "").rstrip("/")
    via = via_name(model)

    def below_prefix() -> str | None:
        from flask import request

        return request.path[len(prefix) :] if request.path.startswith(prefix) else None

    @app.before_request  # type: ignore[untyped-decorator]
    def before() -> Any:
        from flask import g

        setattr(g, BEGAN, time.monotonic())
        path = below_prefix()
        route = None if path is None else route_of(path)
        if route not in UNCOUNTED:
            take_turn()
            setattr(g, DONE, answering(model.attachment.run_dir))
        try:
            answer = _answer(model, route, path or "", prefix, via) if route else None
        except (HTTPStatusError, EngineStartError, EngineUnavailableError, SupervisorError) as error:
            if isinstance(error, HTTPStatusError):
                error_answers.remember(error)
            answer = error_answers.error_answer(error)
        if answer is not None:
            setattr(g, error_answers.OUR_ANSWER, True)
        return answer

    @app.after_request  # type: ignore[untyped-decorator]
    def after(response: Any) -> Any:
        from flask import g

        path = below_prefix()
        route = None if path is None else route_of(path)
        error_answers.finish(response, route)
        if end := g.pop(STREAM, None):
            response.response = Ending(response.response, end)
        if route not in UNCOUNTED:
            if done := g.pop(DONE, None):
                response.call_on_close(done)  # when all of it is sent
            began = getattr(g, BEGAN, time.monotonic())
            status = response.status_code
            response.call_on_close(lambda: metrics.count_request(model, str(route), status, time.monotonic() - began))
        return response

    @app.teardown_request  # type: ignore[untyped-decorator]
    def teardown(error: BaseException | None) -> None:
        from flask import g

        if done := g.pop(DONE, None):  # no answer was made
            done()

    event(log, "http.ready")  # once for each worker process


def _answer(model: Model, route: str, path: str, prefix: str, via: str) -> Any:
    """Our answer, or None to let DRUM go on. Raises HTTPStatusError for what must not go on."""
    from flask import request

    reading = request.method in ("GET", "HEAD")
    if route in ("health", "page") and reading and model.hosting.page:
        answer = page(model, prefix, path, "text/html" in request.headers.get("Accept", ""))
        if answer is not None:
            return answer
    if route == "health":
        return health(model.attachment.state(), trouble=model.attachment.trouble) if reading else None
    if route == "metrics":
        return (metrics.page(model), 200, {"Content-Type": CONTENT_TYPE}) if reading else None
    if route in ("nim", "chat") and via in request.headers.get("Via", ""):
        raise HTTPStatusError("This request came from this server: its external engine is itself.", LOOP_DETECTED)
    if route == "nim" and request.method in METHODS:
        start = next(start for start in PASS_THROUGH if path.startswith(start))
        return pass_through(model, prefix + start.rstrip("/"), path.removeprefix(start))
    if route == "chat" and request.method == "POST":
        bodies.read_body(request, model.settings.max_request_mb)
        bodies.check_chat(request)
    if route == "predict" and request.method == "POST":
        bodies.check_form(request)
    return None
