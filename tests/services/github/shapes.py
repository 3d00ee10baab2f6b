"""What the stand-in remembers -> the JSON that GitHub's API gives of it."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

from tests.services.github import git
from tests.services.github.state import (
    Activity,
    App,
    Asset,
    CheckRun,
    Comment,
    Issue,
    Reaction,
    Release,
    Repo,
    Status,
    Token,
    User,
    WorkflowRun,
    World,
)

Json = dict[str, Any]

_REPO_LINKS = {
    "archive_url": "/{archive_format}{/ref}",
    "assignees_url": "/assignees{/user}",
    "blobs_url": "/git/blobs{/sha}",
    "branches_url": "/branches{/branch}",
    "collaborators_url": "/collaborators{/collaborator}",
    "comments_url": "/comments{/number}",
    "commits_url": "/commits{/sha}",
    "compare_url": "/compare/{base}...{head}",
    "contents_url": "/contents/{+path}",
    "contributors_url": "/contributors",
    "deployments_url": "/deployments",
    "downloads_url": "/downloads",
    "events_url": "/events",
    "forks_url": "/forks",
    "git_commits_url": "/git/commits{/sha}",
    "git_refs_url": "/git/refs{/sha}",
    "git_tags_url": "/git/tags{/sha}",
    "hooks_url": "/hooks",
    "issue_comment_url": "/issues/comments{/number}",
    "issue_events_url": "/issues/events{/number}",
    "issues_url": "/issues{/number}",
    "keys_url": "/keys{/key_id}",
    "labels_url": "/labels{/name}",
    "languages_url": "/languages",
    "merges_url": "/merges",
    "milestones_url": "/milestones{/number}",
    "notifications_url": "/notifications{?since,all,participating}",
    "pulls_url": "/pulls{/number}",
    "releases_url": "/releases{/id}",
    "stargazers_url": "/stargazers",
    "statuses_url": "/statuses/{sha}",
    "subscribers_url": "/subscribers",
    "subscription_url": "/subscription",
    "tags_url": "/tags",
    "teams_url": "/teams",
    "trees_url": "/git/trees{/sha}",
}
_USER_LINKS = {
    "followers_url": "/followers",
    "following_url": "/following{/other_user}",
    "gists_url": "/gists{/gist_id}",
    "starred_url": "/starred{/owner}{/repo}",
    "subscriptions_url": "/subscriptions",
    "organizations_url": "/orgs",
    "repos_url": "/repos",
    "events_url": "/events{/privacy}",
    "received_events_url": "/received_events",
}
_COUNTS = (
    "forks_count",
    "stargazers_count",
    "watchers_count",
    "open_issues_count",
    "forks",
    "watchers",
    "open_issues",
)
_REACTIONS = ("+1", "-1", "laugh", "hooray", "confused", "heart", "rocket", "eyes")


def iso(at_s: float) -> str:
    """A moment as GitHub writes it: whole seconds, UTC."""
    return datetime.fromtimestamp(int(at_s), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def maybe_iso(at_s: float | None) -> str | None:
    return None if at_s is None else iso(at_s)


def node_id(kind: str, number: object) -> str:
    return base64.b64encode(f"{kind}:{number}".encode()).decode()


@dataclass(frozen=True, kw_only=True)
class Shapes:
    """`api` and `web` are the addresses that the answers name: those that the request came by."""

    world: World
    api: str
    web: str

    # accounts

    def user(self, user: User) -> Json:
        api = f"{self.api}/users/{quote(user.login)}"
        name = user.login.removesuffix("[bot]")
        return {
            "login": user.login,
            "id": user.id,
            "node_id": node_id(user.kind, user.id),
            "avatar_url": f"{self.web}/avatars/u/{user.id}?v=4",
            "gravatar_id": "",
            "url": api,
            "html_url": f"{self.web}/apps/{name}" if user.kind == "Bot" else f"{self.web}/{name}",
            **{key: api + tail for key, tail in _USER_LINKS.items()},
            "type": user.kind,
            "user_view_type": "public",
            "site_admin": False,
        }

    def public_user(self, user: User) -> Json:
        return self.user(user) | {
            "name": None, "company": None, "blog": "", "location": None, "email": None, "hireable": None, "bio": None,
            "public_repos": 0, "public_gists": 0, "followers": 0, "following": 0,
            "created_at": iso(1_577_836_800), "updated_at": iso(1_577_836_800),
        }  # fmt: skip

    def app(self, app: App) -> Json:
        return {
            "id": app.id,
            "slug": app.slug,
            "node_id": node_id("App", app.id),
            "owner": self.user(app.owner),
            "name": app.slug.replace("-", " ").title(),
            "description": "",
            "external_url": f"{self.web}/apps/{app.slug}",
            "html_url": f"{self.web}/apps/{app.slug}",
            "created_at": iso(1_577_836_800),
            "updated_at": iso(1_577_836_800),
            "permissions": dict(app.permissions),
            "events": [],
        }

    def installation(self, app: App) -> Json:
        return {
            "id": app.installation,
            "account": self.user(app.owner),
            "repository_selection": "selected",
            "access_tokens_url": f"{self.api}/app/installations/{app.installation}/access_tokens",
            "repositories_url": f"{self.api}/installation/repositories",
            "html_url": f"{self.web}/settings/installations/{app.installation}",
            "app_id": app.id,
            "app_slug": app.slug,
            "target_id": app.owner.id,
            "target_type": app.owner.kind,
            "permissions": dict(app.permissions),
            "events": [],
            "created_at": iso(1_577_836_800),
            "updated_at": iso(1_577_836_800),
            "single_file_name": None,
            "suspended_by": None,
            "suspended_at": None,
        }

    def access_token(self, token: Token, repositories: Sequence[Repo]) -> Json:
        return {
            "token": token.value,
            "expires_at": iso(token.expires_at_s or 0),
            "permissions": dict(token.permissions),
            "repository_selection": "selected",
            "repositories": [self.repository(repo) for repo in repositories],
        }

    # repositories

    def url(self, repo: Repo, tail: str = "") -> str:
        return f"{self.api}/repos/{repo.full_name}{tail}"

    def page(self, repo: Repo, tail: str = "") -> str:
        return f"{self.web}/{repo.full_name}{tail}"

    def minimal_repository(self, repo: Repo) -> Json:
        return {
            "id": repo.id,
            "node_id": node_id("Repository", repo.id),
            "name": repo.name,
            "full_name": repo.full_name,
            "private": repo.private,
            "owner": self.user(repo.owner),
            "html_url": self.page(repo),
            "description": None,
            "fork": repo.parent is not None,
            "url": self.url(repo),
            **{key: self.url(repo, tail) for key, tail in _REPO_LINKS.items()},
        }

    def repository(self, repo: Repo) -> Json:
        pushed = max((known.at_s for known in repo.activity), default=repo.created_at_s)
        return self.minimal_repository(repo) | {
            "git_url": self.page(repo, ".git").replace("http", "git", 1),
            "ssh_url": f"git@127.0.0.1:{repo.full_name}.git",
            "clone_url": self.page(repo, ".git"),
            "svn_url": self.page(repo),
            "mirror_url": None,
            "homepage": None,
            "language": None,
            **dict.fromkeys(_COUNTS, 0),
            "size": 1,
            "default_branch": repo.default_branch,
            "visibility": "private" if repo.private else "public",
            "has_issues": True,
            "has_projects": False,
            "has_wiki": False,
            "has_pages": False,
            "has_discussions": False,
            "has_downloads": False,
            "archived": False,
            "disabled": False,
            "is_template": False,
            "allow_forking": True,
            "web_commit_signoff_required": False,
            "topics": [],
            "license": None,
            "pushed_at": iso(pushed),
            "created_at": iso(repo.created_at_s),
            "updated_at": iso(pushed),
        }

    def full_repository(self, repo: Repo) -> Json:
        made = self.repository(repo) | {"subscribers_count": 0, "network_count": 0}
        if repo.parent:
            made |= {"parent": self.repository(repo.parent), "source": self.repository(repo.parent)}
        return made

    def permission(self, user: User, role: str, role_name: str) -> Json:
        rank = ["none", "read", "triage", "write", "maintain", "admin"].index(role)
        rights = {"pull": 1, "triage": 2, "push": 3, "maintain": 4, "admin": 5}
        legacy = {"triage": "read", "maintain": "write"}.get(role, role)
        granted = {name: rank >= needed for name, needed in rights.items()}
        return {
            "permission": legacy,
            "user": self.user(user) | {"permissions": granted, "role_name": role_name},
            "role_name": role_name,
        }

    def content(self, repo: Repo, entry: git.Entry, ref: str) -> Json:
        path = quote(entry.path)
        kind = {"tree": "dir", "commit": "submodule"}.get(entry.kind, "file")
        if entry.mode == "120000":
            kind = "symlink"
        url = self.url(repo, f"/contents/{path}?ref={quote(ref)}")
        objects = "trees" if kind == "dir" else "blobs"
        page = self.page(repo, f"/{'tree' if kind == 'dir' else 'blob'}/{quote(ref)}/{path}")
        git_url = self.url(repo, f"/git/{objects}/{entry.sha}")
        raw = None if kind == "dir" else self.page(repo, f"/raw/{quote(ref)}/{path}")
        return {
            "name": entry.path.rpartition("/")[2],
            "path": entry.path,
            "sha": entry.sha,
            "size": entry.size_bytes,
            "url": url,
            "html_url": page,
            "git_url": git_url,
            "download_url": raw,
            "type": kind,
            "_links": {"self": url, "git": git_url, "html": page},
        }

    # commits and refs

    def identity(self, who: git.Identity) -> Json:
        return {"name": who.name, "email": who.email, "date": iso(who.at_s)}

    def git_commit(self, repo: Repo, commit: git.Commit) -> Json:
        return {
            "sha": commit.sha,
            "node_id": node_id("Commit", commit.sha),
            "url": self.url(repo, f"/git/commits/{commit.sha}"),
            "html_url": self.page(repo, f"/commit/{commit.sha}"),
            "author": self.identity(commit.author),
            "committer": self.identity(commit.committer),
            "tree": {"sha": commit.tree, "url": self.url(repo, f"/git/trees/{commit.tree}")},
            "message": commit.message,
            "parents": [
                {
                    "sha": sha,
                    "url": self.url(repo, f"/git/commits/{sha}"),
                    "html_url": self.page(repo, f"/commit/{sha}"),
                }
                for sha in commit.parents
            ],
            "verification": _UNSIGNED,
        }

    def commit(self, repo: Repo, commit: git.Commit) -> Json:
        url = self.url(repo, f"/commits/{commit.sha}")
        return {
            "sha": commit.sha,
            "node_id": node_id("Commit", commit.sha),
            "commit": {
                "author": self.identity(commit.author),
                "committer": self.identity(commit.committer),
                "message": commit.message,
                "tree": {"sha": commit.tree, "url": self.url(repo, f"/git/trees/{commit.tree}")},
                "url": self.url(repo, f"/git/commits/{commit.sha}"),
                "comment_count": 0,
                "verification": _UNSIGNED,
            },
            "url": url,
            "html_url": self.page(repo, f"/commit/{commit.sha}"),
            "comments_url": f"{url}/comments",
            "author": self._account(commit.author),
            "committer": self._account(commit.committer),
            "parents": [
                {
                    "sha": sha,
                    "url": self.url(repo, f"/commits/{sha}"),
                    "html_url": self.page(repo, f"/commit/{sha}"),
                }
                for sha in commit.parents
            ],
        }

    def _account(self, who: git.Identity) -> Json | None:
        user = self.world.users.get(who.name)
        return self.user(user) if user else None

    def change(self, repo: Repo, change: git.Change, commit: str) -> Json:
        path = quote(change.path)
        made: Json = {
            "sha": change.sha or "",
            "filename": change.path,
            "status": change.status,
            "additions": change.additions,
            "deletions": change.deletions,
            "changes": change.additions + change.deletions,
            "blob_url": self.page(repo, f"/blob/{commit}/{path}"),
            "raw_url": self.page(repo, f"/raw/{commit}/{path}"),
            "contents_url": self.url(repo, f"/contents/{path}?ref={commit}"),
        }
        if change.previous:
            made["previous_filename"] = change.previous
        return made

    def ref(self, repo: Repo, ref: git.Ref) -> Json:
        return {
            "ref": ref.name,
            "node_id": node_id("Ref", ref.name),
            "url": self.url(repo, f"/git/{quote(ref.name)}"),
            "object": {
                "sha": ref.sha,
                "type": ref.kind,
                "url": self.url(repo, f"/git/{ref.kind}s/{ref.sha}"),
            },
        }

    def tag_object(self, repo: Repo, sha: str, raw: str) -> Json:
        head, _, message = raw.partition("\n\n")
        facts = dict(line.split(" ", 1) for line in head.splitlines())
        who, _, rest = facts["tagger"].rpartition(" <")
        email, _, moment = rest.partition("> ")
        return {
            "node_id": node_id("Tag", sha),
            "sha": sha,
            "url": self.url(repo, f"/git/tags/{sha}"),
            "tagger": {"name": who, "email": email, "date": iso(float(moment.split()[0]))},
            "object": {
                "sha": facts["object"],
                "type": facts["type"],
                "url": self.url(repo, f"/git/{facts['type']}s/{facts['object']}"),
            },
            "tag": facts["tag"],
            "message": message.rstrip("\n"),
            "verification": _UNSIGNED,
        }

    def tag(self, repo: Repo, name: str, commit: str) -> Json:
        return {
            "name": name,
            "zipball_url": self.url(repo, f"/zipball/refs/tags/{quote(name)}"),
            "tarball_url": self.url(repo, f"/tarball/refs/tags/{quote(name)}"),
            "commit": {"sha": commit, "url": self.url(repo, f"/commits/{commit}")},
            "node_id": node_id("Ref", f"refs/tags/{name}"),
        }

    def branch(self, repo: Repo, name: str, commit: git.Commit) -> Json:
        url = self.url(repo, f"/branches/{quote(name)}")
        return {
            "name": name,
            "commit": self.commit(repo, commit),
            "_links": {"self": url, "html": self.page(repo, f"/tree/{quote(name)}")},
            "protected": name in repo.protected,
            "protection": {"enabled": name in repo.protected},
            "protection_url": f"{url}/protection",
        }

    def activity(self, known: Activity) -> Json:
        return {
            "id": known.id,
            "node_id": node_id("Activity", known.id),
            "before": known.before,
            "after": known.after,
            "ref": known.ref,
            "timestamp": iso(known.at_s),
            "activity_type": known.kind,
            "actor": self.user(known.by),
        }

    # issues, pull requests, comments

    def issue(self, repo: Repo, issue: Issue) -> Json:
        url = self.url(repo, f"/issues/{issue.number}")
        page = self.page(repo, f"/{'pull' if issue.pull else 'issues'}/{issue.number}")
        comments = sum(comment.issue == issue.number for comment in repo.comments.values())
        made: Json = {
            "id": repo.id * 1000 + issue.number,
            "node_id": node_id("Issue", f"{repo.id}/{issue.number}"),
            "url": url,
            "repository_url": self.url(repo),
            "labels_url": f"{url}/labels{{/name}}",
            "comments_url": f"{url}/comments",
            "events_url": f"{url}/events",
            "html_url": page,
            "number": issue.number,
            "state": issue.state,
            "title": issue.title,
            "body": issue.body,
            "user": self.user(issue.by),
            "labels": [],
            "assignee": None,
            "assignees": [],
            "milestone": None,
            "locked": issue.locked,
            "comments": comments,
            "created_at": iso(issue.at_s),
            "updated_at": iso(issue.at_s),
            "closed_at": maybe_iso(issue.closed_at_s),
            "author_association": self.association(repo, issue.by),
        }
        if issue.pull:
            api = self.url(repo, f"/pulls/{issue.number}")
            made["pull_request"] = {
                "url": api,
                "html_url": page,
                "diff_url": f"{page}.diff",
                "patch_url": f"{page}.patch",
                "merged_at": maybe_iso(issue.pull.merged_at_s),
            }
        return made

    def association(self, repo: Repo, user: User) -> str:
        if user.login == repo.owner.login:
            return "OWNER"
        return "COLLABORATOR" if user.login in repo.roles else "NONE"

    def pull_list_item(self, repo: Repo, issue: Issue) -> Json:
        pull = issue.pull
        assert pull
        api, page = self.url(repo, f"/pulls/{issue.number}"), self.page(repo, f"/pull/{issue.number}")
        as_issue = self.url(repo, f"/issues/{issue.number}")
        statuses = self.url(repo, f"/statuses/{pull.head}")
        links = {
            "self": api,
            "html": page,
            "issue": as_issue,
            "comments": f"{as_issue}/comments",
            "review_comments": f"{api}/comments",
            "review_comment": self.url(repo, "/pulls/comments{/number}"),
            "commits": f"{api}/commits",
            "statuses": statuses,
        }
        return {
            "url": api,
            "id": repo.id * 1000 + issue.number,
            "node_id": node_id("PullRequest", f"{repo.id}/{issue.number}"),
            "html_url": page,
            "diff_url": f"{page}.diff",
            "patch_url": f"{page}.patch",
            "issue_url": as_issue,
            "commits_url": links["commits"],
            "review_comments_url": links["review_comments"],
            "review_comment_url": links["review_comment"],
            "comments_url": links["comments"],
            "statuses_url": statuses,
            "number": issue.number,
            "state": issue.state,
            "locked": issue.locked,
            "title": issue.title,
            "user": self.user(issue.by),
            "body": issue.body,
            "labels": [],
            "milestone": None,
            "draft": pull.draft,
            "created_at": iso(issue.at_s),
            "updated_at": iso(issue.at_s),
            "closed_at": maybe_iso(issue.closed_at_s),
            "merged_at": maybe_iso(pull.merged_at_s),
            "merge_commit_sha": pull.merge_commit,
            "assignee": None,
            "assignees": [],
            "requested_reviewers": [],
            "requested_teams": [],
            "head": self._side(pull.head_repository, pull.head_branch, pull.head, issue.by),
            "base": self._side(repo, pull.base_branch, pull.base, repo.owner),
            "_links": {name: {"href": href} for name, href in links.items()},
            "author_association": self.association(repo, issue.by),
            "auto_merge": None,
            "active_lock_reason": None,
        }

    def _side(self, repo: Repo | None, branch: str, sha: str, by: User) -> Json:
        owner = repo.owner if repo else by
        return {
            "label": f"{owner.login}:{branch}",
            "ref": branch,
            "sha": sha,
            "user": self.user(owner),
            "repo": self.repository(repo) if repo else None,
        }

    def pull(self, repo: Repo, issue: Issue, commits: int, changes: Sequence[git.Change]) -> Json:
        assert issue.pull
        merged = issue.pull.merged_at_s is not None
        return self.pull_list_item(repo, issue) | {
            "merged": merged,
            "mergeable": None if merged else True,
            "rebaseable": None if merged else True,
            "mergeable_state": "unknown" if merged else "clean",
            "merged_by": self.user(repo.owner) if merged else None,
            "comments": sum(comment.issue == issue.number for comment in repo.comments.values()),
            "review_comments": 0,
            "maintainer_can_modify": False,
            "commits": commits,
            "additions": sum(change.additions for change in changes),
            "deletions": sum(change.deletions for change in changes),
            "changed_files": len(changes),
        }

    def comment(self, repo: Repo, comment: Comment) -> Json:
        url = self.url(repo, f"/issues/comments/{comment.id}")
        issue = repo.issues[comment.issue]
        kind = "pull" if issue.pull else "issues"
        counts = {name: sum(r.content == name for r in comment.reactions) for name in _REACTIONS}
        return {
            "url": url,
            "html_url": self.page(repo, f"/{kind}/{issue.number}#issuecomment-{comment.id}"),
            "issue_url": self.url(repo, f"/issues/{issue.number}"),
            "id": comment.id,
            "node_id": node_id("IssueComment", comment.id),
            "user": self.user(comment.by),
            "created_at": iso(comment.created_at_s),
            "updated_at": iso(comment.updated_at_s),
            "author_association": self.association(repo, comment.by),
            "body": comment.body,
            "reactions": {"url": f"{url}/reactions", "total_count": len(comment.reactions), **counts},
            "performed_via_github_app": self.app(comment.app) if comment.app else None,
        }

    def reaction(self, reaction: Reaction) -> Json:
        return {
            "id": reaction.id,
            "node_id": node_id("Reaction", reaction.id),
            "user": self.user(reaction.by),
            "content": reaction.content,
            "created_at": iso(reaction.at_s),
        }

    # checks and statuses

    def check(self, repo: Repo, check: CheckRun) -> Json:
        url = self.url(repo, f"/check-runs/{check.id}")
        page = self.page(repo, f"/runs/{check.id}")
        # Of a check made with GITHUB_TOKEN the link stays GitHub's own, whatever it is set to:
        # https://github.com/actions/github-script/issues/143
        given = None if check.app is self.world.actions else check.details_url
        return {
            "id": check.id,
            "name": check.name,
            "node_id": node_id("CheckRun", check.id),
            "head_sha": check.commit,
            "external_id": check.external_id,
            "url": url,
            "html_url": page,
            "details_url": given or page,
            "status": check.status,
            "conclusion": check.conclusion,
            "started_at": check.started_at,
            "completed_at": check.completed_at,
            "output": {
                "title": check.output.get("title"),
                "summary": check.output.get("summary"),
                "text": check.output.get("text"),
                "annotations_count": len(check.annotations),
                "annotations_url": f"{url}/annotations",
            },
            "check_suite": {"id": check.app.id * 1000 + 1},
            "app": self.app(check.app),
            "pull_requests": [
                self._pull_of_check(repo, issue) for issue in self._pulls_at(repo, check.commit)
            ],
        }

    def _pulls_at(self, repo: Repo, commit: str) -> list[Issue]:
        # Those from forks are never told here.
        return [
            issue
            for issue in repo.issues.values()
            if issue.pull
            and issue.state == "open"
            and issue.pull.head == commit
            and issue.pull.head_repository is repo
        ]

    def _pull_of_check(self, repo: Repo, issue: Issue) -> Json:
        pull = issue.pull
        assert pull
        own = {"id": repo.id, "url": self.url(repo), "name": repo.name}
        return {
            "url": self.url(repo, f"/pulls/{issue.number}"),
            "id": repo.id * 1000 + issue.number,
            "number": issue.number,
            "head": {"ref": pull.head_branch, "sha": pull.head, "repo": own},
            "base": {"ref": pull.base_branch, "sha": pull.base, "repo": own},
        }

    def annotation(self, repo: Repo, check: CheckRun, given: Json) -> Json:
        return {
            "path": given["path"],
            "blob_href": self.page(repo, f"/blob/{check.commit}/{quote(given['path'])}"),
            "start_line": given["start_line"],
            "end_line": given["end_line"],
            "start_column": given.get("start_column"),
            "end_column": given.get("end_column"),
            "annotation_level": given["annotation_level"],
            "title": given.get("title"),
            "message": given["message"],
            "raw_details": given.get("raw_details"),
        }

    def status(self, repo: Repo, status: Status) -> Json:
        return {
            "url": self.url(repo, f"/statuses/{status.commit}"),
            "avatar_url": f"{self.web}/avatars/u/{status.by.id}?v=4",
            "id": status.id,
            "node_id": node_id("Status", status.id),
            "state": status.state,
            "description": status.description,
            "target_url": status.target_url,
            "context": status.context,
            "created_at": iso(status.at_s),
            "updated_at": iso(status.at_s),
        }

    # releases

    def release(self, repo: Repo, release: Release, upload: str) -> Json:
        url = self.url(repo, f"/releases/{release.id}")
        tag = release.untagged if release.draft else quote(release.tag)
        return {
            "url": url,
            "assets_url": f"{url}/assets",
            "upload_url": f"{upload}/repos/{repo.full_name}/releases/{release.id}/assets{{?name,label}}",
            "html_url": self.page(repo, f"/releases/tag/{tag}"),
            "id": release.id,
            "author": self.user(release.by),
            "node_id": node_id("Release", release.id),
            "tag_name": release.tag,
            "target_commitish": release.target,
            "name": release.name,
            "draft": release.draft,
            "immutable": False,
            "prerelease": release.prerelease,
            "created_at": iso(release.created_at_s),
            "updated_at": iso(release.created_at_s),
            "published_at": maybe_iso(release.published_at_s),
            "assets": [self.asset(repo, release, asset) for asset in release.assets],
            "tarball_url": None if release.draft else self.url(repo, f"/tarball/{tag}"),
            "zipball_url": None if release.draft else self.url(repo, f"/zipball/{tag}"),
            "body": release.body,
        }

    def asset(self, repo: Repo, release: Release, asset: Asset) -> Json:
        tag = release.untagged if release.draft else quote(release.tag)
        return {
            "url": self.url(repo, f"/releases/assets/{asset.id}"),
            "id": asset.id,
            "node_id": node_id("Asset", asset.id),
            "name": asset.name,
            "label": asset.label or "",
            "uploader": self.user(asset.by),
            "content_type": asset.content_type,
            "state": asset.state,
            "size": asset.size_bytes,
            "digest": asset.digest,
            "download_count": asset.downloads,
            "created_at": iso(asset.at_s),
            "updated_at": iso(asset.at_s),
            "browser_download_url": self.page(repo, f"/releases/download/{tag}/{quote(asset.name)}"),
        }

    # actions

    def workflow_run(self, repo: Repo, run: WorkflowRun, commit: git.Commit) -> Json:
        url = self.url(repo, f"/actions/runs/{run.id}")
        links = {
            name: f"{url}/{name.removesuffix('_url')}" for name in ("jobs_url", "logs_url", "artifacts_url")
        }
        return {
            "id": run.id,
            "name": run.name,
            "node_id": node_id("WorkflowRun", run.id),
            "head_branch": run.branch,
            "head_sha": run.commit,
            "path": f".github/workflows/{run.name}.yml",
            "display_title": commit.message.splitlines()[0] if commit.message else "",
            "run_number": 1,
            "run_attempt": 1,
            "event": run.event,
            "status": run.status,
            "conclusion": run.conclusion,
            "workflow_id": 1,
            "url": url,
            "html_url": self.page(repo, f"/actions/runs/{run.id}"),
            "pull_requests": [],
            "created_at": iso(run.at_s),
            "updated_at": iso(run.at_s),
            "actor": self.user(run.by),
            "triggering_actor": self.user(run.by),
            "run_started_at": iso(run.at_s),
            **links,
            "check_suite_url": self.url(repo, "/check-suites/1"),
            "cancel_url": f"{url}/cancel",
            "rerun_url": f"{url}/rerun",
            "previous_attempt_url": None,
            "workflow_url": self.url(repo, "/actions/workflows/1"),
            "head_commit": {
                "id": commit.sha,
                "tree_id": commit.tree,
                "message": commit.message,
                "timestamp": iso(commit.author.at_s),
                "author": {"name": commit.author.name, "email": commit.author.email},
                "committer": {"name": commit.committer.name, "email": commit.committer.email},
            },
            "repository": self.minimal_repository(repo),
            "head_repository": self.minimal_repository(repo),
        }


_UNSIGNED = {"verified": False, "reason": "unsigned", "signature": None, "payload": None, "verified_at": None}


def etag(content: bytes) -> str:
    return f'W/"{hashlib.sha256(content).hexdigest()}"'
