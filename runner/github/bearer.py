"""Who we are -> what stands in Authorization."""

from __future__ import annotations

from github.Auth import AppAuth, Auth
from jwt import InvalidKeyError

from runner.errors import GitHubDenied
from runner.github.identity import App


class Bearer(Auth):
    """What stands in Authorization; PyGithub masks it in its logs."""

    def __init__(self, token_type: str, value: str) -> None:
        self._token_type = token_type
        self.value = value

    @property
    def token_type(self) -> str:
        """`token`, or `Bearer` for what an App signed."""
        return self._token_type

    @property
    def token(self) -> str:
        """The secret."""
        return self.value


def signature(app: App) -> str:
    """Returns what an App proves itself with, for five minutes; raises GitHubDenied for what is no private key."""
    try:
        return AppAuth(app.id, app.private_key).create_jwt()
    except (InvalidKeyError, ValueError) as error:
        raise GitHubDenied(
            "the private key of the GitHub App cannot be read",
            tip="PUSHTRAIN_APP_PRIVATE_KEY is the whole content of the .pem file that GitHub gave",
        ) from error
