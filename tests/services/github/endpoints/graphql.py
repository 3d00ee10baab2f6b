"""GraphQL, as far as it is asked: who the token speaks as, and who edited a comment, which REST does not tell."""

from __future__ import annotations

from tests.services.github.routing import Ask, Json, Problem, Reply, endpoint
from tests.services.github.shapes import iso, node_id
from tests.services.github.state import Comment

_DOCS = "https://docs.github.com/graphql/guides/forming-calls-with-graphql#authenticating-with-graphql"
_VIEWER = "{viewer{login}}"
# https://docs.github.com/en/graphql/reference/objects#issuecomment
_EDITED = "($id:ID!){node(id:$id){...onIssueComment{bodylastEditedAteditor{login}}}}"


@endpoint("POST", "/graphql", account=True)
def graphql(ask: Ask) -> Reply:
    if ask.token.user is None:
        raise Problem(401, "This endpoint requires you to be authenticated.", docs=_DOCS)
    query = ask.body.get("query")
    if not isinstance(query, str):
        return _refused("A query attribute must be specified and must be a string.")
    wanted = "".join(query.split()).removeprefix("query")
    if wanted == _VIEWER:
        return Reply(body={"data": {"viewer": {"login": ask.user.login}}})
    if wanted == _EDITED:
        return _edited(ask, str((ask.body.get("variables") or {}).get("id")))
    return _refused(f"The stand-in answers {_VIEWER} and {_EDITED} alone")


def _edited(ask: Ask, node: str) -> Reply:
    for repo in ask.world.repositories.values():
        for comment in repo.comments.values():
            if node_id("IssueComment", comment.id) == node:
                return Reply(body={"data": {"node": _edit(comment)}})
    error = {
        "type": "NOT_FOUND",
        "path": ["node"],
        "message": f"Could not resolve to a node with the id '{node}'",
    }
    return Reply(body={"data": {"node": None}, "errors": [error]})


def _edit(comment: Comment) -> Json:
    by = comment.edited_by
    if by is None:
        return {"body": comment.body, "lastEditedAt": None, "editor": None}
    editor = {"login": by.login.removesuffix("[bot]")}
    return {"body": comment.body, "lastEditedAt": iso(comment.updated_at_s), "editor": editor}


def _refused(message: str) -> Reply:
    """GraphQL says what is wrong with a query in a good answer."""
    body: Json = {"errors": [{"message": message}]}
    return Reply(body=body)
