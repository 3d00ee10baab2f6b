"""train.yml -> where in it an item of `environment` stands, for messages that point to a line."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from runner.errors import SpecError

if TYPE_CHECKING:
    from runner.document import Document


@dataclass(frozen=True, kw_only=True)
class Origin:
    """A line of the recipe and where the user wrote it, such as `train.yml:9` or `requirements.txt:3`."""

    line: str
    where: str


@dataclass(frozen=True, kw_only=True)
class Positions:
    """The places of train.yml; without a readable file the dotted key stands for the line."""

    train_file: str
    document: Document | None

    @classmethod
    def of(cls, folder: Path, train_file: str) -> Positions:
        """The places of `folder/train_file`."""
        from runner import document

        try:
            return cls(train_file=train_file, document=document.read(folder / train_file))
        except SpecError:  # it was read from elsewhere, such as another commit
            return cls(train_file=train_file, document=None)

    def at(self, key: str) -> str:
        """`train.yml:LINE` of `environment.KEY`."""
        dotted = f"environment.{key}"
        if self.document is None:
            return f"{self.train_file}: {dotted}"
        return f"{self.train_file}:{self.document.position(dotted)[0]}"
