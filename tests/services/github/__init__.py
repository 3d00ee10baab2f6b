"""A stand-in for GitHub: its REST API, its git over HTTP, its uploads and downloads, on 127.0.0.1.

In a test:

    def test_something(github: GitHub) -> None:
        repo = github.repository("lab/mnist", {"train.yml": "…"})          # or a folder
        repo.grant("ann", "write")
        sha = repo.push("lr", {"train.py": "…"}, by="ann")
        pull = repo.pull("lr", by="ann")                                  # of=repo.fork("eve") for one from a fork
        comment = repo.comment(pull.number, "/train", by="ann")
        … the product with repo.environ() in its environment …
        assert repo.checks(sha)[0].conclusion == "success"

`github.url` serves the API (also below /api/v3, as GitHub Enterprise does) and git at `url`/OWNER/NAME.git. All is
forgotten at the end of the test. Each request and each answer is held against GitHub's OpenAPI description; the test
fails with what does not fit (`github.violations`; `github.forgive(expression)` where a wrong request is the point).

- Accounts and tokens: `user`, `actions_token` (GITHUB_TOKEN), `personal_token`, `app` (a GitHub App); `permit` takes
  permissions away, `expire` refuses a token from then on.
- Time: `github.at(now_s)` stops the clock; `at_s=` of `push`, `comment`, … sets one moment.
- Trouble: `fault`, `exhaust` (the primary limit), `outage`.
- Afterwards: `calls`, `api_calls`, and the records: `repo.checks()`, `.comments(n)`, `.releases()`, `.tags`.

Modules: server (what tests call) - app (a request's way) - routing, endpoints/ (one module a noun) - shapes (JSON) -
state (what is remembered) - git, smart_http - openapi (validation) - faults. `python -m tests.services.github --folder
DIR` runs one by hand.
"""

from tests.services.github.server import GitHub, Repository

__all__ = ["GitHub", "Repository"]
