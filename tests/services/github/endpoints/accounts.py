"""Who asks, with which token, and how often it may still."""

from __future__ import annotations

from tests.services.github.routing import Ask, Problem, Reply, absent, endpoint
from tests.services.github.state import App, Repo, Token, World, secret


@endpoint("GET", "/user", account=True)
def me(ask: Ask) -> Reply:
    if ask.token.kind == "none":
        raise Problem(401, "Requires authentication")
    if ask.token.kind != "personal":
        raise Problem(403, "Resource not accessible by integration")
    return Reply(body=ask.shapes.public_user(ask.user))


@endpoint("GET", "/users/{username}")
def user(ask: Ask, username: str) -> Reply:
    found = ask.world.find_user(username)
    if found is None:
        raise absent()
    return Reply(body=ask.shapes.public_user(found))


@endpoint("GET", "/rate_limit")
def rate_limit(ask: Ask) -> Reply:
    token = ask.token
    core = {
        "limit": token.limit,
        "used": token.used,
        "remaining": max(0, token.limit - token.used),
        "reset": int(token.reset_at_s),
    }
    return Reply(body={"resources": {"core": core, "search": core}, "rate": core})


def _app(ask: Ask) -> App:
    """The app whose signed token (JWT) came with the request."""
    import jwt

    given = ask.request.headers.get("Authorization", "").partition(" ")[2]
    problem = Problem(401, "A JSON web token could not be decoded")
    try:
        app = ask.world.apps[int(jwt.decode(given, options={"verify_signature": False})["iss"])]
        claims = jwt.decode(given, app.public_key, algorithms=["RS256"], options={"verify_iat": False})
    except jwt.ExpiredSignatureError as error:
        raise Problem(
            401, "'Expiration time' claim ('exp') must be a numeric value representing the future time"
        ) from error
    except (jwt.InvalidTokenError, KeyError, ValueError) as error:
        raise problem from error
    if claims["exp"] - claims["iat"] > 660:
        raise Problem(401, "'Expiration time' claim ('exp') is too far in the future")
    return app


@endpoint("GET", "/app", account=True)
def app(ask: Ask) -> Reply:
    return Reply(body=ask.shapes.app(_app(ask)))


@endpoint("GET", "/app/installations/{installation_id}", account=True)
def installation(ask: Ask, installation_id: int) -> Reply:
    found = _app(ask)
    if found.installation != installation_id:
        raise absent()
    return Reply(body=ask.shapes.installation(found))


@endpoint("GET", "/repos/{owner}/{repo}/installation", account=True)
def installation_of(ask: Ask, owner: str, repo: str) -> Reply:
    found = _app(ask)
    known = ask.world.repository(f"{owner}/{repo}")
    if known is None or known.full_name not in found.installed:
        raise absent()
    return Reply(body=ask.shapes.installation(found))


@endpoint("POST", "/app/installations/{installation_id}/access_tokens", account=True)
def access_token(ask: Ask, installation_id: int) -> Reply:
    found = _app(ask)
    if found.installation != installation_id:
        raise absent()
    names = ask.body.get("repositories")
    chosen = [repo for repo in _repositories(ask.world, found) if names is None or repo.name in names]
    if names is not None and len(chosen) != len(names):
        raise Problem(422, "There is at least one repository that does not exist or is not accessible")
    permissions = ask.body.get("permissions") or found.permissions
    if any(found.permissions.get(name) not in (level, "write") for name, level in permissions.items()):
        raise Problem(422, "The permissions requested are not granted to this installation.")
    token = ask.world.add_token(
        Token(
            value=secret("ghs_"),
            kind="app",
            user=found.bot,
            app=found,
            permissions={"metadata": "read", **permissions},
            repositories={repo.full_name for repo in chosen},
            limit=5000,
            expires_at_s=ask.world.now_s + found.lifetime_s,
        )
    )
    return Reply(status=201, body=ask.shapes.access_token(token, chosen))


def _repositories(world: World, app: App) -> list[Repo]:
    return [repo for repo in world.repositories.values() if repo.full_name in app.installed]
