"""The sessions of a store and which of them are children of others."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import Protocol, TypeVar


class Member(Protocol):
    """The part of a session that its family uses."""

    @property
    def id(self) -> str:
        """The id of the session."""

    @property
    def parent_id(self) -> str | None:
        """The id of its parent."""


View = TypeVar("View", bound=Member)


class Family(dict[str, View]):
    """Sessions by id, with an index of their children."""

    def __init__(self) -> None:
        super().__init__()
        self._children: defaultdict[str, dict[str, None]] = defaultdict(dict)

    def add_child(self, parent: str, child: str) -> None:
        """Note that a session is a child; neither of the two has to be there yet."""
        self._children[parent][child] = None

    def children_of(self, session: str) -> list[View]:
        """Return the children of a session, in the order in which they were read."""
        return [self[child] for child in self._children.get(session, ()) if child in self]

    def descendants_of(self, session: str) -> list[View]:
        """Return the children of a session, their children, and so on."""
        return [self[name] for name in self._below(session) if name != session]

    def related_to(self, session: str) -> Family[View]:
        """Return the part of the family that is connected to a session."""
        root, above = session, {session}
        while (parent := self[root].parent_id) in self and parent not in above:
            root = str(parent)
            above.add(root)
        related: Family[View] = Family()
        for name in self._below(root):
            related[name] = self[name]
            related._children[name].update(self._children.get(name, {}))
        return related

    def _below(self, root: str) -> Iterator[str]:
        """Yield a session and its descendants, each once, also if parents form a circle."""
        waiting, seen = [root], {root}
        for name in waiting:
            yield name
            new = [child.id for child in self.children_of(name) if child.id not in seen]
            seen.update(new)
            waiting += new
