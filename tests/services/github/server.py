"""The stand-in as tests hold it in their hands: a server on loopback, and all that can be made to happen on it."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Literal
from urllib.parse import urlsplit

from werkzeug.serving import BaseWSGIServer, WSGIRequestHandler, make_server

from tests.services.github import git
from tests.services.github.app import Call, Service
from tests.services.github.faults import Fault, Outage
from tests.services.github.state import (
    ACTIONS_PERMISSIONS,
    App,
    Asset,
    CheckRun,
    Comment,
    Issue,
    PullHalf,
    Release,
    Repo,
    Token,
    User,
    WorkflowRun,
    World,
    key_pair,
    secret,
)

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

Role = Literal["none", "read", "triage", "write", "maintain", "admin"]


class _Quiet(WSGIRequestHandler):
    """Says nothing of each request: they are in `calls`."""

    def log(self, type: str, message: str, *args: object) -> None:
        pass

    def connection_dropped(self, error: BaseException, environ: WSGIEnvironment | None = None) -> None:
        self.close_connection = True


class GitHub:
    """A GitHub of its own, empty at first. It listens at `host`: elsewhere than here for who has it forwarded to him.

    `url` is its address: the REST API lies there (and at /api/v3 as on GitHub Enterprise), and git at
    `url`/OWNER/NAME.git. `token` is what a workflow gets as GITHUB_TOKEN, good for every repository here.
    """

    def __init__(
        self, folder: Path, *, description: Path | None, host: str = "127.0.0.1", port: int = 0
    ) -> None:
        self.world = World(folder)
        self.service = Service(world=self.world, description=description)
        self._servers = [_serving(self.service, host, port), _serving(self.service.storage, host, 0)]
        self.ports = tuple(server.port for server in self._servers)
        # Nowhere else may a token be sent in the clear.
        self.url = f"http://127.0.0.1:{self.ports[0]}"
        self.service.url = self.url
        self.service.storage_url = f"http://127.0.0.1:{self.ports[1]}"
        self.token = self.actions_token()

    def close(self) -> None:
        for server in self._servers:
            server.shutdown()
            server.server_close()

    # what is there

    def repository(
        self,
        full_name: str = "lab/mnist",
        files: git.Files | Path | None = None,
        *,
        private: bool = False,
        branch: str = "main",
        at_s: float | None = None,
    ) -> Repository:
        """Makes a repository whose first commit has these files (or all of a folder); without any it is empty."""
        owner, _, name = full_name.partition("/")
        with self.world.lock:
            repo = Repo(
                id=self.world.next_id(),
                owner=self.user(owner),
                name=name,
                folder=self.world.folder / "git" / f"{full_name}.git",
                private=private,
                default_branch=branch,
                created_at_s=self.world.now_s if at_s is None else at_s,
            )
            git.create(repo.folder, branch=branch)
            self.world.add_repository(repo)
        made = Repository(self, repo)
        if files:
            made.push(branch, files, "Begin", at_s=at_s)
        return made

    def user(self, login: str, kind: Literal["User", "Bot", "Organization"] = "User") -> User:
        """The account of that name, made if it is not there."""
        with self.world.lock:
            return self.world.user(login, kind)

    def actions_token(
        self,
        *repositories: str,
        permissions: Mapping[str, str] | None = None,
        expires_at_s: float | None = None,
    ) -> str:
        """A GITHUB_TOKEN for these repositories (all, where none is named) with these permissions (all we use)."""
        granted = ACTIONS_PERMISSIONS if permissions is None else {"metadata": "read", **_names(permissions)}
        token = Token(
            value=secret("ghs_"),
            kind="actions",
            user=self.world.actions.bot,
            app=self.world.actions,
            permissions=dict(granted),
            repositories=set(repositories) or None,
            limit=1000,
            expires_at_s=expires_at_s,
        )
        return self.world.add_token(token).value

    def personal_token(
        self, login: str, *, permissions: Mapping[str, str] | None = None, expires_at_s: float | None = None
    ) -> str:
        """A fine-grained token of a person; it may what they may, and no more than its permissions."""
        granted = ACTIONS_PERMISSIONS if permissions is None else {"metadata": "read", **_names(permissions)}
        token = Token(
            value=secret("github_pat_"),
            kind="personal",
            user=self.user(login),
            app=None,
            permissions=dict(granted),
            repositories=None,
            limit=5000,
            expires_at_s=expires_at_s,
        )
        return self.world.add_token(token).value

    def app(
        self,
        slug: str,
        *repositories: str,
        permissions: Mapping[str, str] | None = None,
        lifetime_s: float = 3600,
        owner: str = "lab",
    ) -> App:
        """A GitHub App installed on these repositories; has `id`, `private_key` (PEM), `installation`."""
        private, public = key_pair()
        with self.world.lock:
            made = App(
                id=self.world.next_id(),
                slug=slug,
                bot=self.user(f"{slug}[bot]", "Bot"),
                owner=self.user(owner),
                installation=self.world.next_id(),
                permissions=dict(ACTIONS_PERMISSIONS if permissions is None else _names(permissions)),
                installed=set(repositories),
                lifetime_s=lifetime_s,
                private_key=private,
                public_key=public,
            )
            self.world.apps[made.id] = made
        return made

    # time

    @contextmanager
    def at(self, now_s: float) -> Iterator[None]:
        """GitHub's clock stands at this moment within the block."""
        before, self.world.fixed_now_s = self.world.fixed_now_s, now_s
        try:
            yield
        finally:
            self.world.fixed_now_s = before

    # what goes wrong

    def fault(
        self,
        *,
        status: int | None = None,
        times: int | None = 1,
        method: str = "",
        path: str = "",
        retry_after_s: int | None = None,
        delay_s: float = 0.0,
        until: threading.Event | None = None,
        reset: bool = False,
        cut_upload_after_bytes: int | None = None,
        after: bool = False,
        errors: tuple[Mapping[str, object], ...] = (),
    ) -> Fault:
        """Lets the next `times` (None: all) requests whose path matches the expression `path` fail.

        By `status`: 502 (a page, not JSON), 5xx, 401; 403 or 429 is the secondary limit (with Retry-After or without).
        By `reset` the line is cut; `after`: only once the request has been carried out. `cut_upload_after_bytes` cuts
        an upload and leaves a "starter" asset. `delay_s` alone only delays, and so does `until`, until it is set.
        `hits` of what is returned counts. `errors` are those of GraphQL, which stand in a good answer without data.
        """
        made = Fault(
            status=status,
            times=times,
            method=method,
            path=path,
            retry_after_s=retry_after_s,
            delay_s=delay_s,
            until=until,
            reset=reset,
            cut_upload_after_bytes=cut_upload_after_bytes,
            after=after,
            errors=errors,
        )
        with self.world.lock:
            self.service.faults.append(made)
        return made

    def exhaust(self, token: str, *, reset_in_s: float) -> None:
        """The primary limit of a token is used up until then."""
        with self.world.lock:
            found = self.world.tokens[token]
            found.used, found.reset_at_s = found.limit, _seconds_from_now(reset_in_s)

    def expire(self, token: str | None = None) -> None:
        """From now on the token is refused with 401 (without one: every token that there is)."""
        with self.world.lock:
            for found in self.world.tokens.values():
                if token in (None, found.value):
                    found.revoked = True

    def permit(self, token: str, permissions: Mapping[str, str]) -> None:
        """Gives a token these permissions and no others."""
        with self.world.lock:
            self.world.tokens[token].permissions = {"metadata": "read", **_names(permissions)}

    def outage(self, kind: Outage | None) -> None:
        """All goes wrong until `outage(None)`: "reset" cuts every line, "503" answers so."""
        self.service.outage = kind

    # what was asked

    @property
    def calls(self) -> list[Call]:
        """Every request so far; storage and git too (`kind`)."""
        with self.world.lock:
            return list(self.service.calls)

    def api_calls(self, method: str = "", path: str = "") -> list[Call]:
        """The requests to the API and of uploads, of this method and with paths that match."""
        return [
            call
            for call in self.calls
            if call.kind in ("api", "upload")
            and (not method or call.method == method)
            and re.search(path, call.path)
        ]

    @property
    def violations(self) -> list[str]:
        """What GitHub's OpenAPI description says against requests and answers so far; the fixture fails by it."""
        with self.world.lock:
            return list(self.service.violations)

    def forgive(self, expression: str) -> list[str]:
        """Takes those violations away that match, and returns them: for tests of wrong requests."""
        with self.world.lock:
            found = [one for one in self.service.violations if re.search(expression, one)]
            self.service.violations = [one for one in self.service.violations if one not in found]
        return found


