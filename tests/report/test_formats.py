"""How tables look in files."""

import json

import numpy as np
import pandas as pd
import pytest

from humanline.report.escapes import latex_text, markdown_text
from humanline.report.formats import (
    Narrow,
    figure,
    latex,
    markdown,
    p_text,
    pipe_table,
    write_table,
)

TABLE = pd.DataFrame(
    {
        "objective": ["base", "dpo"],
        "humanline": [False, True],
        "k": pd.array([None, 4], dtype="Int64"),
        "length_controlled_win_rate": [41.0, 54.3],
        "length_controlled_win_rate_se": [2.0, 2.1],
        "length_controlled_win_rate_low": [37.2, 50.12],
        "length_controlled_win_rate_high": [45.1, 1 / 0.017],
        "p_beats_offline": [0.0004, 0.5],
        "variant": ["base", "x_5%"],
    }
)
SHOWN = Narrow(
    "Rates & more, in %.",
    pd.DataFrame(
        {
            "Run": ["base model", "offline DPO"],
            "LC win rate, %": ["41.0 [37.2, 45.1]", "54.3 [50.1, 58.8]"],
            "p": ["<0.001", "0.50"],
        }
    ),
    constant={"Seeds": "10", "Share": "5%"},
    best=frozenset({(1, "LC win rate, %")}),
    notes=("A note_1.", "And another."),
    texts=frozenset({"Run"}),
)
MARKDOWN = """\
Rates & more, in %.

Seeds: 10. Share: 5%.

| Run         | LC win rate, %        | p      |
|:------------|:----------------------|:-------|
| base model  | 41.0 [37.2,~45.1]     | <0.001 |
| offline DPO | **54.3** [50.1,~58.8] | 0.50   |

- A note_1.
- And another.
- All columns: [rates.csv](rates.csv).
""".replace("~", "\N{NO-BREAK SPACE}")  # a line of a narrow screen does not end within an interval
LATEX = r"""% Needs the packages booktabs and tabularx.
\begin{table}
\centering
\caption{Rates \& more, in \%.}
\label{tab:rates}
\medskip
\footnotesize
\setlength{\tabcolsep}{3pt}
\parbox{\linewidth}{Seeds: 10; Share: 5\%.}\\[3pt]
\begin{tabularx}{\linewidth}{@{}>{\raggedright\arraybackslash}Xll@{}}
\toprule
Run & LC win rate, \% & p \\
\midrule
base model & 41.0 [37.2, 45.1] & $<$0.001 \\
offline DPO & \textbf{54.3} [50.1, 58.8] & 0.50 \\
\bottomrule
\end{tabularx}
\\[3pt]\parbox{\linewidth}{A note\_1. And another.}
\end{table}
"""


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "tables"
    write_table(TABLE, SHOWN, folder, "rates", provenance={"git": "abc"})
    return folder


def test_a_table_is_four_files_and_two_seals_and_leaves_no_other(folder):
    names = {"rates.csv", "rates.md", "rates.tex", "rates.provenance.json"}
    names |= {".rates.csv.seal", ".rates.provenance.json.seal"}
    assert {file.name for file in folder.iterdir()} == names
    assert json.loads((folder / "rates.provenance.json").read_text()) == {"git": "abc"}


def test_csv_keeps_all_digits(folder):
    read = pd.read_csv(folder / "rates.csv", dtype={"k": "Int64"})
    pd.testing.assert_frame_equal(read, TABLE, check_exact=True)


def test_markdown(folder):
    assert (folder / "rates.md").read_text(encoding="utf-8") == MARKDOWN


def test_latex(folder):
    assert (folder / "rates.tex").read_text(encoding="utf-8") == LATEX


@pytest.mark.parametrize(
    ("text", "in_markdown"),
    [
        ("a | b\nnew *x* <b>", r"a \| b new \*x\* \<b>"),
        ("`_x_` &amp; [y](z) ~w~ \\", r"\`\_x\_\` \&amp; [y\](z) \~w\~ \\"),
        ("a_b < 1.0 [-0.5, 2.0] & <0.001, 5 > 3", "a_b < 1.0 [-0.5, 2.0] & <0.001, 5 > 3"),
    ],
)
def test_markdown_shows_a_text_as_it_was_written(text, in_markdown):
    assert markdown_text(text) == in_markdown


def test_a_cell_is_one_cell_of_markdown():
    rows = pd.DataFrame({"Run": ["a | b\n\nc <i>"], "Score": ["1.0 [0.5, 2.0]"]})
    for lines in (
        pipe_table(rows),
        markdown(Narrow("Of *own* runs.\n\nTwo.", rows, best=frozenset({(0, "Score")})), "x.csv"),
    ):
        (row,) = [line for line in lines.splitlines() if line.startswith("| a")]
        assert r"a \| b c \<i> |" in row and row.count("|") == 4
    assert (
        r"Of \*own\* runs. Two." in lines and "**1.0** [0.5" in lines and "[x.csv](x.csv)" in lines
    )


