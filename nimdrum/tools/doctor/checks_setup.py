"""Checks of what was set and installed: parameters, ports, packages, folder, platform. Pure."""

from nimdrum.base.errors import ReleaseError
from nimdrum.base.releases import DRUM, RANGES, untried
from nimdrum.supervisor.state import Phase
from nimdrum.tools.doctor.finding import Finding, ok, problem, warning
from nimdrum.tools.doctor.surroundings import Answer, Packages, Surroundings

PYTHONS = ((3, 10), (3, 13))
HOOKS = ("custom.py", "custom_flask.py")
SHOWN = 3


def check_parameters(facts: Surroundings) -> Finding:
    return problem(facts.settings_error) if facts.settings_error else ok("the runtime parameters are valid")


def check_rows(facts: Surroundings) -> Finding | None:
    if facts.rows is None:
        return None
    return problem(facts.rows_error) if facts.rows_error else ok(f"{facts.rows} can be answered")


def check_ports(facts: Surroundings) -> Finding | None:
    ports = facts.ports.value
    taken = [port for port in ports if not port.free and not port.can_move]
    told = ", ".join(f"{p.number} ({p.what}{f', {p.owner}' if p.owner else ''})" for p in taken)
    if taken and facts.runs:
        return ok(f"in use, and an engine of this user runs: {told}")
    if taken:
        return problem(
            f"taken: {told}", "`ss -ltnp` shows by whom; end it, or choose others (DR_NIM_SERVER_PORT, ADDRESS)"
        )
    moved = [f"{port.number} is taken, another is chosen" for port in ports if not port.free]
    return ok("; ".join([f"free: {', '.join(str(port.number) for port in ports if port.free)}", *moved]))


def check_python(facts: Surroundings) -> Finding:
    version = ".".join(map(str, facts.python))
    low, high = PYTHONS
    if low <= facts.python <= high:
        return ok(version)
    return problem(f"{version} is not one of 3.{low[1]} to 3.{high[1]}", "a virtual environment with one of those")


def check_packages(facts: Surroundings) -> Finding:
    packages = facts.packages.value
    missing = [name for name, version in packages.installed.items() if version is None and name != DRUM]
    if missing:
        return problem(f"not installed: {', '.join(missing)}", "pip install --require-hashes -r requirements.txt")
    others = [name for name in packages.installed if _differs(packages, name) and name != DRUM]
    if others:
        told = ", ".join(f"{name} {packages.installed[name]}" for name in others)
        return warning(f"not the locked versions: {told}", "pip install --require-hashes -r requirements.txt")
    return ok(
        f"{len(packages.installed) - 1} packages, {'as locked' if packages.pinned else 'no lock file to compare'}"
    )


def _differs(packages: Packages, name: str) -> bool:
    return name in packages.pinned and packages.installed[name] not in packages.pinned[name]


def check_drum(facts: Surroundings) -> Finding:
    version = facts.packages.value.installed.get(DRUM)
    if version is None:
        return problem("DRUM is not installed", f"pip install '{DRUM}{RANGES[DRUM]}'")
    try:
        newer = untried({name: v for name, v in facts.packages.value.installed.items() if name in RANGES and v})
    except ReleaseError as error:
        return problem(str(error))
    return warning(" ".join(newer), "pin it, or run `make test` with yours") if newer else ok(f"DRUM {version}")


def check_code_folder(facts: Surroundings) -> Finding:
    code = facts.code.value
    for hook in HOOKS:
        found = [path for path in code.hooks if path.rpartition("/")[2] == hook]
        if len(found) > 1:
            return warning(
                f"{len(found)} files called {hook} below {facts.code_dir}: {_some(found)}; the one at the top counts",
                "DRUM refuses such a folder as its --code-dir: give it the one that `nimdrum code-dir` makes",
            )
    if not code.complete:
        return warning(
            f"only {code.files} files of {facts.code_dir} were looked at in time", "keep large trees elsewhere"
        )
    return ok(f"{facts.code_dir}, {code.files} files")


def check_artifacts(facts: Surroundings) -> Finding | None:
    if not facts.code.value.artifacts:
        return None
    return warning(
        f"{_some(facts.code.value.artifacts)}: DRUM may take the model for another language's",
        "move them out, or always start with --language python (start_server.sh does)",
    )


def _some(paths: list[str] | tuple[str, ...]) -> str:
    more = f" and {len(paths) - SHOWN} more" if len(paths) > SHOWN else ""
    return ", ".join(paths[:SHOWN]) + more


def check_platform(facts: Surroundings) -> Finding | None:
    if facts.platform is None:
        return None
    answer: Answer = facts.platform.value
    if answer.status is None:
        return warning(
            f"{answer.url} cannot be reached ({answer.error}); deployment events are not reported",
            "check DATAROBOT_ENDPOINT, network policy, proxy, and for SSLError the certificate (verifySSL)",
        )
    if answer.status >= 500:
        return warning(f"{answer.url} answers {answer.status}")
    return ok(f"{answer.url} can be reached")


def check_supervisor(facts: Surroundings) -> Finding:
    engines = facts.engines.value
    if not engines:
        return ok("no engine of this user runs here")
    told = "; ".join(f"{state.phase.value} {state.line} at {state.url}" for state in engines)
    failed = next((state for state in engines if state.phase is Phase.FATAL), None)
    if failed:
        return warning(f"{told}. {failed.cause or ''}".strip(), "`python -m nimdrum status` shows more")
    return ok(told)
