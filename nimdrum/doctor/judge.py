"""The list of checks, in the order in which a person reads them, and their judgement. Pure."""

from collections.abc import Callable

from nimdrum.doctor import machine, setup
from nimdrum.doctor.facts import Facts, NotSeenError
from nimdrum.doctor.finding import Finding, warning

Check = Callable[[Facts], Finding | None]

CHECKS: tuple[tuple[str, Check], ...] = (
    ("parameters", setup.check_parameters),
    ("engine", setup.check_engine),
    ("external", setup.check_external),
    ("gpu", machine.check_gpu),
    ("driver", machine.check_driver),
    ("gpu use", machine.check_gpu_use),
    ("shm", machine.check_shared_memory),
    ("key", setup.check_key),
    ("profile", setup.check_profile),
    ("cache", machine.check_cache),
    ("disk", machine.check_disk),
    ("fetch", machine.check_fetch),
    ("home", machine.check_home),
    ("temp", machine.check_temp),
    ("nim folders", machine.check_nim_folders),
    ("user", machine.check_user),
    ("open files", machine.check_open_files),
    ("ports", setup.check_ports),
    ("python", setup.check_python),
    ("packages", setup.check_packages),
    ("drum", setup.check_drum),
    ("code folder", setup.check_code_folder),
    ("artifacts", setup.check_artifacts),
    ("datarobot", setup.check_platform),
    ("supervisor", setup.check_supervisor),
)


def judge(facts: Facts) -> list[Finding]:
    """One finding for each check that applies. Raises nothing: a check that cannot be made is a warning."""
    findings = []
    for name, check in CHECKS:
        try:
            finding = check(facts)
        except NotSeenError as error:
            finding = warning(f"could not be looked at: {error}")
        except Exception as error:  # one odd fact must not hide the others
            finding = warning(f"could not be judged ({type(error).__name__})")
        if finding is not None:
            findings.append(Finding(finding.level, finding.message, finding.remedy, name))
    return findings
