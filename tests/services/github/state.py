"""What the stand-in remembers: accounts, tokens, repositories and all that is said on them."""

from __future__ import annotations

import functools
import itertools
import secrets
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from tests.services.github import git

ROLES = ("none", "read", "triage", "write", "maintain", "admin")
TokenKind = Literal["actions", "personal", "app", "none"]

# What a workflow's token may where `permissions:` names all that the product asks for.
ACTIONS_PERMISSIONS = {
    "metadata": "read",
    "contents": "write",
    "checks": "write",
    "pull_requests": "write",
    "issues": "write",
    "statuses": "write",
    "actions": "write",
}


@dataclass(kw_only=True)
class User:
    id: int
    login: str
    kind: Literal["User", "Bot", "Organization"] = "User"


@dataclass(kw_only=True)
class App:
    """A GitHub App; `installed` names the repositories of its one installation."""

    id: int
    slug: str
    bot: User
    owner: User
    installation: int
    permissions: dict[str, str]
    installed: set[str] = field(default_factory=set)
    lifetime_s: float = 3600
    private_key: str = ""
    public_key: str = ""


@dataclass(kw_only=True)
class Token:
    """`repositories` None: whatever its user may see. `remaining` counts down to 0 until `reset_at_s`."""

    value: str
    kind: TokenKind
    user: User | None
    app: App | None
    permissions: dict[str, str]
    repositories: set[str] | None
    limit: int
    expires_at_s: float | None = None
    used: int = 0
    reset_at_s: float = 0.0
    revoked: bool = False


@dataclass(kw_only=True)
class Activity:
    """A push, as GitHub records it."""

    id: int
    ref: str
    before: str
    after: str
    at_s: float
    kind: str
    by: User


@dataclass(kw_only=True)
class Issue:
    """An issue, or the half of a pull request that is one."""

    number: int
    title: str
    body: str | None
    by: User
    at_s: float
    state: Literal["open", "closed"] = "open"
    closed_at_s: float | None = None
    locked: bool = False
    pull: PullHalf | None = None


@dataclass(kw_only=True)
class PullHalf:
    head_repository: Repo | None
    head_branch: str
    head: str
    base_branch: str
    base: str
    merged_at_s: float | None = None
    merge_commit: str | None = None
    draft: bool = False


@dataclass(kw_only=True)
class Comment:
    id: int
    issue: int
    body: str
    by: User
    app: App | None
    created_at_s: float
    updated_at_s: float
    reactions: list[Reaction] = field(default_factory=list)
    edited_by: User | None = None


@dataclass(kw_only=True)
class Reaction:
    id: int
    content: str
    by: User
    at_s: float


@dataclass(kw_only=True)
class CheckRun:
    """`details_url` is what was asked for; of a check made with GITHUB_TOKEN, GitHub shows its own instead."""

    id: int
    commit: str
    name: str
    app: App
    status: str
    conclusion: str | None = None
    external_id: str = ""
    details_url: str | None = None
    started_at: str | None = None
    completed_at: str | None = None
    output: dict[str, str | None] = field(default_factory=dict)
    annotations: list[dict[str, Any]] = field(default_factory=list)
    actions: list[dict[str, str]] = field(default_factory=list)


@dataclass(kw_only=True)
class Status:
    id: int
    commit: str
    state: str
    context: str
    description: str | None
    target_url: str | None
    by: User
    at_s: float


@dataclass(kw_only=True)
class Asset:
    """A file of a release; `path` holds its bytes once `state` is "uploaded"."""

    id: int
    name: str
    label: str | None
    state: Literal["starter", "uploaded"]
    content_type: str
    size_bytes: int
    digest: str | None
    path: Path
    by: User
    at_s: float
    downloads: int = 0


@dataclass(kw_only=True)
class Release:
    id: int
    tag: str
    target: str
    name: str | None
    body: str | None
    draft: bool
    prerelease: bool
    by: User
    created_at_s: float
    published_at_s: float | None
    untagged: str
    assets: list[Asset] = field(default_factory=list)


@dataclass(kw_only=True)
class WorkflowRun:
    id: int
    name: str
    event: str
    branch: str | None
    commit: str
    status: str
    conclusion: str | None
    by: User
    at_s: float


@dataclass(kw_only=True, eq=False)
class Repo:
    """A repository; `folder` is its bare git repository. `roles` has the role and its name (custom roles differ)."""

    id: int
    owner: User
    name: str
    folder: Path
    private: bool
    default_branch: str
    created_at_s: float
    parent: Repo | None = None
    roles: dict[str, tuple[str, str]] = field(default_factory=dict)
    issues: dict[int, Issue] = field(default_factory=dict)
    comments: dict[int, Comment] = field(default_factory=dict)
    checks: dict[int, CheckRun] = field(default_factory=dict)
    statuses: list[Status] = field(default_factory=list)
    releases: dict[int, Release] = field(default_factory=dict)
    activity: list[Activity] = field(default_factory=list)
    runs: dict[int, WorkflowRun] = field(default_factory=dict)
    rulesets: list[dict[str, Any]] = field(default_factory=list)
    protected: set[str] = field(default_factory=set)

    @property
    def full_name(self) -> str:
        return f"{self.owner.login}/{self.name}"

    def next_number(self) -> int:
        return max(self.issues, default=0) + 1


