"""The stand-in tells every kind of token whose it is, by GraphQL."""

from __future__ import annotations

from typing import Any

import pytest
import requests

from runner.github import client, people
from tests.github.ours import connected, ours
from tests.services.github import GitHub

VIEWER = {"query": "{viewer{login}}"}


def ask(github: GitHub, token: str, body: object = VIEWER, *, path: str = "/graphql") -> requests.Response:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    return requests.post(github.url + path, headers=headers, json=body, timeout=10)


def app_token(github: GitHub) -> str:
    """Of an App whose key we do not have: somebody else made the token and handed it on."""
    app = github.app("trainer", "lab/mnist")
    auth = client.App(id=str(app.id), private_key=app.private_key)
    return ours(github, auth=auth).repository.token()


def test_each_kind_of_token_is_told_its_login(github: GitHub) -> None:
    tokens = {
        "github-actions[bot]": github.actions_token(permissions={"contents": "read"}),
        "ann": github.personal_token("ann"),
        "trainer[bot]": app_token(github),
    }
    for login, token in tokens.items():
        for path in ("/graphql", "/api/graphql"):
            answer = ask(github, token, path=path)
            assert (answer.status_code, answer.json()) == (200, {"data": {"viewer": {"login": login}}})


@pytest.mark.parametrize(
    ("token", "message"), [("", "requires you to be authenticated"), ("x", "Bad credentials")]
)
def test_without_a_good_token_nothing_is_told(github: GitHub, token: str, message: str) -> None:
    answer = ask(github, token)
    assert answer.status_code == 401
    assert message in answer.json()["message"]


@pytest.mark.parametrize(
    "body", [{}, {"query": 1}, {"query": "{viewer{email}}"}, {"query": "{viewer{login}"}]
)
def test_a_query_that_is_wrong_is_refused_in_a_good_answer(github: GitHub, body: dict[str, Any]) -> None:
    answer = ask(github, github.token, body)
    assert answer.status_code == 200
    assert list(answer.json()) == ["errors"]


@pytest.mark.parametrize("api", ["", "/api/v3"])
def test_the_token_of_an_app_that_somebody_else_made_is_told_whose_it_is(github: GitHub, api: str) -> None:
    auth = client.Token(value=app_token(github))
    repository = connected(github, auth=auth, api=api)
    assert people.our_login(repository) == "trainer[bot]"
    assert people.our_login(repository) == "trainer[bot]"
    assert repository.calls == len(github.api_calls("POST", "/graphql$")) == 1
