"""Webhook events as GitHub sends them: made from its published examples, each valid by its published schema.

    webhooks = Webhooks(node_modules, repository="ada/digits")
    event = webhooks.issue_comment("/train lr=0.1", pull=7, by="ada")
    env = environ(event, write(tmp_path, event))

A schedule has no schema, since no webhook tells of it: what Actions hands over then was taken from its documentation.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from jsonschema import Draft7Validator

NOTHING = "0" * 40
_EXAMPLES = Path("@octokit/webhooks-examples/api.github.com/index.json")
_SCHEMAS = Path("@octokit/webhooks-schemas/schema.json")

Json = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Event:
    """An event: its payload by the webhook's schema, and what Actions says beside it."""

    name: str
    payload: Mapping[str, Any]
    repository: str
    commit: str
    ref: str
    actor: str
    server_url: str
    api_url: str


@dataclass(frozen=True, kw_only=True)
class Webhooks:
    """Makes events of one repository; every event it returns is valid by GitHub's schema."""

    node_modules: Path
    repository: str = "ada/digits"
    default_branch: str = "main"
    head: str = "d6fde92930d4715a2b49857d24b940956b26d2d3"
    server_url: str = "https://github.com"
    api_url: str = "https://api.github.com"

    def push(
        self,
        commit: str,
        *,
        branch: str | None = None,
        tag: str | None = None,
        before: str | None = None,
        message: str = "Train longer",
        by: str = "ada",
        forced: bool = False,
        deleted: bool = False,
        tag_object: str | None = None,
    ) -> Event:
        """A push of `commit` to a branch or of a tag; `before` None: it is new. `tag_object`: the tag is annotated."""
        ref = f"refs/tags/{tag}" if tag is not None else f"refs/heads/{branch or self.default_branch}"
        payload = self._example("push", 4)
        head = payload["head_commit"] | {"id": commit, "message": message}
        payload |= {
            "ref": ref,
            "before": commit if deleted else before or NOTHING,
            "after": NOTHING if deleted else tag_object or commit,
            "created": before is None and not deleted,
            "deleted": deleted,
            "forced": forced,
            "head_commit": None if deleted else head,
            "commits": [] if deleted else [head],
            "pusher": payload["pusher"] | {"name": by},
            "sender": _user(by),
        }
        if deleted:  # what is gone cannot be checked out
            return self._event("push", payload, "push$event", by=by)
        return self._event("push", payload, "push$event", by=by, commit=commit, ref=ref)

    def issue_comment(
        self,
        body: str,
        *,
        pull: int | None = None,
        issue: int = 1,
        by: str = "ada",
        kind: Literal["User", "Bot"] = "User",
        action: Literal["created", "edited", "deleted"] = "created",
        sender: str | None = None,
        id: int = 492700400,
        at_s: float = 1_700_000_000,
        edited_at_s: float | None = None,
        association: str = "NONE",
    ) -> Event:
        """A comment on the pull request `pull`, else on the issue `issue`; `sender` is who edited it."""
        payload = self._example("issue_comment", {"created": 1, "deleted": 5, "edited": 7}[action])
        number = issue if pull is None else pull
        place, said = payload["issue"], payload["comment"]
        here = f"{self.server_url}/{self.repository}/{'issues' if pull is None else 'pull'}/{number}"
        place |= {"number": number, "html_url": here}
        if pull is not None:
            api = f"{self.api_url}/repos/{self.repository}/pulls/{pull}"
            place["pull_request"] = {
                "url": api,
                "html_url": here,
                "diff_url": f"{here}.diff",
                "patch_url": f"{here}.patch",
                "merged_at": None,
            }
        said |= {
            "id": id,
            "body": body,
            "user": _user(by, kind),
            "author_association": association,
            "html_url": f"{here}#issuecomment-{id}",
            "created_at": _iso(at_s),
            "updated_at": _iso(at_s if edited_at_s is None else edited_at_s),
        }
        payload["sender"] = _user(sender, "User") if sender else _user(by, kind)
        return self._event("issue_comment", payload, f"issue_comment${action}", by=sender or by)

    def workflow_dispatch(
        self, inputs: Mapping[str, object] | None = None, *, ref: str | None = None, by: str = "ada"
    ) -> Event:
        """The button of the Actions page; `inputs` as GitHub has them: text, true, false or numbers."""
        ref = ref or f"refs/heads/{self.default_branch}"
        payload = self._example("workflow_dispatch", 1)
        payload |= {"inputs": None if inputs is None else dict(inputs), "ref": ref, "sender": _user(by)}
        payload["workflow"] = ".github/workflows/train-dispatch.yml"
        return self._event("workflow_dispatch", payload, "workflow_dispatch$event", by=by, ref=ref)

    def schedule(self, cron: str = "0 3 * * *") -> Event:
        """The clock."""
        like = self._example("workflow_dispatch", 1)
        payload = {"schedule": cron, "workflow": ".github/workflows/train-on-push.yml"}
        payload |= {name: like[name] for name in ("repository", "organization")}
        return self._event("schedule", payload, None, by="github-actions[bot]")

    def check_run_requested_action(
        self, identifier: str, *, run_id: str, check: int = 4, by: str = "ada", commit: str | None = None
    ) -> Event:
        """A button of a check run that we made for `run_id`."""
        payload = self._check(6, run_id=run_id, check=check, by=by, commit=commit)
        payload["requested_action"] = {"identifier": identifier}
        return self._event("check_run", payload, "check_run$requested_action", by=by)

    def check_run_rerequested(
        self, *, run_id: str, check: int = 4, by: str = "ada", commit: str | None = None
    ) -> Event:
        """ "Re-run" at a check run that we made for `run_id`."""
        payload = self._check(7, run_id=run_id, check=check, by=by, commit=commit)
        return self._event("check_run", payload, "check_run$rerequested", by=by)

    def example(self, name: str, index: int, schema: str) -> Event:
        """One of GitHub's own examples as it is, such as ("pull_request", 12, "pull_request$opened")."""
        return self._event(name, self._example(name, index), schema, by="Codertocat")

    def _check(self, index: int, *, run_id: str, check: int, by: str, commit: str | None) -> Json:
        payload = self._example("check_run", index)
        payload["check_run"] |= {"id": check, "external_id": run_id, "head_sha": commit or self.head}
        payload["sender"] = _user(by)
        return payload

    def _example(self, name: str, index: int) -> Json:
        """An example of GitHub's, as of this repository."""
        example = _examples(self.node_modules)[name][index]
        text = json.dumps(example)
        theirs = example["repository"]["full_name"]
        for old, new in (
            ("https://api.github.com", self.api_url),
            ("https://github.com", self.server_url),
            (theirs, self.repository),
        ):
            text = text.replace(old, new)
        payload: Json = json.loads(text)
        owner, _, short = self.repository.partition("/")
        payload["repository"] |= {"name": short, "default_branch": self.default_branch}
        payload["repository"]["owner"]["login"] = owner
        return payload

    def _event(
        self,
        name: str,
        payload: Mapping[str, Any],
        schema: str | None,
        *,
        by: str,
        commit: str | None = None,
        ref: str | None = None,
    ) -> Event:
        if schema is not None:
            found = [
                f"{error.json_path}: {error.message}"
                for error in _validator(self.node_modules, schema).iter_errors(payload)
            ]
            assert not found, f"no {schema} by GitHub's schema: {found}"
        return Event(
            name=name,
            payload=payload,
            repository=self.repository,
            commit=commit or self.head,
            ref=ref or f"refs/heads/{self.default_branch}",
            actor=by,
            server_url=self.server_url,
            api_url=self.api_url,
        )


