"""Pictures: labels that do not collide, maps of any model, scales that hold every value."""

import dataclasses
import itertools
import random

import pytest

from quantale.report import heat, labels, plots
from quantale.report.model import ReportData, VariantRow
from quantale.report.numerals import share


@pytest.mark.parametrize("seed", range(5))
def test_ten_labels_in_a_picture_do_not_collide(seed: int) -> None:
    noise = random.Random(seed)
    room = labels.Box(0, 0, 800, 450)
    anchors = [(f"gptq-w{i}", noise.uniform(50, 700), noise.uniform(30, 420)) for i in range(10)]
    points = [labels.Box(x - 6, y - 6, x + 6, y + 6) for _, x, y in anchors]
    placed = labels.place(anchors, points, room, 12)
    boxes = [labels._box(label, 12) for label in placed]
    assert all(a.overlap(b) == 0 for a, b in itertools.combinations(boxes, 2))
    assert all(box.outside(room) == 0 for box in boxes)


def test_two_points_at_one_place_get_two_labels_beside_each_other() -> None:
    room = labels.Box(0, 0, 400, 300)
    first, second = labels.place([("aa", 200, 150), ("bb", 200, 150)], [], room, 12)
    assert (first.align, second.align) != (second.align, first.align) or first.y != second.y


@pytest.mark.parametrize(
    ("site", "place"),
    [
        ("transformer.h.3.mlp.c_fc", ("mlp.c_fc", 3)),
        ("model.layers.11.self_attn.q_proj", ("self_attn.q_proj", 11)),
        ("model.layers.2.experts.5.w1", ("experts.w1", 2)),
        ("transformer.wte", ("wte", 0)),
        ("lm_head", ("lm_head", 0)),
    ],
)
def test_a_site_has_its_place_on_the_map(site: str, place: tuple[str, int]) -> None:
    kind, block = heat.place_of(site)
    assert block == place[1]
    assert kind.split(".")[-1] == place[0].split(".")[-1]


def test_every_error_has_a_colour_and_larger_is_never_paler() -> None:
    row = VariantRow("v", "rtn", 1, layer_errors=tuple((f"h.{i}.x", 10.0**-i) for i in range(7)))
    scale = heat.scale_of([row])
    steps = [scale.step(error) for _, error in row.layer_errors]
    assert steps == sorted(steps, reverse=True)
    assert (steps[0], steps[-1]) == (8, 0)


def test_layers_without_any_error_still_make_a_map(report_data: ReportData) -> None:
    rows = tuple(
        dataclasses.replace(row, layer_errors=(("h.0.a", 0.0), ("h.1.a", 0.0)))
        for row in report_data.variants
    )
    picture = plots.layer_errors(dataclasses.replace(report_data, variants=rows))
    assert "var(--heat-0)" in picture
    assert f"typical {share(0.0)}" in picture


def test_the_size_quality_picture_marks_ties_and_margin(report_data: ReportData) -> None:
    picture = plots.size_quality(report_data)
    assert "var(--tie)" in picture
    assert "margin: +1\u00a0% perplexity" in picture
    untied = plots.size_quality(dataclasses.replace(report_data, ties=()))
    assert "var(--tie)" not in untied


def test_a_picture_without_enough_to_draw_is_empty(report_data: ReportData) -> None:
    alone = dataclasses.replace(report_data, variants=report_data.variants[:1], training=())
    assert plots.size_quality(alone) == ""
    assert plots.layer_errors(alone) == ""
    assert plots.training(alone) == ""
