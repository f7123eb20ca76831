"""Figures: in words, in one style, for pages and papers, and the same bytes from the same data."""

import itertools
import math
import re
from functools import cache, partial
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest

from humanline.analysis.figures import (
    capacity_frame,
    implied_capacity_frame,
    perceived_weight_frame,
)
from humanline.analysis.map import PREDICTORS, rank_correlations
from humanline.report import narrow, style
from humanline.report.plots import (
    plot_capacity,
    plot_implied_capacity,
    plot_learning_curves,
    plot_map,
    plot_perceived_weight,
)
from humanline.study.cells import Cell
from humanline.trainers.registry import OBJECTIVES


def cell(data: str = "online", **fields) -> Cell:
    return Cell(task="math_reasoning", objective="grpo", data=data, seed=1, **fields)


HUMANLINE = {"humanline": True, "sync_interval": 24, "log_eps_p": -1.5, "log_eps_r": 1.5}
TRAINED = [
    cell(sample_every=every, **options)
    for every in (1, 16, 64)
    for options in ({}, HUMANLINE)
    if every > 1 or not options
]
CELLS = {own.variant: own for own in TRAINED}
SOURCES = {"policy": cell("offline"), "better": cell(), "worse": cell().base}


@cache
def curves() -> pd.DataFrame:
    rows = [
        (variant, seed, step, 50.0, 50.0 + step, 45.0 + step, 55.0 + step)
        for variant in CELLS
        for seed in (1, 2)
        for step in (0, 8, 16)
    ]
    names = ["variant", "seed", "step", "pass_at_1", "mean", "low", "high"]
    return pd.DataFrame(rows, columns=names)


@cache
def implied() -> pd.DataFrame:
    """Two seeds of a policy, and of a model whose outputs the policy finds likelier."""
    frames = {}
    for seed in (1, 2):
        rng = np.random.default_rng(seed)
        frames[seed] = pd.concat(
            pd.DataFrame({"source": name, "surprisal": rng.normal(size=200) + (name == "better")})
            for name in ("policy", "on-policy", "better")
        )
    return implied_capacity_frame(frames)


@cache
def mapped() -> pd.DataFrame:
    rows = [
        {"variant": f"{objective}-offline-{method}-k{k}", "seed": 101, "objective": objective}
        | {"method": method, "share": k / 4}
        | dict.fromkeys(PREDICTORS, k)
        for objective in OBJECTIVES
        for method in ("plain", "humanline")
        for k in (1.0, 2.0, 3.0)
    ]
    return pd.DataFrame(rows)


def _map(frame, *paths):
    plot_map(frame, rank_correlations(frame), *paths, scale="smoke")


PLOTS = {
    "curves": (partial(plot_learning_curves, cells=CELLS, scale="smoke"), curves),
    "capacity": (plot_capacity, lambda: capacity_frame((0.5, 1.0))),
    "weight": (
        partial(plot_perceived_weight, scale="smoke"),
        lambda: perceived_weight_frame((-1.5, 1.5), (1, 10)),
    ),
    "implied": (partial(plot_implied_capacity, cells=SOURCES, scale="smoke"), implied),
    "map": (_map, mapped),
}


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """Every figure, once as SVG and once as PDF."""
    folder = tmp_path_factory.mktemp("figures") / "new"
    for name, (plot, frame) in PLOTS.items():
        plot(frame(), folder / f"{name}.svg", folder / f"{name}.pdf")
    return folder


def text_of(path) -> str:
    """All text of an SVG; lines of one label follow each other."""
    found = ElementTree.parse(path).iter("{http://www.w3.org/2000/svg}text")
    return " ".join(" ".join("".join(own.itertext()) for own in found).split())


