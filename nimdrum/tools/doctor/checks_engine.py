"""Checks of the engine that would be started or reached: which one, where, with which key and profile. Pure."""

import re

from nimdrum.engines.tools import PROFILE_ID, Listing, Verdict
from nimdrum.system.gpu import gpus_needed
from nimdrum.tools.doctor.finding import Finding, ok, problem, warning
from nimdrum.tools.doctor.surroundings import Surroundings

PROFILES_REMEDY = "`python -m nimdrum profiles` lists those of this image"


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
    # Of a profile that is given by its name `check_gpu` says it, as the start does.
    needed, gpus = gpus_needed(profile.name if profile and profile.name != wanted else None), len(facts.gpus.seen or ())
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
