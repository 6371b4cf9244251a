"""Load a recipe by name or path, apply `--set`, and know where each value came from.

Every fault is one `UsageError` that names the file and line (or the `--set`), the key, and
the nearest name: `mine.yaml:12: variants[2].methd: unknown key; did you mean 'method'?`
"""

import copy
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from quantale.core import recipe_yaml
from quantale.core.errors import UsageError, nearest
from quantale.core.recipe import Recipe
from quantale.core.recipe_base import Section
from quantale.core.recipe_errors import explain, section_fields
from quantale.core.recipe_profiles import KEY, chosen_profile, lay_over, take_profiles
from quantale.core.recipe_sweep import ORIGIN, expand
from quantale.core.recipe_variants import RuleSection
from quantale.core.recipe_yaml import KeyPath
from quantale.core.registry import METHODS, PROTOCOLS, ROUTES

_SET = "--set"
Places = Mapping[KeyPath, str]


@dataclass(frozen=True)
class ResolvedRecipe:
    """A checked recipe, ready to run."""

    recipe: Recipe
    origins: Mapping[str, str]
    """Dotted key, as `--set` takes it, to "default", "--set", "recipe FILE:LINE" or "sweep ..."."""
    source: str
    """Name or path that was asked for."""
    profile: str | None = None
    """The profile that was laid over it."""


@dataclass(frozen=True)
class Draft:
    """Recipe data before it is checked; mutated by `--set`."""

    data: dict[str, Any]
    places: dict[KeyPath, str]
    """Where each value was written: "mine.yaml:12", "--set train.steps=3"."""


def recipe_names() -> tuple[str, ...]:
    """Return the names of the shipped recipes."""
    files = resources.files("quantale.recipes").iterdir()
    return tuple(sorted(f.name.removesuffix(".yaml") for f in files if f.name.endswith(".yaml")))


def recipe_text(name: str) -> str:
    """Return a shipped recipe as it is written, comments included."""
    names = recipe_names()
    if name not in names:
        hint = nearest(name, names) or f"; there are {', '.join(names)}"
        raise UsageError(f"no recipe named {name!r}{hint}")
    return (resources.files("quantale.recipes") / f"{name}.yaml").read_text(encoding="utf-8")


def recipe_description(name: str) -> str:
    """Return what a shipped recipe says of itself, from its first paragraph alone: it is quick."""
    head, _, _ = recipe_text(name).partition("\n\n")
    data, _ = recipe_yaml.parse(head, lambda line: f"{name}.yaml:{line}")
    return str(data["description"])


def recipe_profiles(name: str) -> tuple[str, ...]:
    """Return the names of a shipped recipe's profiles, from their lines alone: it is quick."""
    _, _, tail = f"\n{recipe_text(name)}".partition(f"\n{KEY}:")
    block = re.split(r"\n(?=\w)", tail, maxsplit=1)[0]
    return tuple(re.findall(r"\n  ([\w-]+):", block))


def load_recipe(
    name_or_path: str, sets: Sequence[str] = (), profile: str | None = None
) -> ResolvedRecipe:
    """Read a shipped recipe or a YAML file, lay a profile over it, apply `sets` ("a.b=c"), check.

    Profiles that were not asked for are checked as well.
    """
    text, label = _read(name_or_path)
    data, places = recipe_yaml.parse(text, lambda line: f"{label}:{line}")
    if not isinstance(data, dict):
        raise UsageError(f"{label}:1: a recipe is a mapping of keys to values")
    profiles = take_profiles(data, places)
    chosen = None if profile is None else chosen_profile(profiles, profile)
    for changes, own in profiles.values():
        draft = Draft(copy.deepcopy(data), dict(places))
        lay_over(draft.data, draft.places, changes, own)
        resolve(draft, (), name_or_path)
    if chosen is not None:
        lay_over(data, places, *chosen)
    return replace(resolve(Draft(data, places), sets, name_or_path), profile=profile)


def resolve(draft: Draft, sets: Sequence[str], source: str) -> ResolvedRecipe:
    """Apply `sets` to a draft and check it; `source` names it."""
    for assignment in sets:
        _assign(draft, assignment)
    expand(draft.data, draft.places)
    try:
        # JSON mode: strict, yet a list is accepted for a tuple.
        recipe = Recipe.model_validate_json(json.dumps(draft.data))
    except ValidationError as error:
        raise UsageError(explain(error, draft.data, draft.places)) from error
    _check_names(recipe, draft.places)
    return ResolvedRecipe(recipe, dict(_origins(recipe, draft.places)), source)


def load_rules(path: Path) -> tuple[RuleSection, ...]:
    """Read a YAML file that is a list of rules; raises UsageError with file and line."""
    text, label = _read_file(path, "rules")
    data, found = recipe_yaml.parse(text, lambda line: f"{label}:{line}")
    if not isinstance(data, list) or not data:
        raise UsageError(f"{label}:1: should be a list of rules, each a mapping")
    whole = {"rules": data}
    places: dict[KeyPath, str] = {("rules", *key): place for key, place in found.items()}
    try:
        read = _RulesFile.model_validate_json(json.dumps(whole))
    except ValidationError as error:
        raise UsageError(explain(error, whole, places, _RulesFile)) from error
    check_rules(read.rules, ("rules",), places)
    return read.rules


