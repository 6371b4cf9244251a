"""The colours of the page, once for light and once for dark, as CSS variables.

Plots are drawn with stand-in colours, one per variable, and the stand-ins become `var(--name)` when
the picture is put into the page. One picture thus serves both themes.
"""

SERIES = 6
HEAT_STEPS = 9
COMPONENTS = ("linear", "embedding", "head", "norm", "other", "adapter", "metadata")

LIGHT = {
    "paper": "#fbfaf6",
    "raised": "#ffffff",
    "ink": "#1f1d1a",
    "muted": "#66615a",
    "faint": "#dedad1",
    "band": "#e8f1ec",
    "tie": "#d5d8d9",
    "mark": "#fbe3a6",
    "pass": "#1b6b43",
    "fail": "#a8321f",
    "unsure": "#7a5600",
    "series-0": "#1f1d1a",
    "series-1": "#c2541b",
    "series-2": "#0d7377",
    "series-3": "#6d4aa5",
    "series-4": "#2c67b0",
    "series-5": "#a3386c",
    "linear": "#0d7377",
    "embedding": "#d69a2d",
    "head": "#b4532a",
    "norm": "#6d4aa5",
    "other": "#8a857c",
    "adapter": "#a3386c",
    "metadata": "#c9c3b7",
    "heat-0": "#f6f1e4",
    "heat-1": "#f5e2bd",
    "heat-2": "#f3cd92",
    "heat-3": "#efb26b",
    "heat-4": "#e5924f",
    "heat-5": "#d3703f",
    "heat-6": "#b44f37",
    "heat-7": "#8c3433",
    "heat-8": "#5d1f2c",
}

DARK = {
    "paper": "#15171a",
    "raised": "#1c1f23",
    "ink": "#ece8df",
    "muted": "#a49f95",
    "faint": "#33373c",
    "band": "#1a2622",
    "tie": "#3c434a",
    "mark": "#6b4e0f",
    "pass": "#74cf9f",
    "fail": "#ff9680",
    "unsure": "#ecc364",
    "series-0": "#ece8df",
    "series-1": "#f39a63",
    "series-2": "#4fc3bf",
    "series-3": "#b79cf0",
    "series-4": "#7fb0f2",
    "series-5": "#ec8ab8",
    "linear": "#3aa6a4",
    "embedding": "#e0ae4e",
    "head": "#e07f51",
    "norm": "#a78be0",
    "other": "#8d8a84",
    "adapter": "#ec8ab8",
    "metadata": "#565a60",
    "heat-0": "#20242a",
    "heat-1": "#36262f",
    "heat-2": "#532a36",
    "heat-3": "#74313b",
    "heat-4": "#973f3d",
    "heat-5": "#b95640",
    "heat-6": "#d67648",
    "heat-7": "#eca25e",
    "heat-8": "#f9d79a",
}

_FIRST = 0xFA0500


def stand_in(name: str) -> str:
    """Return the colour that stands for the variable while a plot is drawn."""
    return f"#{_FIRST + list(LIGHT).index(name):06x}"


def stand_ins() -> dict[str, str]:
    """Return every stand-in with the CSS it becomes."""
    return {stand_in(name): f"var(--{name})" for name in LIGHT}


def declarations(theme: dict[str, str]) -> str:
    """Return a theme as CSS declarations."""
    return "".join(f"--{name}:{value};" for name, value in theme.items())


def heat_step(share: float) -> int:
    """Return the colour step of a share, 0 to HEAT_STEPS - 1."""
    return min(HEAT_STEPS - 1, int(share * HEAT_STEPS))


def ink_on(step: int) -> str:
    """Return the name of the ink that is read on a colour step."""
    return "paper" if step >= 5 else "ink"