@pytest.mark.parametrize(
    ("text", "in_latex"),
    [
        ("100 % of a_b & #1 $5 {x}", r"100~\% of a\_b \& \#1 \$5 \{x\}"),
        (
            "\u03bc \xb5 \u03bb \u03a3 \u2265 \xd7",
            r"$\mu$ $\mu$ $\lambda$ $\Sigma$ $\geq$ $\times$",
        ),
        ("x\xb2 CO\u2082 \xbd", "x$^{2}$ CO$_{2}$ 1/2"),
        ("na\xefve \u0141\xf3d\u017a", r"na\"{i}ve \L{}\'{o}d\'{z}"),
        ("\u4e2d\u0391\x07", "{}[U+4E2D][U+0391][U+0007]"),
        ("-0.5 two\n\nparagraphs", "--0.5 two paragraphs"),
        ("[x] first", "{}[x] first"),
        ("*star", "{}*star"),
    ],
)
def test_latex_text_needs_no_package(text, in_latex):
    assert latex_text(text) == in_latex


def test_more_columns_than_fit_a_page_are_refused():
    with pytest.raises(ValueError, match="8 columns; at most 7 fit"):
        Narrow("Too wide.", pd.DataFrame([["x"] * 8], columns=list("abcdefgh")))


def test_latex_leaves_out_the_last_columns_that_do_not_fit_and_says_so():
    wide = {name: ["-28.8 [-29.5, -28.0]"] for name in ("one", "two", "three", "four", "five")}
    rows = pd.DataFrame({"Run": ["offline DPO with humanline, never synced"]} | wide)
    best = frozenset({(0, "one"), (0, "five")})
    text = latex(Narrow("Wide.", rows, best=best, texts=frozenset({"Run"})), "wide")
    assert "Run & one & two & three \\\\" in text and text.count("textbf") == 1
    assert "In the CSV alone: four; five." in text
    assert "--28.8 [--29.5, --28.0]" in text


def test_latex_gives_a_group_of_rows_a_title_and_goes_on_after_a_page():
    rows = pd.DataFrame({"Task": ["math"] * 2 + ["poetry"] * 40, "Run": ["online"] * 42})
    shown = Narrow("Long.", rows, texts=frozenset({"Run"}), groups="Task", notes=("Once.",))
    first, second = latex(shown, "long").split(r"\end{table}")[:2]
    assert first.count("online") == 30 and second.count("online") == 12
    assert r"\emph{math}" in first and r"\emph{poetry}" in first and r"\emph{poetry}" in second
    assert r"Table~\ref{tab:long}, continued." in second and r"\caption" not in second
    assert "Once." in second and "Once." not in first


@pytest.mark.parametrize(
    ("p", "text"),
    [
        (0.0009, "<0.001"),
        (0.001, "0.0010"),
        (0.01234, "0.012"),
        (0.5, "0.50"),
        (1.0, "1.0"),
        (np.nan, "\N{EN DASH}"),
    ],
)
def test_p_values_have_two_significant_digits(p, text):
    assert p_text(p) == text
    assert figure({"p_beats_plain": p}, "p_beats_plain") == text


@pytest.mark.parametrize(
    ("column", "numbers", "text"),
    [
        ("difference_to_online", (1.25, -0.5, 3.0), "+1.2 [-0.5, 3.0]"),
        ("difference_to_online", (-0.04, -0.04, 0.04), "+0.0 [0.0, 0.0]"),
        ("ratio_to_online", (1.0, np.nan, np.nan), "1.00"),
        ("ratio_to_online", (np.nan, np.nan, np.nan), "\N{EN DASH}"),
        ("steps_to_online", (4.0,), "4"),
    ],
)
def test_a_figure_is_text_with_its_interval(column, numbers, text):
    row = {f"{column}{end}": own for end, own in zip(("", "_low", "_high"), numbers, strict=False)}
    assert figure(row, column) == text


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("[x](javascript:alert(1))", r"[x\](javascript:alert(1))"),
        ("<script>alert(1)</script>", r"\<script>alert(1)\</script>"),
        ('<img src=x onerror="a">', r"\<img src=x onerror=\"a\">".replace('\\"', '"')),
        ("a\x1b[31mred", "a\u241b[31mred"),
        ("a\u202eb", "a[U+202E]b"),
        ("a\ud800b", "a[U+D800]b"),
        ("a | b\n# c", r"a \| b # c"),
    ],
)
def test_nothing_in_a_text_is_markup_or_a_command_to_a_terminal(text, written):
    assert markdown_text(text) == written
