"""Checks of what was set and installed: parameters, engine, keys, profile, ports, packages, platform. Pure."""

import re

from nimdrum.base.errors import ReleaseError
from nimdrum.base.releases import DRUM, RANGES, untried
from nimdrum.engines.tools import PROFILE_ID, Listing, Verdict
from nimdrum.supervisor.state import Phase
from nimdrum.system.gpu import gpus_needed
from nimdrum.tools.doctor.finding import Finding, ok, problem, warning
from nimdrum.tools.doctor.surroundings import Answer, Packages, Surroundings

PYTHONS = ((3, 10), (3, 13))
HOOKS = ("custom.py", "custom_flask.py")
SHOWN = 3
PROFILES_REMEDY = "`python -m nimdrum profiles` lists those of this image"


def check_parameters(facts: Surroundings) -> Finding:
    return problem(facts.settings_error) if facts.settings_error else ok("the runtime parameters are valid")


def check_rows(facts: Surroundings) -> Finding | None:
    if facts.rows is None:
        return None
    return problem(facts.rows_error) if facts.rows_error else ok(f"{facts.rows} can be answered")


def check_engine(facts: Surroundings) -> Finding | None:
    if facts.plan_error:
        return problem(facts.plan_error)
    plan = facts.plan
    if plan is None:
        return None
    if plan.warning:
        return warning(plan.warning)
    if plan.speaks_for_others:
        return ok(f"{plan.line}, by way of the gateway")
    if not plan.argv:
        return ok(f"{plan.line}, http://{plan.host}:{plan.port}")
    evidence = f" (told by {facts.image.evidence})" if facts.image and plan.uses_gpus else ""
    return ok(f"{plan.line}{evidence}, model {plan.model}")


def check_external(facts: Surroundings) -> Finding | None:
    if facts.external is None:
        return None
    answer = facts.external.value
    if answer.status == 200:
        return ok(f"{answer.url} answers 200")
    if answer.status == 503:
        return warning(f"{answer.url} answers 503: it is still loading")
    seen = f"answers {answer.status}" if answer.status else f"does not answer ({answer.error})"
    return problem(
        f"{answer.url} {seen}",
        "check DR_NIM_SERVER_HOST and _PORT; DR_NIM_HEALTH_ROUTE is /health for vLLM and llama.cpp",
    )


def check_endpoints(facts: Surroundings) -> Finding | None:
    """One that is away is waited for; a start that has none fails."""
    if facts.endpoints is None:
        return None
    looks = facts.endpoints.value
    well = [f"{address} serves {seen.model}" for address, seen in looks if seen.trouble is None]
    troubles = [seen.trouble for _, seen in looks if seen.trouble]
    told = "; ".join([*well, *(trouble.sentence for trouble in troubles)])
    if not troubles:
        return ok(told)
    return warning(told) if well else problem(told)


def check_key(facts: Surroundings) -> Finding | None:
    if facts.engine != "nim" or facts.settings is None:
        return None
    if odd := next((key for key in facts.keys if key.odd), None):
        return problem(f"{odd.name} ({odd.source}) {odd.odd}", "set it again, only the key itself")
    names = ", ".join(f"{key.name} ({key.source})" for key in facts.keys)
    route = facts.plan.route if facts.plan else ""
    if facts.local_model:
        where = "fetched into" if route == "fetched model" else "in"
        told = f"not passed on: {names}" if names else "no key is set"
        return ok(f"weights are {where} {facts.local_model}; {told}")
    if names and facts.hf_offline:
        return warning(f"{names} and HF_HUB_OFFLINE are both set", "offline: remove the key; online: the variable")
    if names:
        return ok(f"set: {names}")
    if facts.cache.value.filled:
        return ok("none; the cache is filled")
    if facts.plan and route not in ("", "download"):
        return ok(f"none; {facts.plan.route_reason}")
    if facts.line >= 2:
        return warning("no NGC_API_KEY: newer NIM 2.x download most models without one, others fail", "set NGC_API_KEY")
    return problem(
        "no NGC_API_KEY, and no weights here: NIM 1.x cannot download its model", "set NGC_API_KEY, or local weights"
    )


def check_profile(facts: Surroundings) -> Finding | None:
    if facts.engine != "nim" or facts.settings is None or facts.local_model:
        return None
    wanted = facts.settings.model_profile
    listing = facts.listing.seen if facts.listing else None
    if wanted is None:
        return _without_profile(facts, listing)
    if not PROFILE_ID.fullmatch(wanted):
        if re.fullmatch(r"[0-9a-fA-F]{20,}", wanted):
            return problem(
                f"NIM_MODEL_PROFILE has {len(wanted)} characters and is no id of 64 lower-case hex digits",
                PROFILES_REMEDY,
            )
        if facts.line >= 2:
            return warning(
                f"NIM_MODEL_PROFILE is {wanted!r}; of NIM 2.x only ids (64 hex digits) are known to work",
                PROFILES_REMEDY,
            )
    if wanted == "default":
        return ok("the image's default")
    profile = listing.find(wanted) if listing else None
    told = profile.name if profile and profile.name else _short(wanted)
    needed, gpus = gpus_needed(profile.name if profile else wanted), len(facts.gpus.seen or ())
    if needed and gpus and gpus < needed:
        return problem(f"{told} needs {needed} GPUs, and {gpus} are visible", "a larger bundle, or another profile")
    if not listing or not listing.profiles:
        why = facts.listing.missing if facts.listing else "not asked"
        return ok(f"{told}; whether it fits was not seen ({why or 'the image listed none'})")
    if profile is None:
        return problem(f"this image has no profile {wanted}", f"{PROFILES_REMEDY}; ids belong to one release")
    if profile.verdict is Verdict.INCOMPATIBLE:
        return problem(f"{told} does not run on the GPUs here", PROFILES_REMEDY)
    if profile.verdict is Verdict.LOW_MEMORY:
        return warning(f"{told} wants more free GPU memory. {profile.note}".strip(), "lower NIM_MAX_MODEL_LEN")
    return ok(f"{told}: {profile.verdict.value}")


def _without_profile(facts: Surroundings, listing: Listing | None) -> Finding | None:
    if facts.listing is None:
        return None
    listing = facts.listing.value
    runnable = [p for p in listing.profiles if p.verdict in (Verdict.RUNNABLE, Verdict.COMPILABLE)]
    if runnable:
        return ok(f"NIM chooses; {len(runnable)} of {len(listing.profiles)} run here")
    if listing.profiles:
        return problem(
            f"none of the image's {len(listing.profiles)} profiles runs on the GPUs here", "another bundle or model"
        )
    return warning(
        "list-model-profiles listed none", "normal for model-free images; else see `python -m nimdrum profiles`"
    )


def _short(profile: str) -> str:
    return f"{profile[:12]}..." if PROFILE_ID.fullmatch(profile) else profile


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