class _RulesFile(Section):
    rules: tuple[RuleSection, ...]


def dump(recipe: Recipe) -> str:
    """Return a recipe as YAML, defaults included; loading it gives an equal recipe."""
    return recipe_yaml.dump(recipe.model_dump(mode="json"))


def parse_assignment(assignment: str) -> tuple[str, Any]:
    """Split "key=value" and type the value as YAML does."""
    key, equals, text = assignment.partition("=")
    if not equals or not key.strip():
        raise UsageError(f"{_SET} {assignment}: should be key=value")
    value, _ = recipe_yaml.parse(text, lambda _line: f"{_SET} {assignment}")
    return key.strip(), value


def _read(name_or_path: str) -> tuple[str, str]:
    path = Path(name_or_path)
    looks_like_path = path.suffix in {".yaml", ".yml"} or "/" in name_or_path
    if not looks_like_path and (name_or_path in recipe_names() or not path.is_file()):
        return recipe_text(name_or_path), f"{name_or_path}.yaml"
    return _read_file(path, "recipe")


def _read_file(path: Path, kind: str) -> tuple[str, str]:
    try:
        return path.read_text(encoding="utf-8"), str(path)
    except FileNotFoundError as error:
        raise UsageError(f"no {kind} file {path}") from error
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read {kind} {path}: {error}") from error


def _assign(draft: Draft, assignment: str) -> None:
    dotted, value = parse_assignment(assignment)
    path = tuple(int(part) if part.isdecimal() else part for part in dotted.split("."))
    label = f"{_SET} {assignment}"
    if isinstance(value, str) and "source" in section_fields(path):
        path = (*path, "source")
    parent: Any = draft.data
    for depth in range(len(path) - 1):
        parent = _child(draft, parent, path[: depth + 1], label)
    _check_container(parent, path[:-1], path[-1], label)
    parent[path[-1]] = value
    for old in [known for known in draft.places if known[: len(path)] == path]:
        del draft.places[old]
    for new in recipe_yaml.paths(value, path):
        draft.places[new] = label


def _child(draft: Draft, parent: Any, path: KeyPath, label: str) -> Any:
    """Return what `parent` holds at `path`; a section that is absent or null begins empty."""
    part = path[-1]
    _check_container(parent, path[:-1], part, label)
    if isinstance(parent, dict) and parent.get(str(part)) is None:
        parent[str(part)] = {}
        draft.places[path] = label
    return parent[part]


def _check_container(parent: Any, above: KeyPath, part: str | int, label: str) -> None:
    where = recipe_yaml.show(above)
    if isinstance(parent, dict):
        if isinstance(part, int):
            raise UsageError(
                f"{label}: {where or 'the recipe'} is no list in the file: set it whole"
            )
        return
    if not isinstance(parent, list):
        raise UsageError(f"{label}: {where} is a single value, it has no {part!r}")
    if not isinstance(part, int) or part >= len(parent):
        raise UsageError(
            f"{label}: {where} is a list of {len(parent)}: "
            f"take a number below {len(parent)}, not {part!r}"
        )


def _check_names(recipe: Recipe, places: Places) -> None:
    for index, variant in enumerate(recipe.variants):
        path: KeyPath = ("variants", index)
        for key in ("method", "embedding_method", "head_method"):
            _check_method(getattr(variant, key), (*path, key), places)
        check_rules(variant.rules, (*path, "rules"), places)
    protocol = recipe.evaluate.protocol.partition(":")[0]
    _check_name(protocol, PROTOCOLS.names(), ("evaluate", "protocol"), places)
    asked = recipe.evaluate.classification
    if asked is not None:
        path = ("evaluate", "classification", "route")
        _check_name(asked.route, ROUTES.names(), path, places)


def check_rules(rules: Sequence[RuleSection], path: KeyPath, places: Places) -> None:
    """Raise UsageError for a rule at `path` whose method does not exist."""
    for index, rule in enumerate(rules):
        _check_method(rule.plugin, (*path, index, "method"), places)


def _check_method(name: str | None, path: KeyPath, places: Places) -> None:
    if name is not None:
        _check_name(name, METHODS.names(), path, places)


def _check_name(name: str, names: tuple[str, ...], path: KeyPath, places: Places) -> None:
    if name not in names:
        hint = nearest(name, names) or f"; there are {', '.join(names)}"
        kind = str(path[-1]).rpartition("_")[2]
        where = f"{places[path]}: {recipe_yaml.show(path)}"
        raise UsageError(f"{where}: no {kind} named {name!r}{hint}")


def _origins(recipe: Recipe, places: Places) -> Iterator[tuple[str, str]]:
    for path in _leaves(recipe.model_dump(mode="json"), ()):
        place = places.get(path, "default")
        if place.startswith(_SET):
            place = _SET
        elif path in places and not place.startswith(ORIGIN):
            place = f"recipe {place}"
        yield ".".join(map(str, path)), place


def _leaves(value: Any, path: KeyPath) -> Iterator[KeyPath]:
    """Yield the paths of values; a list of plain values is one value."""
    items = recipe_yaml.items(value)
    if not items or (isinstance(value, list) and not isinstance(value[0], dict)):
        yield path
        return
    for key, item in items:
        yield from _leaves(item, (*path, key))
