"""Comments on issues and pull requests, and reactions to them."""

from __future__ import annotations

from tests.services.github.routing import Ask, Problem, Reply, absent, endpoint, invalid, required
from tests.services.github.shapes import iso
from tests.services.github.state import Comment, Issue, Reaction, Repo

_MOST_CHARACTERS = 65_536
_REACTIONS = ("+1", "-1", "laugh", "hooray", "confused", "heart", "rocket", "eyes")
_WRITE = ("issues:write", "pull_requests:write")
_READ = ("issues:read", "pull_requests:read")


def issue_of(repo: Repo, number: int) -> Issue:
    found = repo.issues.get(number)
    if found is None:
        raise absent()
    return found


@endpoint("GET", "/repos/{owner}/{repo}/issues/{issue_number}", needs=_READ)
def issue(ask: Ask, repo: Repo, issue_number: int) -> Reply:
    return Reply(body=ask.shapes.issue(repo, issue_of(repo, issue_number)))


@endpoint("POST", "/repos/{owner}/{repo}/issues", needs="issues:write")
def open_issue(ask: Ask, repo: Repo) -> Reply:
    (title,) = required(ask.body, "Issue", "title")
    number = repo.next_number()
    made = Issue(number=number, title=title, body=ask.body.get("body"), by=ask.user, at_s=ask.world.now_s)
    repo.issues[number] = made
    body = ask.shapes.issue(repo, made)
    return Reply(status=201, body=body, headers={"Location": body["url"]})


@endpoint("GET", "/repos/{owner}/{repo}/issues/{issue_number}/comments", needs=_READ)
def comments(ask: Ask, repo: Repo, issue_number: int) -> Reply:
    issue_of(repo, issue_number)
    since = ask.query("since")
    found = [
        comment
        for comment in repo.comments.values()
        if comment.issue == issue_number and (not since or iso(comment.updated_at_s) >= since)
    ]
    return Reply(body=[ask.shapes.comment(repo, comment) for comment in ask.page(found)])


@endpoint("GET", "/repos/{owner}/{repo}/issues/comments", needs=_READ)
def every_comment(ask: Ask, repo: Repo) -> Reply:
    since, by_change = ask.query("since"), ask.query("sort", "created") == "updated"
    found = [one for one in repo.comments.values() if not since or iso(one.updated_at_s) >= since]
    found.sort(key=lambda one: (one.updated_at_s if by_change else one.created_at_s, one.id))
    # As GitHub documents it, the direction counts only where `sort` is given.
    if ask.query("direction", "asc") == "desc" and ask.query("sort"):
        found.reverse()
    return Reply(body=[ask.shapes.comment(repo, one) for one in ask.page(found)])


@endpoint("POST", "/repos/{owner}/{repo}/issues/{issue_number}/comments", needs=_WRITE)
def create(ask: Ask, repo: Repo, issue_number: int) -> Reply:
    about = issue_of(repo, issue_number)
    if about.locked and ask.token.kind != "personal":
        raise Problem(403, "Unable to create comment because issue is locked.")
    now_s = ask.world.now_s
    made = Comment(
        id=ask.world.next_id(),
        issue=issue_number,
        body=_body(ask),
        by=ask.user,
        app=ask.app,
        created_at_s=now_s,
        updated_at_s=now_s,
    )
    repo.comments[made.id] = made
    body = ask.shapes.comment(repo, made)
    return Reply(status=201, body=body, headers={"Location": body["url"]})


def _body(ask: Ask) -> str:
    (body,) = required(ask.body, "IssueComment", "body")
    if len(body) > _MOST_CHARACTERS:
        message = f"Body is too long (maximum is {_MOST_CHARACTERS} characters)"
        raise invalid("IssueComment", "unprocessable", "data", message)
    return str(body)


def _comment(repo: Repo, comment_id: int) -> Comment:
    found = repo.comments.get(comment_id)
    if found is None:
        raise absent()
    return found


@endpoint("GET", "/repos/{owner}/{repo}/issues/comments/{comment_id}", needs=_READ)
def comment(ask: Ask, repo: Repo, comment_id: int) -> Reply:
    return Reply(body=ask.shapes.comment(repo, _comment(repo, comment_id)))


@endpoint("PATCH", "/repos/{owner}/{repo}/issues/comments/{comment_id}", needs=_WRITE)
def update(ask: Ask, repo: Repo, comment_id: int) -> Reply:
    found = _comment(repo, comment_id)
    found.body = _body(ask)
    found.updated_at_s = ask.world.now_s
    found.edited_by = ask.user
    return Reply(body=ask.shapes.comment(repo, found))


@endpoint("DELETE", "/repos/{owner}/{repo}/issues/comments/{comment_id}", needs=_WRITE)
def delete(ask: Ask, repo: Repo, comment_id: int) -> Reply:
    _comment(repo, comment_id)
    del repo.comments[comment_id]
    return Reply(status=204)


@endpoint("GET", "/repos/{owner}/{repo}/issues/comments/{comment_id}/reactions", needs="issues:read")
def reactions(ask: Ask, repo: Repo, comment_id: int) -> Reply:
    content = ask.query("content")
    found = [one for one in _comment(repo, comment_id).reactions if not content or one.content == content]
    return Reply(body=[ask.shapes.reaction(one) for one in ask.page(found)])


@endpoint("POST", "/repos/{owner}/{repo}/issues/comments/{comment_id}/reactions", needs="issues:write")
def react(ask: Ask, repo: Repo, comment_id: int) -> Reply:
    found = _comment(repo, comment_id)
    content = ask.body.get("content")
    if content not in _REACTIONS:
        raise invalid("Reaction", "invalid", "content")
    for known in found.reactions:
        if known.content == content and known.by is ask.user:
            return Reply(status=200, body=ask.shapes.reaction(known))
    made = Reaction(id=ask.world.next_id(), content=content, by=ask.user, at_s=ask.world.now_s)
    found.reactions.append(made)
    return Reply(status=201, body=ask.shapes.reaction(made))


@endpoint(
    "DELETE", "/repos/{owner}/{repo}/issues/comments/{comment_id}/reactions/{reaction_id}", needs=_WRITE
)
def unreact(ask: Ask, repo: Repo, comment_id: int, reaction_id: int) -> Reply:
    found = _comment(repo, comment_id)
    kept = [one for one in found.reactions if one.id != reaction_id]
    if len(kept) == len(found.reactions):
        raise absent()
    found.reactions = kept
    return Reply(status=204)