class World:
    """All of GitHub. Whoever reads or changes it holds `lock`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.lock = threading.RLock()
        self.users: dict[str, User] = {}
        self.tokens: dict[str, Token] = {}
        self.repositories: dict[str, Repo] = {}
        self.former: dict[str, Repo] = {}
        self.apps: dict[int, App] = {}
        self.fixed_now_s: float | None = None
        self.signatures: dict[str, Asset] = {}
        self._ids = itertools.count(1001)
        bot = User(id=41898282, login="github-actions[bot]", kind="Bot")
        github = User(id=9919, login="github", kind="Organization")
        self.users |= {bot.login: bot, github.login: github}
        self.actions = App(
            id=15368,
            slug="github-actions",
            bot=bot,
            owner=github,
            installation=0,
            permissions=ACTIONS_PERMISSIONS,
        )

    def next_id(self) -> int:
        return next(self._ids)

    @property
    def now_s(self) -> float:
        return time.time() if self.fixed_now_s is None else self.fixed_now_s

    def user(self, login: str, kind: Literal["User", "Bot", "Organization"] = "User") -> User:
        """The account of that name, made where there is none."""
        found = self.find_user(login)
        if found is None:
            found = self.users[login] = User(id=self.next_id(), login=login, kind=kind)
        return found

    def find_user(self, login: str) -> User | None:
        return next((user for user in self.users.values() if user.login.lower() == login.lower()), None)

    def repository(self, full_name: str) -> Repo | None:
        return self.repositories.get(full_name.lower())

    def add_repository(self, repo: Repo) -> None:
        self.repositories[repo.full_name.lower()] = repo

    def rename(self, repo: Repo, name: str) -> None:
        """Its old name leads to the new one from now on, until there is another repository of that name."""
        self.former[repo.full_name.lower()] = self.repositories.pop(repo.full_name.lower())
        repo.name = name
        self.add_repository(repo)

    def add_token(self, token: Token) -> Token:
        self.tokens[token.value] = token
        return token

    def identity(self, user: User, at_s: float | None = None) -> git.Identity:
        return git.Identity(
            name=user.login,
            email=f"{user.id}+{user.login}@users.noreply.github.com",
            at_s=self.now_s if at_s is None else at_s,
        )

    def role(self, repo: Repo, user: User) -> tuple[str, str]:
        """The role of somebody on a repository, and its name."""
        if user.login == repo.owner.login:
            return "admin", "admin"
        found = repo.roles.get(user.login)
        if found is None:
            found = ("none", "none") if repo.private else ("read", "read")
        return found

    def moved(
        self, repo: Repo, ref: str, before: str, after: str, *, by: User, at_s: float, kind: str = ""
    ) -> None:
        """Records that a branch was pushed, and lets pull requests and releases follow."""
        if ref.startswith("refs/tags/") and after == git.NOTHING:
            # A release whose tag is taken away is a draft again.
            for release in repo.releases.values():
                if release.tag == ref.removeprefix("refs/tags/"):
                    release.draft, release.published_at_s = True, None
        branch = ref.removeprefix("refs/heads/")
        if branch != ref:
            chosen = kind or _kind(repo, before, after)
            known = Activity(
                id=self.next_id(), ref=ref, before=before, after=after, at_s=at_s, kind=chosen, by=by
            )
            repo.activity.append(known)
            self._follow(repo, branch, after)

    def _follow(self, repo: Repo, branch: str, after: str) -> None:
        for base in self.repositories.values():
            for issue in base.issues.values():
                pull = issue.pull
                if pull and issue.state == "open":
                    if pull.head_repository is not repo or pull.head_branch != branch:
                        continue
                    if after == git.NOTHING:
                        issue.state, issue.closed_at_s = "closed", self.now_s
                        continue
                    # What is told of the base is from when the head moved last, as on GitHub.
                    pull.head = after
                    pull.base = git.resolve(base.folder, f"refs/heads/{pull.base_branch}") or pull.base
                    git.set_ref(base.folder, f"refs/pull/{issue.number}/head", after)


def _kind(repo: Repo, before: str, after: str) -> str:
    if before == git.NOTHING:
        return "branch_creation"
    if after == git.NOTHING:
        return "branch_deletion"
    return "push" if git.is_ancestor(repo.folder, before, after) else "force_push"


def secret(prefix: str) -> str:
    return prefix + secrets.token_hex(18)


@functools.cache
def key_pair() -> tuple[str, str]:
    """A private and a public key in PEM, one pair a process: making one takes a tenth of a second."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import rsa

    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.TraditionalOpenSSL,
        serialization.NoEncryption(),
    )
    public = key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return private.decode(), public.decode()
