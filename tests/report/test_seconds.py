"""The seconds of jobs, from Snakemake's files of them."""

import pytest

from humanline.files.validation import ConfigError
from humanline.report.origins.seconds import seconds_of


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("s\tmax_rss\n1.5\t9\n", [1.5]),
        ("s\tmax_rss\n1.5\t9\n2\tNA\n", [1.5, 2]),  # a rule with `repeat`
        ("s\tmax_rss\nNA\tNA\n-\t-\n3\t9\n", [None, None, 3]),  # it could not be measured
    ],
)
def test_every_measurement_counts(text, seconds, tmp_path):
    (tmp_path / "job.tsv").write_text(text)
    assert seconds_of(tmp_path / "job.tsv") == seconds


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "cannot be read (no table with a header)"),
        (b"s\n", "field s: missing"),
        (b"t\n5\n", "field s: missing"),
        (b"s\n\xff\n", "cannot be read (no table with a header)"),
        (b"s\n" + b"9" * 200_000 + b"\n", "cannot be read (no table with a header)"),
        (b"s\tt\n5\n", "line 2: 1 fields, but the header has 2"),
        (b"s\n5\n5\t6\n", "line 3: 2 fields, but the header has 1"),
        *(
            (f"s\n5\n{text}\n".encode(), f"line 3: field s: '{text}' is no number of seconds")
            for text in ("text", "nan", "inf", "-1", "1e400", "1_000", "0x10")
        ),
    ],
)
def test_a_damaged_file_is_one_line(content, reason, tmp_path):
    path = tmp_path / "job.tsv"
    path.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        seconds_of(path)
    assert str(caught.value) == f"{path}: {reason}; remove it: only times depend on it"