class Repository:
    """A repository on the stand-in, and what people do there. `record` is all that is known of it."""

    def __init__(self, github: GitHub, record: Repo) -> None:
        self.github = github
        self.record = record

    @property
    def world(self) -> World:
        return self.github.world

    @property
    def name(self) -> str:
        """OWNER/NAME."""
        return self.record.full_name

    @property
    def url(self) -> str:
        """Its page, without .git."""
        return f"{self.github.url}/{self.name}"

    @property
    def api_url(self) -> str:
        return f"{self.github.url}/repos/{self.name}"

    @property
    def git_url(self) -> str:
        return f"{self.url}.git"

    @property
    def folder(self) -> Path:
        """The bare git repository."""
        return self.record.folder

    def git_url_with(self, token: str) -> str:
        """The address for git with a token in it."""
        return f"http://x-access-token:{token}@{urlsplit(self.github.url).netloc}/{self.name}.git"

    def environ(self, token: str | None = None) -> dict[str, str]:
        """What a job on a runner has in its environment of this."""
        return {
            "GITHUB_API_URL": self.github.url,
            "GITHUB_SERVER_URL": self.github.url,
            "GITHUB_REPOSITORY": self.name,
            "GITHUB_REPOSITORY_OWNER": self.record.owner.login,
            "GITHUB_REPOSITORY_ID": str(self.record.id),
            "GITHUB_TOKEN": self.github.token if token is None else token,
        }

    # commits

    def push(
        self,
        branch: str,
        files: git.Files | Path,
        message: str = "Change",
        *,
        by: str | None = None,
        at_s: float | None = None,
        onto: str | None = None,
    ) -> str:
        """Pushes a commit that puts these files (None takes one away) on a branch; its id.

        A new branch begins at the default branch. `onto` is another parent, such as for a force push.
        """
        with self.world.lock:
            user = self.github.user(by) if by else self.record.owner
            moment_s = self.world.now_s if at_s is None else at_s
            tip = git.resolve(self.folder, f"refs/heads/{branch}") or git.resolve(
                self.folder, self.record.default_branch
            )
            changed = dict(git.files_of(files)) if isinstance(files, Path) else git.modes_of(files)
            made = git.commit(
                self.folder, changed, message, parent=onto or tip, by=self.world.identity(user, moment_s)
            )
            self._move(f"refs/heads/{branch}", made, user, moment_s)
        return made

    def move(self, branch: str, sha: str, *, by: str | None = None, at_s: float | None = None) -> None:
        """Sets a branch to a commit that is there, by force."""
        with self.world.lock:
            user = self.github.user(by) if by else self.record.owner
            self._move(f"refs/heads/{branch}", sha, user, self.world.now_s if at_s is None else at_s)

    def _move(self, ref: str, sha: str, by: User, at_s: float) -> None:
        known = git.ref(self.folder, ref)
        git.set_ref(self.folder, ref, sha)
        self.world.moved(self.record, ref, known.sha if known else git.NOTHING, sha, by=by, at_s=at_s)

    def delete_branch(self, branch: str, *, by: str | None = None, at_s: float | None = None) -> None:
        with self.world.lock:
            known = git.ref(self.folder, f"refs/heads/{branch}")
            assert known, f"no branch {branch}"
            git.delete_ref(self.folder, known.name)
            user = self.github.user(by) if by else self.record.owner
            moment_s = self.world.now_s if at_s is None else at_s
            self.world.moved(self.record, known.name, known.sha, git.NOTHING, by=user, at_s=moment_s)

    def head(self, branch: str | None = None) -> str:
        """The newest commit of a branch (of the default one)."""
        found = git.resolve(self.folder, f"refs/heads/{branch or self.record.default_branch}")
        assert found, f"no branch {branch}"
        return found

    def tag(self, name: str, commit: str | None = None, *, message: str = "", by: str | None = None) -> str:
        """Makes a tag, annotated where it has a message; the id that it points at."""
        with self.world.lock:
            sha = commit or self.head()
            if message:
                who = self.world.identity(self.github.user(by) if by else self.record.owner)
                sha = git.make_tag(self.folder, name=name, sha=sha, kind="commit", message=message, by=who)
            git.set_ref(self.folder, f"refs/tags/{name}", sha)
        return sha

    @property
    def tags(self) -> dict[str, str]:
        """What each tag points at: a tag object, or a commit."""
        return {ref.name.removeprefix("refs/tags/"): ref.sha for ref in git.refs(self.folder, "refs/tags/")}

    def text(self, *args: str) -> str:
        """What `git args` prints in it."""
        return git.text(self.folder, *args)

    def rule(
        self,
        *pattern: str,
        exclude: tuple[str, ...] = (),
        forbids: str = "creation",
        enforcement: str = "active",
        bypass: str = "never",
    ) -> None:
        """Adds a set of rules for tags such as `refs/tags/v*`. It is told, not enforced."""
        with self.world.lock:
            made = {
                "id": self.world.next_id(),
                "name": "tags",
                "target": "tag",
                "source_type": "Repository",
                "source": self.name,
                "enforcement": enforcement,
                "conditions": {"ref_name": {"include": list(pattern), "exclude": list(exclude)}},
                "rules": [{"type": forbids}],
                "current_user_can_bypass": bypass,
            }
            self.record.rulesets.append(made)

    def protect(self, branch: str) -> None:
        """Lets a branch be a protected one. It is told, not enforced."""
        with self.world.lock:
            self.record.protected.add(branch)

    # people

    def grant(self, login: str, role: Role, *, role_name: str | None = None) -> None:
        """Gives somebody a role; `role_name` is that of a custom role which stands on it.

        Who was given none may read what is public; "none" itself is for an account that the owner blocked.
        """
        with self.world.lock:
            self.github.user(login)
            self.record.roles[login] = (role, role_name or role)

    def rename(self, name: str) -> None:
        """Gives it another name; the API's requests by the old one are sent on from now on."""
        with self.world.lock:
            self.world.rename(self.record, name)

    def fork(self, owner: str, *, name: str | None = None) -> Repository:
        """A fork with all branches."""
        with self.world.lock:
            own = self.record
            full_name = f"{owner}/{name or own.name}"
            repo = Repo(
                id=self.world.next_id(),
                owner=self.github.user(owner),
                name=name or own.name,
                folder=self.world.folder / "git" / f"{full_name}.git",
                private=own.private,
                default_branch=own.default_branch,
                created_at_s=self.world.now_s,
                parent=own,
            )
            git.fork(own.folder, repo.folder, branch=own.default_branch)
            self.world.add_repository(repo)
        return Repository(self.github, repo)

    # pull requests, issues, comments

    def pull(
        self,
        head: str,
        *,
        base: str | None = None,
        of: Repository | None = None,
        title: str = "A change",
        body: str | None = None,
        by: str | None = None,
        at_s: float | None = None,
    ) -> Issue:
        """Opens a pull request from a branch here or (`of`) in a fork; has `number` and `pull.head`."""
        source = of or self
        with self.world.lock:
            target = base or self.record.default_branch
            half = PullHalf(
                head_repository=source.record,
                head_branch=head,
                head=source.head(head),
                base_branch=target,
                base=self.head(target),
            )
            made = self._issue(title, body, by or source.record.owner.login, at_s)
            made.pull = half
            git.set_ref(self.folder, f"refs/pull/{made.number}/head", half.head)
        return made

    def issue(self, title: str = "A question", *, body: str | None = None, by: str | None = None) -> Issue:
        """Opens an issue that is no pull request."""
        with self.world.lock:
            return self._issue(title, body, by or self.record.owner.login, None)

    def _issue(self, title: str, body: str | None, by: str, at_s: float | None) -> Issue:
        made = Issue(
            number=self.record.next_number(),
            title=title,
            body=body,
            by=self.github.user(by),
            at_s=self.world.now_s if at_s is None else at_s,
        )
        self.record.issues[made.number] = made
        return made

    def merge(self, number: int, *, by: str | None = None, at_s: float | None = None) -> str:
        """Merges a pull request with a merge commit; its id."""
        with self.world.lock:
            issue = self.record.issues[number]
            pull = issue.pull
            assert pull, f"#{number} is no pull request"
            user = self.github.user(by) if by else self.record.owner
            moment_s = self.world.now_s if at_s is None else at_s
            who = self.world.identity(user, moment_s)
            base = self.head(pull.base_branch)
            made = git.merge(self.folder, base, pull.head, f"Merge pull request #{number}", by=who)
            issue.state, issue.closed_at_s = "closed", moment_s
            pull.base, pull.merged_at_s, pull.merge_commit = base, moment_s, made
            ref = f"refs/heads/{pull.base_branch}"
            git.set_ref(self.folder, ref, made)
            self.world.moved(self.record, ref, base, made, by=user, at_s=moment_s, kind="pr_merge")
        return made

    def close(self, number: int) -> None:
        """Closes an issue or a pull request unmerged."""
        with self.world.lock:
            issue = self.record.issues[number]
            issue.state, issue.closed_at_s = "closed", self.world.now_s

    def comment(self, number: int, body: str, *, by: str, at_s: float | None = None) -> Comment:
        """Somebody comments on an issue or a pull request."""
        with self.world.lock:
            moment_s = self.world.now_s if at_s is None else at_s
            made = Comment(
                id=self.world.next_id(),
                issue=number,
                body=body,
                by=self.github.user(by),
                app=None,
                created_at_s=moment_s,
                updated_at_s=moment_s,
            )
            self.record.comments[made.id] = made
        return made

    def comments(self, number: int) -> list[Comment]:
        """The comments on an issue or a pull request, oldest first."""
        with self.world.lock:
            return [comment for comment in self.record.comments.values() if comment.issue == number]

    def edit(self, comment: Comment, body: str, *, at_s: float | None = None, by: str | None = None) -> None:
        """Its author, or somebody else who may write here, edits a comment."""
        with self.world.lock:
            comment.body = body
            comment.edited_by = self.github.user(by) if by else comment.by
            comment.updated_at_s = self.world.now_s if at_s is None else at_s

    def delete_comment(self, comment: Comment) -> None:
        with self.world.lock:
            del self.record.comments[comment.id]

    # what programs leave

    def checks(self, commit: str | None = None) -> list[CheckRun]:
        """The check runs (of a commit), oldest first."""
        with self.world.lock:
            return [check for check in self.record.checks.values() if commit in (None, check.commit)]

    def releases(self) -> list[Release]:
        """Every release, drafts too, oldest first."""
        with self.world.lock:
            return list(self.record.releases.values())

    def release(self, tag: str) -> Release:
        """The release (or draft) of a tag."""
        return next(release for release in self.releases() if release.tag == tag)

    def add_release(
        self, tag: str, *, draft: bool = False, name: str | None = None, body: str = ""
    ) -> Release:
        """Somebody makes a release by hand; the tag is made with it, unless it is a draft."""
        with self.world.lock:
            if not draft and tag not in self.tags:
                self.tag(tag)
            number, now_s = self.world.next_id(), self.world.now_s
            made = Release(
                id=number,
                tag=tag,
                target=self.record.default_branch,
                name=name or tag,
                body=body,
                draft=draft,
                prerelease=False,
                by=self.record.owner,
                created_at_s=now_s,
                published_at_s=None if draft else now_s,
                untagged=f"untagged-{number:020x}",
            )
            self.record.releases[number] = made
        return made

    def content(self, asset: Asset) -> bytes:
        """The bytes of a release's file."""
        return asset.path.read_bytes()

    def workflow_run(
        self,
        *,
        event: str = "push",
        branch: str | None = None,
        commit: str | None = None,
        name: str = "train-on-push",
        by: str | None = None,
        status: str = "in_progress",
    ) -> WorkflowRun:
        """A workflow run that goes on; `id` is GITHUB_RUN_ID."""
        with self.world.lock:
            made = WorkflowRun(
                id=self.world.next_id(),
                name=name,
                event=event,
                branch=branch or self.record.default_branch,
                commit=commit or self.head(branch),
                status=status,
                conclusion=None,
                by=self.github.user(by) if by else self.record.owner,
                at_s=self.world.now_s,
            )
            self.record.runs[made.id] = made
        return made


def _serving(application: object, host: str, port: int) -> BaseWSGIServer:
    server = make_server(host, port, application, threaded=True, request_handler=_Quiet)  # type: ignore[arg-type]  # a WSGI application is a callable
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    return server


def _names(permissions: Mapping[str, str]) -> dict[str, str]:
    """Permissions by the names of the API, also given as in a workflow (`pull-requests`)."""
    return {name.replace("-", "_"): level for name, level in permissions.items()}


def _seconds_from_now(seconds: float) -> float:
    return time.time() + seconds
