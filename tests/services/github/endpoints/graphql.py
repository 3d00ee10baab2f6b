"""GraphQL, as far as it is asked: who the token speaks as, which it tells every kind of token."""

from __future__ import annotations

from tests.services.github.routing import Ask, Json, Problem, Reply, endpoint

_DOCS = "https://docs.github.com/graphql/guides/forming-calls-with-graphql#authenticating-with-graphql"
_VIEWER = "{viewer{login}}"


@endpoint("POST", "/graphql", account=True)
def graphql(ask: Ask) -> Reply:
    if ask.token.user is None:
        raise Problem(401, "This endpoint requires you to be authenticated.", docs=_DOCS)
    query = ask.body.get("query")
    if not isinstance(query, str):
        return _refused("A query attribute must be specified and must be a string.")
    if "".join(query.split()).removeprefix("query") != _VIEWER:
        return _refused(f"The stand-in answers {_VIEWER} alone")
    return Reply(body={"data": {"viewer": {"login": ask.user.login}}})


def _refused(message: str) -> Reply:
    """GraphQL says what is wrong with a query in a good answer."""
    body: Json = {"errors": [{"message": message}]}
    return Reply(body=body)