def write(folder: Path, event: Event) -> Path:
    """The file that a job of Actions finds: the payload, where a push lacks the files that its commits change."""
    payload = deepcopy(dict(event.payload))
    if event.name == "push":
        for commit in [*payload["commits"], payload["head_commit"]]:
            for key in ("added", "removed", "modified"):
                (commit or {}).pop(key, None)
    path = folder / "event.json"
    path.write_text(json.dumps(payload), encoding="utf-8")
    return path


def environ(event: Event, path: Path, *, run_id: int = 7, attempt: int = 1) -> dict[str, str]:
    """What a job of Actions finds in its environment for the event that was written to `path`."""
    _, kind, name = event.ref.split("/", 2)
    return {
        "CI": "true",
        "GITHUB_ACTIONS": "true",
        "GITHUB_ACTOR": event.actor,
        "GITHUB_API_URL": event.api_url,
        "GITHUB_EVENT_NAME": event.name,
        "GITHUB_EVENT_PATH": str(path),
        "GITHUB_JOB": "train",
        "GITHUB_REF": event.ref,
        "GITHUB_REF_NAME": name,
        "GITHUB_REF_TYPE": "tag" if kind == "tags" else "branch",
        "GITHUB_REPOSITORY": event.repository,
        "GITHUB_REPOSITORY_OWNER": event.repository.partition("/")[0],
        "GITHUB_RUN_ATTEMPT": str(attempt),
        "GITHUB_RUN_ID": str(run_id),
        "GITHUB_RUN_NUMBER": "1",
        "GITHUB_SERVER_URL": event.server_url,
        "GITHUB_SHA": event.commit,
        "GITHUB_TRIGGERING_ACTOR": event.actor,
        "GITHUB_WORKFLOW": "train",
    }


def _user(login: str, kind: Literal["User", "Bot"] = "User") -> Json:
    api = f"https://api.github.com/users/{login}"
    return {
        "login": login,
        "id": 1000 + sum(login.encode()),
        "node_id": "MDQ6VXNlcjE=",
        "avatar_url": "https://avatars.githubusercontent.com/u/1",
        "gravatar_id": "",
        "url": api,
        "html_url": f"https://github.com/{login}",
        "followers_url": f"{api}/followers",
        "following_url": f"{api}/following{{/other_user}}",
        "gists_url": f"{api}/gists{{/gist_id}}",
        "starred_url": f"{api}/starred{{/owner}}{{/repo}}",
        "subscriptions_url": f"{api}/subscriptions",
        "organizations_url": f"{api}/orgs",
        "repos_url": f"{api}/repos",
        "events_url": f"{api}/events{{/privacy}}",
        "received_events_url": f"{api}/received_events",
        "type": kind,
        "site_admin": False,
    }


def _iso(at_s: float) -> str:
    return datetime.fromtimestamp(at_s, tz=UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


@functools.cache
def _examples(node_modules: Path) -> Mapping[str, list[Json]]:
    events = json.loads((node_modules / _EXAMPLES).read_bytes())
    return {event["name"]: event["examples"] for event in events}


@functools.cache
def _validator(node_modules: Path, schema: str) -> Draft7Validator:
    definitions = json.loads((node_modules / _SCHEMAS).read_bytes())["definitions"]
    return Draft7Validator({"$ref": f"#/definitions/{schema}", "definitions": definitions})
