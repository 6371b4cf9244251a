"""Profiles of a recipe: named changes, such as a size for a first look, written beside it.

A profile is a mapping laid over the recipe: sections are merged key by key, and everything else
(values, lists, null) takes the place of what was there. `--set` comes after it.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from quantale.core.errors import UsageError, nearest
from quantale.core.recipe_yaml import KeyPath

KEY = "profiles"
"""Where a recipe keeps them."""
_Places = dict[KeyPath, str]


def take_profiles(data: dict[str, Any], places: _Places) -> dict[str, tuple[Any, _Places]]:
    """Remove the profiles from a recipe's data; returns each with the places of its values.

    Raises UsageError where they are no mapping of names to mappings.
    """
    where = places.get((KEY,), "recipe")
    found = data.pop(KEY, {})
    if not isinstance(found, dict):
        raise UsageError(f"{where}: {KEY}: should be a mapping of names to changes")
    taken: dict[str, tuple[Any, _Places]] = {}
    for name, changes in found.items():
        if not isinstance(changes, dict):
            where = places.get((KEY, name), where)
            raise UsageError(f"{where}: {KEY}.{name}: should be a mapping of keys to values")
        own = {
            path[2:]: f"{place} (profile {name})"
            for path, place in places.items()
            if path[:2] == (KEY, name)
        }
        taken[name] = (changes, own)
    for path in [path for path in places if path[:1] == (KEY,)]:
        del places[path]
    return taken


def chosen_profile(
    profiles: Mapping[str, tuple[Any, _Places]], name: str
) -> tuple[dict[str, Any], _Places]:
    """Return the profile of this name; raises UsageError with the nearest one."""
    if name not in profiles:
        known = f"; there are {', '.join(profiles)}" if profiles else "; the recipe has none"
        raise UsageError(f"no profile named {name!r}{nearest(name, profiles) or known}")
    return profiles[name]


def lay_over(
    data: dict[str, Any], places: _Places, changes: Mapping[str, Any], own: _Places
) -> None:
    """Lay the changes of a profile over a recipe's data; both `data` and `places` are changed."""
    for path, value in _replaced(data, changes, ()):
        parent = data
        for part in path[:-1]:
            parent = parent[part]
        parent[path[-1]] = value
        for old in [known for known in places if known[: len(path)] == path]:
            del places[old]
        places.update({new: place for new, place in own.items() if new[: len(path)] == path})


def _replaced(
    below: Mapping[str, Any], changes: Mapping[str, Any], path: tuple[str, ...]
) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yield the path and the value of everything that is replaced as a whole."""
    for key, value in changes.items():
        known = below.get(key)
        if isinstance(value, dict) and isinstance(known, dict):
            yield from _replaced(known, value, (*path, key))
        else:
            yield (*path, key), value
