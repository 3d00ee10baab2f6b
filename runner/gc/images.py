"""This machine's Docker -> the images of environments that no run used lately."""

from __future__ import annotations

import json
from datetime import datetime
from typing import TYPE_CHECKING, Any

from runner.environment import LABEL
from runner.environment.client import Refused, ask, is_absent
from runner.environment.image import IN_REGISTRY, ISOLATED, LOCAL
from runner.errors import EngineError
from runner.gc.shelf import Found, Looked, Removed

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from runner.gc.needs import Needs


class Images:
    """Images that `pushtrain` built, by their tags. Sizes count layers that images share for each of them."""

    kind = "image"

    def __init__(self, needs: Needs, *, older_than_s: float) -> None:
        self._needs, self._older_than_s = needs, older_than_s

    def look(self) -> Looked:
        """See Shelf.look; passed over where Docker does not answer."""
        try:
            named = ask("image", "ls", "--quiet", "--no-trunc", "--filter", f"label={LABEL}")
            images = [_inspect(each) for each in sorted(set(named.split()))]
        except EngineError as error:
            return Looked(note=str(error))
        return Looked(found=tuple(found for image in images if image for found in self._found(image)))

    def remove(self, chosen: Sequence[Found]) -> Iterator[Removed]:
        """See Shelf.remove; Docker keeps an image that a container uses."""
        for found in chosen:
            try:
                ask("image", "rm", found.name)
            except Refused as refused:
                yield Removed(
                    found=found, kept="somebody else removed it" if is_absent(refused) else str(refused)
                )
            else:
                yield Removed(found=found)

    def _found(self, image: dict[str, Any]) -> Iterator[Found]:
        key = image["Config"]["Labels"][LABEL]
        size_bytes = int(image["Size"])
        times = (image.get("Created"), (image.get("Metadata") or {}).get("LastTagTime"))
        made_s = max(datetime.fromisoformat(time).timestamp() for time in times if time)
        for tag in image["RepoTags"] or ():
            if not _is_ours(tag, key):
                continue
            yield Found(
                kind=self.kind,
                name=tag,
                size_bytes=size_bytes,
                used_at_s=max(made_s, self._needs.used_at_s.get(tag, 0.0)),
                rests_s=self._older_than_s,
                needed=key in self._needs.environments,
            )
            size_bytes = 0  # A second name takes no room.


def _is_ours(tag: str, key: str) -> bool:
    """An image that was made FROM one of ours has its label too, and is not ours."""
    return tag == f"{LOCAL}:{key}" or tag.endswith(f"/{IN_REGISTRY}:{key}") or tag.startswith(f"{ISOLATED}:")


def _inspect(name: str) -> dict[str, Any] | None:
    try:
        return dict(json.loads(ask("image", "inspect", name))[0])
    except Refused as refused:
        if is_absent(refused):
            return None
        raise