@pytest.mark.parametrize("name", PLOTS)
def test_a_figure_is_an_svg_and_a_pdf_with_the_same_bytes_again(name, drawn, tmp_path):
    plot, frame = PLOTS[name]
    plot(frame(), tmp_path / "again.svg", tmp_path / "again.pdf")
    for suffix, start in {"svg": b"<?xml", "pdf": b"%PDF"}.items():
        first, again = drawn / f"{name}.{suffix}", tmp_path / f"again.{suffix}"
        assert first.read_bytes() == again.read_bytes()
        assert first.read_bytes().startswith(start)
        assert not re.search(rb"CreationDate|dc:date", first.read_bytes())
    plot(frame().iloc[: len(frame()) * 2 // 3], tmp_path / "again.svg")
    assert (tmp_path / "again.svg").read_bytes() != (drawn / f"{name}.svg").read_bytes()
    assert {path.name for path in tmp_path.iterdir()} == {"again.svg", "again.pdf"}
    width = float(ElementTree.parse(drawn / f"{name}.svg").getroot().get("viewBox").split()[2])
    assert width == pytest.approx(72 * style.WIDTH)


def test_legends_are_words_and_no_names_of_runs(drawn):
    text = text_of(drawn / "curves.svg")
    for words in (
        "online, sampled every step online,",
        "online, sampled every 16 steps online,",
        "online, sampled every 64 steps, with humanline",
        "Objective: GRPO. Synced: every 24 steps.",
        "Seeds: 2.",
        "Pass@1, %",
    ):
        assert words in text
    for own in ("curves", "implied", "map"):
        assert not re.search(r"grpo|clip-?1|every\d|-k\d", text_of(drawn / f"{own}.svg"))
    assert "offline GRPO with humanline" in text_of(drawn / "map.svg")
    assert "on-policy: offline GRPO. better: online GRPO." in text_of(drawn / "implied.svg")


def test_curves_of_different_numbers_of_seeds_say_theirs(tmp_path):
    frame = curves()
    fewer = frame[(frame["seed"] == 1) | (frame["variant"] != TRAINED[-1].variant)]
    PLOTS["curves"][0](fewer, tmp_path / "curves.svg")
    text = text_of(tmp_path / "curves.svg")
    assert "online, sampled every step (2 seeds)" in text
    assert "online, sampled every 64 steps, with humanline (1 seed)" in text
    assert "Seeds:" not in text


def test_a_cell_has_its_colour_in_every_figure(drawn):
    drawings = {name: (drawn / f"{name}.svg").read_text().upper() for name in PLOTS}
    for own in TRAINED:
        assert f"STROKE: {style.colour_of(own)}" in drawings["curves"]
    assert f"STROKE: {style.colour_of(SOURCES['better'])}" in drawings["implied"]
    assert style.colour_of(SOURCES["better"]) in drawings["curves"]
    assert f"STROKE: {style.colour_of(SOURCES['policy'])}" in drawings["implied"]
    assert style.colour_of(SOURCES["policy"]) in drawings["map"]


def test_distances_and_their_range_over_seeds_are_told(drawn, tmp_path):
    frame = implied()
    (plot, _), path = PLOTS["implied"], tmp_path / "one.svg"
    plot(frame[frame["seed"] == 1], path)
    two, one = text_of(drawn / "implied.svg"), text_of(path)
    for (part, name), rows in frame.groupby(["part", "source"]):
        by_seed = rows.groupby("seed")["distance"].first()
        low, high = by_seed.min(), by_seed.max()
        told = f"{by_seed.mean():.3f} [{low:.3f}, {high:.3f}]"
        before, after = (f"{name}: ", ";") if part == "gains" else ("; ", "")
        assert f"{before}{told}{after}" in two
        assert f"{before}{by_seed[1]:.3f}{after}" in one
    assert "human" in two and "the policy itself" in two
    assert "Numbers: distances to human, gains and losses: means [range over seeds]." in two


@pytest.mark.filterwarnings("error")
def test_a_policy_may_have_no_losses(tmp_path):
    frame = implied().copy()
    frame.loc[frame["part"] == "losses", ["implied", "distance"]] = np.nan
    PLOTS["implied"][0](frame, tmp_path / "gains.svg")
    assert "; none" in text_of(tmp_path / "gains.svg")


KINDS = [
    [
        style.a_cell(objective, data, humanline=humanline)
        for data in ("offline", "online")
        for humanline in (False, True)
    ]
    for objective in (*OBJECTIVES, "my.own_loss")
]


def linear(colour: str) -> np.ndarray:
    values = np.array([int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def test_kinds_of_cells_differ_in_colour_and_are_seen_on_white():
    colours = [style.colour_of(own) for kinds in KINDS for own in kinds]
    assert len(set(colours)) == len(colours)
    assert style.colour_of(cell(**HUMANLINE)) == style.colour_of(cell(sample_every=8, **HUMANLINE))
    ramp = [marks["color"] for marks in style.ramp(range(5))]
    for colour in (*colours, *ramp, style.colour_of(SOURCES["worse"]), style.AIM["color"]):
        luminance = linear(colour) @ [0.2126, 0.7152, 0.0722]
        assert 1.05 / (luminance + 0.05) >= 3, colour


# Machado, Oliveira and Fernandes (2009): what linear colours are without one kind of cones.
LACKING = {
    "red": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216],
            [-0.003882, -0.048116, 1.051998]],
    "green": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413],
              [-0.01182, 0.04294, 0.968881]],
    "blue": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602],
             [0.004733, 0.691367, 0.3039]],
}  # fmt: skip
# Of Oklab (Ottosson 2020), in which distances are about as they are seen.
CONES = [[0.41222147, 0.53633254, 0.05144599], [0.2119035, 0.6806995, 0.10739696],
         [0.08830246, 0.28171884, 0.6299787]]  # fmt: skip
LAB = [[0.21045426, 0.79361779, -0.00407205], [1.9779985, -2.4285922, 0.45059371],
       [0.02590404, 0.78277177, -0.80867577]]  # fmt: skip


@pytest.mark.parametrize("cones", LACKING)
def test_colour_blind_readers_can_tell_the_kinds_of_an_objective_apart(cones):
    def seen(own: Cell) -> np.ndarray:
        rgb = np.clip(np.array(LACKING[cones]) @ linear(style.colour_of(own)), 0, None)
        return np.array(LAB) @ np.cbrt(np.array(CONES) @ rgb)

    for kinds in KINDS[: len(OBJECTIVES)]:
        for one, other in itertools.combinations(kinds, 2):
            assert math.dist(seen(one), seen(other)) > 0.1


def test_cells_of_a_figure_have_different_marks():
    many = [*TRAINED, *(cell(sample_every=1, sync_interval=k, humanline=True) for k in range(1, 9))]
    found = style.marks_of(many)
    assert len({tuple(marks.values()) for marks in found}) == len(many)
    for own, marks in zip(many, found, strict=True):
        assert marks["color"] == style.colour_of(own)
        assert (marks["markerfacecolor"] != "white") == own.humanline


def test_headers_of_tables_have_the_units_of_figures():
    headers = [pair for view in narrow._VIEWS.values() for pair in view.items()]
    units = {unit for name, _ in headers if (unit := style.unit(name))}
    told = {name: tail for name, header in headers if (tail := header.rpartition(", ")[2]) in units}
    assert len(told) > 8
    assert told == {name: style.unit(name) for name in told}
    assert style.with_unit("Pass@1", "pass_at_1") == "Pass@1, %"
    assert style.with_unit("share", "share") == "share"
