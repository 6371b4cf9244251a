"""Which site gets which method: rules by name, role and size; the first that fits decides.

A tied pair is one site: the name and the role of its head match it too. Norms and untied heads are
what nobody quantizes by accident, so a rule takes them only when it names them: by their role, or
by a pattern that ends in more than a bare `*` or `**`.
"""

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, get_args

from quantale.core.choices import Role
from quantale.core.errors import UsageError, nearest
from quantale.quant.apply import Method
from quantale.quant.globs import Glob
from quantale.quant.sites import Site

ROLES: Final[tuple[str, ...]] = get_args(Role)
_MUST_BE_NAMED: Final = ("norm", "head")
_SHOWN: Final = 4


@dataclass(frozen=True)
class Rule:
    """One line of a scheme; what is None does not restrict it."""

    method: Method | None
    """None leaves what the rule decides in full precision."""
    match: str | None = None
    """Pattern of dotted names, see quant/globs.py."""
    role: str | tuple[str, ...] | None = None
    """One role or several."""
    min_weights: int | None = None
    """Sites of at least this many weights."""
    max_weights: int | None = None
    """Sites of at most this many weights."""

    def __post_init__(self) -> None:
        if self.match is not None:
            Glob(self.match)
        for role in self.roles or ():
            if role not in ROLES:
                known = ", ".join(ROLES)
                raise UsageError(f"no role {role!r}; there are {known}{nearest(role, ROLES)}")

    @property
    def roles(self) -> tuple[str, ...] | None:
        """The roles as a tuple."""
        return (self.role,) if isinstance(self.role, str) else self.role

    def fits(self, site: Site) -> bool:
        """Say whether the rule may decide on a site."""
        return self._role_fits(site) and self._size_fits(site) and self._name_fits(site)

    def __str__(self) -> str:
        """Return the rule as errors name it."""
        words = [repr(self.match)] if self.match is not None else []
        if self.roles is not None:
            words.append(f"for role {' or '.join(self.roles)}")
        if self.min_weights is not None:
            words.append(f"from {self.min_weights:,} weights")
        if self.max_weights is not None:
            words.append(f"up to {self.max_weights:,} weights")
        return " ".join(["rule", *(words or ["for everything"])])

    def _role_fits(self, site: Site) -> bool:
        tied = ("head",) if site.tied is not None else ()
        return self.roles is None or not {site.role, *tied}.isdisjoint(self.roles)

    def _size_fits(self, site: Site) -> bool:
        weights = site.shape[0] * site.shape[1]
        above = self.min_weights is None or weights >= self.min_weights
        return above and (self.max_weights is None or weights <= self.max_weights)

    def _name_fits(self, site: Site) -> bool:
        named = self.roles is not None or site.role not in _MUST_BE_NAMED
        if self.match is None:
            return named
        glob = Glob(self.match)
        return any(glob.fits(name) if named else glob.names(name) for name in _names(site))


def plan(sites: Sequence[Site], rules: Iterable[Rule]) -> dict[str, Method]:
    """Return the method of every site that gets one, in the order of the sites.

    Raises UsageError for a rule that decides no site, and when nothing is left to quantize.
    """
    decided: dict[str, Rule] = {}
    for rule in rules:
        fitting = [site for site in sites if rule.fits(site)]
        if not fitting:
            raise UsageError(_no_site(rule, sites))
        fresh = [site for site in fitting if site.name not in decided]
        if not fresh:
            earlier = dict.fromkeys(str(decided[site.name]) for site in fitting)
            raise UsageError(
                f"{rule} decides no site: {', '.join(earlier)} came first for all it matches; "
                "move it up or drop it"
            )
        decided |= {site.name: rule for site in fresh}
    chosen = ((site.name, decided[site.name].method) for site in sites if site.name in decided)
    methods = {name: method for name, method in chosen if method is not None}
    if not methods:
        raise UsageError("all sites would stay in full precision: no rule gives one a method")
    return methods


def _names(site: Site) -> tuple[str, ...]:
    return (site.name,) if site.tied is None else (site.name, site.tied)


def _no_site(rule: Rule, sites: Sequence[Site]) -> str:
    """Say what the model has instead, and how the rule may have been meant."""
    shown = [_shown(rule, site) for site in _near(rule, sites)[:_SHOWN]]
    there = ", ".join(shown) or "none that can be quantized"
    rest = ", ..." if len(sites) > len(shown) else ""
    return f"{rule} matches no site; the model has {there}{rest}{_hint(rule, sites)}"


def _near(rule: Rule, sites: Sequence[Site]) -> Sequence[Site]:
    """Return the sites that fit a rule in part or in spelling; else one of every role."""
    if rule.match is None:
        of_role = [site for site in sites if rule.roles and site.role in rule.roles]
        return of_role or list({site.role: site for site in reversed(sites)}.values())[::-1]
    glob = Glob(rule.match)
    matching = [site for site in sites if any(map(glob.fits, _names(site)))]
    names = [name for site in sites for name in _names(site)]
    close = set(difflib.get_close_matches(rule.match, names, n=_SHOWN, cutoff=0.0))
    return matching or [site for site in sites if not close.isdisjoint(_names(site))]


def _shown(rule: Rule, site: Site) -> str:
    """Return a site's name with what the rule asks of it."""
    sized = rule.min_weights is not None or rule.max_weights is not None
    facts = [site.role] if rule.roles is not None or site.role in _MUST_BE_NAMED else []
    facts += [f"{site.shape[0] * site.shape[1]:,} weights"] if sized else []
    return f"{site.name} ({', '.join(facts)})" if facts else site.name


def _hint(rule: Rule, sites: Sequence[Site]) -> str:
    if rule.match is None:
        return ""
    if rule.roles is None and any(Rule(None, rule.match, ROLES).fits(site) for site in sites):
        sized = rule.min_weights is not None or rule.max_weights is not None
        return "" if sized else "; norms and untied heads must be named: give their role too"
    longer = f"**.{rule.match}"
    if any(Rule(None, longer, ROLES).fits(site) for site in sites):
        return f"; did you mean {longer!r}?"
    return ""
