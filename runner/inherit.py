"""The environment of whoever starts a run -> that of its supervisor: what a run needs, nothing that belongs to a job.

A supervisor outlives the job of GitHub Actions that started it. The job's token is not its to use, the job's files are
gone by then, and GitHub's runner kills whatever carries RUNNER_TRACKING_ID when the job ends.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

# The job's own: tokens, files and the inputs of the action. Also where train.yml lists one as a secret.
_JOB = (
    "GITHUB_",
    "ACTIONS_",
    "RUNNER_",
    "INPUT_",
    "PUSHTRAIN_INPUT_",
    "PUSHTRAIN_APP_",
    "PUSHTRAIN_SIG",
)
_JOB_NAMES = frozenset({"PUSHTRAIN_TOKEN"})
# A person's own, kept where train.yml lists it.
_TOKENS = frozenset({"GH_TOKEN", "GH_ENTERPRISE_TOKEN", "SIGSTORE_ID_TOKEN"})

# What a supervisor of a stranger's run gets, and nothing else: it reads the store and data, and talks to Docker.
_NEEDED = frozenset(
    {"PATH", "HOME", "USER", "LOGNAME", "LANG", "TZ", "TMPDIR", "SSL_CERT_FILE", "SSL_CERT_DIR",
     "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "http_proxy",
     "https_proxy", "all_proxy", "no_proxy", "LD_LIBRARY_PATH", "PUSHTRAIN_HOME", "PUSHTRAIN_STORE",
     "PUSHTRAIN_REGISTRY", "PUSHTRAIN_LEASE_S"}
)  # fmt: skip
_NEEDED_PREFIXES = ("LC_", "AWS_", "DOCKER_", "BUILDX_", "XDG_", "PYTHON")


def is_the_jobs(name: str) -> bool:
    """Whether a variable belongs to the job or to pushtrain itself, so that no training ever gets it as a secret."""
    return name.startswith(_JOB) or name in _JOB_NAMES


def inherited(environ: Mapping[str, str], *, secrets: Collection[str]) -> dict[str, str]:
    """What of `environ` a supervisor gets: all but the job's own, and tokens of GitHub unless `secrets` lists them."""
    return {
        name: value
        for name, value in environ.items()
        if not is_the_jobs(name) and (name not in _TOKENS or name in secrets)
    }


def inherited_by_isolated(environ: Mapping[str, str]) -> dict[str, str]:
    """What the supervisor of a fork's run gets: only what it needs to read the store and data and to use Docker."""
    return {
        name: value for name, value in environ.items() if name in _NEEDED or name.startswith(_NEEDED_PREFIXES)
    }


# What the machine that submits knows of itself is not so on a host.
_OF_THE_MACHINE = ("DOCKER_", "BUILDX_", "XDG_", "PYTHON", "LC_")
_MACHINES = frozenset({"PATH", "HOME", "USER", "LOGNAME", "TMPDIR", "LD_LIBRARY_PATH", "PUSHTRAIN_HOME",
                       "SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"})  # fmt: skip


def for_hosts(environ: Mapping[str, str], *, secrets: Collection[str]) -> dict[str, str]:
    """What a supervisor on another host gets: the way to store, registry and data, and the run's `secrets`."""
    needed = inherited_by_isolated(environ)
    kept = {
        name: value
        for name, value in needed.items()
        if name not in _MACHINES and not name.startswith(_OF_THE_MACHINE)
    }
    return kept | {name: environ[name] for name in secrets if name in environ and not is_the_jobs(name)}
