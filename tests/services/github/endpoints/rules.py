"""Sets of rules, which say among other things what tags may be made."""

from __future__ import annotations

from tests.services.github.routing import Ask, Json, Reply, absent, endpoint
from tests.services.github.state import Repo

_DETAILS = ("conditions", "rules", "current_user_can_bypass")


@endpoint("GET", "/repos/{owner}/{repo}/rulesets", needs="metadata:read")
def rulesets(ask: Ask, repo: Repo) -> Reply:
    wanted = ask.query("targets").split(",") if ask.query("targets") else None
    found = [one for one in repo.rulesets if wanted is None or one["target"] in wanted]
    body: list[Json] = [
        {key: value for key, value in one.items() if key not in _DETAILS} for one in ask.page(found)
    ]
    return Reply(body=body)


@endpoint("GET", "/repos/{owner}/{repo}/rulesets/{ruleset_id}", needs="metadata:read")
def ruleset(ask: Ask, repo: Repo, ruleset_id: int) -> Reply:
    del ask
    found = next((one for one in repo.rulesets if one["id"] == ruleset_id), None)
    if found is None:
        raise absent()
    return Reply(body=found)
