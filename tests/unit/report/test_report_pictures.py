"""Pictures: labels that do not collide, maps of any model, scales that hold every value."""

import dataclasses
import itertools
import random
import re

import pytest

from quantale.report import documents, heat, labels, pareto, plots
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
    picture = plots.trade(report_data)["file size"]
    assert "var(--tie)" in picture
    assert "margin: +1\u00a0% perplexity" in picture
    untied = plots.trade(dataclasses.replace(report_data, ties=()))["file size"]
    assert "var(--tie)" not in untied


def test_a_picture_without_enough_to_draw_is_empty(report_data: ReportData) -> None:
    alone = dataclasses.replace(report_data, variants=report_data.variants[:1], training=())
    assert plots.trade(alone) == {}
    assert plots.by_document(alone) == ""
    assert plots.layer_errors(alone) == ""
    assert plots.training(alone) == ""


def test_the_trade_can_be_seen_by_time_memory_and_divergence(report_data: ReportData) -> None:
    views = plots.trade(report_data)
    assert list(views) == ["file size", "time a token", "peak memory", "size and divergence"]
    assert "ms per decoded token" in views["time a token"]
    assert "1.97\u00a0ms, +0.0031 bits per byte" in views["time a token"]
    assert "margin:" not in views["size and divergence"]
    assert "nats per token, on the front" in views["size and divergence"]
    untimed = dataclasses.replace(
        report_data,
        variants=tuple(dataclasses.replace(r, ms_per_token=None) for r in report_data.variants),
    )
    assert "time a token" not in plots.trade(untimed)


def test_paired_ties_are_of_the_loss_and_say_nothing_of_divergence(report_data: ReportData) -> None:
    view = next(one for one in pareto.VIEWS if not one.is_judged)
    found = {point.row.name: point for point in pareto.points(report_data, view)}
    tied = report_data.ties or ()
    assert ("gptq-w4", "gptq-w3-emb4") in tied
    assert not pareto.is_tie(report_data, found["gptq-w4"], found["gptq-w3-emb4"])


def test_every_document_is_a_point_and_the_description_counts_them(
    report_data: ReportData,
) -> None:
    row = VariantRow("q", "rtn", 1, documents=((1.0, 0.5), (1.2, -0.1), (0.9, 0.2), (1.1, 0.0)))
    data = dataclasses.replace(report_data, variants=(report_data.base_row, row))
    picture = documents.scatter(data, "d", 820)
    assert "q: 50\u00a0% of 4 documents worse, at most by 0.50 bits per byte." in picture
    path = max(re.findall(r'<path d="([^"]*)"', picture), key=lambda found: found.count("M"))
    assert path.count("M") == 4


def test_a_thousand_documents_stay_small(report_data: ReportData) -> None:
    noise = random.Random(0)
    many = tuple((noise.gauss(1, 0.1), noise.gauss(0, 0.01)) for _ in range(1000))
    rows = tuple(dataclasses.replace(r, documents=many) for r in report_data.others)
    data = dataclasses.replace(report_data, variants=(report_data.base_row, *rows))
    assert len(plots.by_document(data)) < 1_200_000
