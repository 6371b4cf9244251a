"""What `import quantale` offers is a promise: no name comes or goes unnoticed."""

import quantale

PUBLIC = ["__version__", "inspect", "load", "methods", "quantize", "save"]


def test_the_public_names_are_exactly_these() -> None:
    assert sorted(quantale.__all__) == PUBLIC
    assert dir(quantale) == PUBLIC


def test_every_public_name_is_there_when_it_is_used() -> None:
    assert [name for name in PUBLIC if getattr(quantale, name, None) is None] == []


def test_methods_are_found_by_their_class_names() -> None:
    assert {"Gptq", "Rtn"} <= set(dir(quantale.methods))
    assert quantale.methods.Gptq(bits=4, group_size=64).bits == 4
