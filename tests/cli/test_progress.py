"""While a workflow runs: what it prints, the time left, why a job failed; `humanline status`."""

import io
import json
import logging
import os
import time
from dataclasses import astuple
from pathlib import Path
from types import SimpleNamespace

import pytest

from humanline.cli.progress import joblog, status
from humanline.cli.progress.board import Board
from humanline.cli.progress.joblog import LINES, WIDTH, cause, read, show_tail
from humanline.cli.progress.lines import duration, lines
from humanline.cli.progress.names import Named, Namer
from humanline.cli.progress.seconds import Kind, Seconds, first_of
from humanline.cli.progress.seconds import read as read_seconds
from humanline.cli.progress.short import shortened
from humanline.cli.progress.view import View, watch
from humanline.files.validation import ConfigError
from humanline.study.study import load_study

ROOT = Path(__file__).parents[2]
SHIPPED = ROOT / "results/reference/laptop/seconds.csv"
TRAIN = Kind("train", "math_reasoning", "", "grpo", "online")
SCORE = Kind("score", "math_reasoning", "", "grpo", "online", "8")
BARS = (
    "Loading weights: 100%|████| 20/20 [00:00<00:00, 5648.89it/s]\n"
    "\r  0%|          | 0/128 [00:00<?, ?it/s]"
    "\r {'loss': '-0.05', 'grad_norm': '0.3', 'reward': '0.57'}\n"
    "\r 25%|██▌       | 32/128 [00:02<01:05, 17.85it/s]"
    "{'loss': '0.012', 'grad_norm': '0.4'}\n"
    "\rWriting model shards:   0%|          | 0/1 [00:00<?, ?it/s]"
)


@pytest.fixture
def log(tmp_path):
    path = tmp_path / "job.log"
    path.write_text(BARS)
    return path


class TestLogs:
    def test_steps_time_and_metrics_are_in_a_running_jobs_log(self, log):
        found = read(str(log), time.time())
        assert (found.name, found.fraction, found.left, found.took) == ("", 0.25, 65.0, None)
        assert found.metrics_words == "loss 0.012, reward 0.57"

    def test_a_named_bar_counts_where_there_is_no_training(self, log):
        log.write_text("\rsampling:  75%|███▌  | 3/4 [00:01<1:00:02, 3.94batch/s]")
        found = read(str(log), time.time())
        assert (found.name, found.fraction, found.left) == ("sampling", 0.75, 3602.0)

    def test_a_command_that_has_ended_says_its_seconds(self, log):
        log.write_text(f"{BARS}\ntrain: 9.5 s\n")
        assert read(str(log), time.time()).took == 9.5

    def test_a_log_of_an_earlier_job_does_not_count(self, log):
        assert read(str(log), time.time() + 60) is None
        assert read(str(log.with_name("none")), 0) is None and read(None, 0) is None

    @pytest.mark.parametrize(
        "content", ["", "{'loss': nan}", "{'loss': ", "{'loss', 'a'}", "\xff\x00[00:00<"]
    )
    def test_odd_logs_are_no_error(self, log, content):
        log.write_bytes(content.encode("latin-1"))
        assert read(str(log), 0).fraction is None

    def test_the_cause_is_the_one_line_of_a_users_error(self, log):
        log.write_text(f"{BARS}\nhumanline: error: a.yaml: b: mend it\ntrain: 1 s\n")
        assert cause(str(log)) == ["humanline: error: a.yaml: b: mend it"]

    def test_what_a_log_says_cannot_act_on_the_terminal(self, log):
        log.write_text("\x1b[31mred\x1b[0m \x1b]0;title\x07 \u202etxt\tend 日本\x9b2J\n")
        assert cause(str(log)) == [r"red \x1b]0;title\x07 \u202etxt end 日本\x9b2J"]

    def test_or_the_last_lines_without_bars(self, log):
        log.write_text("\r1%|\r2%|end\n" + "x" * 999 + "\n" + "\n".join(map(str, range(LINES - 1))))
        found = cause(str(log))
        assert len(found) == LINES and found[0] == "x" * WIDTH and found[-1] == str(LINES - 2)
        assert cause("none.log") == []

    def test_a_command_leaves_the_cause_to_the_view(self, log, monkeypatch, capsys):
        show_tail(log)
        assert "humanline: failed; the last lines" in capsys.readouterr().err
        monkeypatch.setenv(joblog.VIEW, "1")
        show_tail(log)
        assert capsys.readouterr().err == ""


class TestSeconds:
    def test_runs_before_are_corrected_by_what_was_seen(self):
        seconds = Seconds({TRAIN: (3, 100.0), SCORE: (3, 10.0)})
        assert seconds.expected(TRAIN) == 100 and seconds.pace == 1
        for _ in range(20):
            seconds.add(TRAIN, 200.0)
        assert 1.9 < seconds.pace < 2 and seconds.expected(SCORE) == 10 * seconds.pace
        assert 199 < seconds.expected(TRAIN) <= 200

    def test_a_kind_that_was_never_seen_is_like_the_closest(self):
        own = Kind("train", "math_reasoning", "larger", "grpo", "online")
        other = Kind("train", "math_reasoning", "", "dpo", "offline")
        seconds = Seconds({TRAIN: (1, 4.0), other: (1, 8.0)})
        assert seconds.expected(own) == 4
        assert seconds.expected(Kind("train", "instruction_following")) == 6
        assert seconds.expected(Kind("offline")) is None

    def test_another_scales_runs_tell_how_jobs_compare_and_this_run_its_pace(self):
        seconds = Seconds({TRAIN: (1, 40.0), SCORE: (1, 4.0)}, of_scale=False)
        seconds.add(TRAIN, 30.0, is_usual=False)  # with the imports of the run's first job
        assert seconds.expected(SCORE) is None
        seconds.add(TRAIN, 10.0)
        assert seconds.pace == 0.25 and seconds.expected(SCORE) == 1

    def test_the_file_has_the_means_of_all_runs(self, tmp_path):
        path = tmp_path / "a" / "seconds.csv"
        for own in (1.0, 4.0):
            seconds = Seconds({})
            seconds.add(TRAIN, own)
            seconds.write(path)
        assert read_seconds(path) == {TRAIN: (2, 2.5)}
        assert first_of([tmp_path / "none", path]).expected(TRAIN) == 2.5
        path.write_text("nonsense\n1\n")
        assert read_seconds(path) == {} and first_of([path]).expected(TRAIN) is None

    @pytest.mark.parametrize("own", ["nan", "inf", "1e400", "-5", "t" * 200_000])
    def test_a_damaged_file_is_as_good_as_none(self, own, tmp_path):
        path = tmp_path / "seconds.csv"
        seconds = Seconds({})
        seconds.add(TRAIN, 4.0)
        seconds.write(path)
        assert first_of([path]).expected(TRAIN) == 4
        path.write_text(f"{path.read_text()}score,,,,,,3,{own}\n")
        assert read_seconds(path) == {}

    def test_the_released_seconds_are_about_the_laptop_scales_cells(self):
        config = ROOT / "workflow/config"
        study = load_study(config / "laptop.yaml", config / "experiments.yaml", ROOT / "results")
        namer, shipped = Namer(study), first_of([SHIPPED])
        known = read_seconds(SHIPPED)
        cells = [
            cell for cell in study.evaluated("all") if cell.seed == study.scale.seeds.report[0]
        ]
        assert len(cells) > 20
        for cell in cells:
            rule = "base_model" if cell.objective == "base" else "train"
            named = namer.name(rule, {"task": cell.task, "run": cell.name})
            assert named.kind in known and f"seed {cell.seed}" in named.of, astuple(named.kind)
            assert 1 < shipped.expected(named.kind) < 60
        assert all(jobs > 0 and seconds > 0 for jobs, seconds in known.values())


@pytest.fixture
def now():
    return [1000.0]


@pytest.fixture
def board(now):
    named = {
        0: Named("train", "online GRPO; seed 1", TRAIN, True),
        1: Named("train", "online GRPO; seed 2", TRAIN, True),
        2: Named("score", "online GRPO; seed 1", SCORE, True),
        3: Named("table", "first taste", Kind("table")),
    }
    return Board("laptop", named, Seconds({TRAIN: (1, 40.0), SCORE: (1, 2.0)}), 2, lambda: now[0])


def test_the_whole_and_each_running_job_have_a_line(board, now, log):
    now[0] = time.time()
    board.start(0)
    board.describe(0, board._named[0], [str(log)], "train it")
    whole, job, path = lines(board.snapshot(), width=120)
    # Two at a time need 64 seconds for 65 of this job by its log, 40, 2, and 21 for the table: the
    # mean, as it was never seen. The job alone needs 65.
    assert whole.startswith("laptop: 0 of 1 cells, 0 of 4 jobs, ") and whole.endswith(" 65 s left")
    assert " ".join(job.split()) == "train 25% 65 s left online GRPO; seed 1"
    assert path.startswith("  loss 0.012, reward 0.57  log: ") and path.endswith(str(log)[-40:])
    assert lines(board.snapshot(), height=2)[1:] == [job]
    assert max(map(len, lines(board.snapshot(), width=40))) == 40
    board.start(1)
    assert lines(board.snapshot(), height=2)[-1] == "  and 2 more jobs"


def test_a_job_without_steps_is_shown_by_its_time(board, now):
    now[0] = time.time() - 1
    board.start(2)
    assert " 50%        1 s left  online GRPO" in lines(board.snapshot())[1]
    now[0] -= 60
    board.start(0)
    board.snapshot()["running"][1]["expected"] = 9.0
    assert lines(board.snapshot())[2].split()[:3] == ["train", "99%", "late"]


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(8.4, "8 s"), (99, "99 s"), (100, "2 min"), (5999, "100 min"), (7260, "2 h 1 min")],
)
def test_times_are_short(seconds, words):
    assert duration(seconds) == words.replace("100 min", "1 h 40 min")


def record(event, message="", level=logging.INFO, **fields):
    made = logging.LogRecord("snakemake", level, "", 0, message, None, None)
    made.__dict__.update({"event": event} | fields)
    return made


@pytest.fixture
def view(board, tmp_path):
    stream = io.StringIO()
    namer = SimpleNamespace(name=lambda rule, wildcards: board._named[wildcards["number"]])
    made = View(board, namer, stream, status.begin(tmp_path), tmp_path / "seconds.csv", ["a.log"])
    yield made
    made.close()


def begin(view, number, log=()):
    view.handle(record("job_started", jobs=[number]))
    info = {"rule_name": "train", "wildcards": {"number": number}, "log": log}
    shell = f'"$HUMANLINE_PYTHON" -m humanline train {number} --scale=laptop --log={log}'
    view.handle(record("job_info", jobid=number, shellcmd=shell, **info))


def test_without_a_terminal_each_job_that_ends_is_a_short_line(view, now, tmp_path, log):
    now[0] = 1000.0
    begin(view, 0, [str(log)])
    view.handle(record("job_finished", job_id=0))
    view.handle(record(None, "Select jobs to execute..."))
    view.handle(record("progress", total=4, done=1))
    for number in (1, 2, 3):  # the last one is a target, without a log
        begin(view, number, ["none.log"] * (number < 3))
        view.handle(record("job_finished", job_id=number))
    view.close()
    first, *_, last = told = view._stream.getvalue().splitlines()
    assert first.startswith(
        "train, online GRPO; seed 1, took 0 s, loss 0.012, reward 0.57 | 0 of 1"
    )
    assert last == "laptop: all 4 jobs done, in 0 s" and len(told) == 4
    assert max(map(len, told)) < 150
    assert json.loads(view._state.read_text())["ended"] == "done"
    assert read_seconds(tmp_path / "seconds.csv")[TRAIN][0] == 2


def test_why_a_job_failed_is_last_and_the_commands_that_show_more_are_above(view, log):
    log.write_text("humanline: error: samples.jsonl: line 1: not JSON; make it again\n")
    begin(view, 0, [str(log)])
    command = "RuleException:\nCalledProcessError in file a, line 1:\n" + "x, " * 999
    view.handle(record("error", command, logging.ERROR))
    view.handle(record("job_error", "Error in rule", logging.ERROR, jobid=0))
    view.handle(record(None, "Exiting because a job execution failed.", logging.ERROR))
    view.handle(record(None, "a warning", logging.WARNING))
    view.close()
    told = view._stream.getvalue()
    assert told.endswith("  humanline: error: samples.jsonl: line 1: not JSON; make it again\n")
    assert f"less -R {log}" in told and "-m humanline train 0 --scale=laptop\n" in told
    assert "CalledProcessError" not in told and "Exiting" not in told and "a warning" in told


def test_of_a_submission_that_failed_the_jobs_that_did_not_are_not_told(view, now, tmp_path, log):
    """Snakemake says of all jobs of a group that they failed, also of those that did not begin."""
    now[0] = time.time()
    ended = tmp_path / "ended.log"
    ended.write_text("train: 3.2 s\n")
    for number, path in enumerate((ended, log, "none.log")):
        begin(view, number, [str(path)])
    members = [{"jobid": number} for number in (0, 1, 2)]
    fields = {"job_error_info": members, "aux_logs": ["7.log"]}
    view.handle(record("group_error", "Error in group runs", logging.ERROR, **fields))
    for number in (0, 1, 2):
        view.handle(record("job_error", "Error in rule", logging.ERROR, jobid=number))
    first, second = view._stream.getvalue().splitlines()
    assert first == "failed: a submission of 3 jobs, whose outputs are removed; its log: 7.log"
    assert second.startswith("failed: train, online GRPO; seed 2: ")
    assert [job["log"] for job in view._board.failed] == [str(log)]


def test_who_stops_a_workflow_is_told_of_no_failure(view, tmp_path):
    begin(view, 0)
    view.handle(record(None, "Terminating processes on user request, this might take some time."))
    view.handle(record("job_error", "Error in rule", logging.ERROR, jobid=0))
    view.close()
    _, *told = view._stream.getvalue().splitlines()
    assert told[0] == "laptop: stopped after 0 s, 0 of 4 jobs done" and told[-1] == status.GOES_ON
    assert "stopped after" in status.describe(tmp_path) and "failed" not in "".join(told)


def test_an_error_of_snakemake_itself_is_no_stop(view, tmp_path):
    begin(view, 0)
    view.handle(record("error", "NotADirectoryError: b\x07", logging.ERROR))
    view.close()
    told = view._stream.getvalue()
    assert "NotADirectoryError: b\\x07\nlaptop: failed after 0 s, 0 of 4 jobs done\n" in told
    assert "Snakemake itself: see above\nSnakemake's log: a.log\n" in told
    assert status.GOES_ON not in told + status.describe(tmp_path)
    assert status.describe(tmp_path).endswith("\nSnakemake's log: a.log")


@pytest.fixture
def warned():
    """What Snakemake's logger is given."""
    from snakemake.logging import logger

    found, handler = [], logging.Handler()
    handler.emit = lambda record: found.append(record.getMessage())
    logger.addHandler(handler)
    yield found
    logger.removeHandler(handler)


class TestFaultsOfTheView:
    def test_at_the_start_it_is_a_warning(self, warned, monkeypatch):
        assert watch(SimpleNamespace(), None, [], [], Path()) is None
        assert len(warned) == 1 and "the view of the progress has a fault (Attr" in warned[0]

    @pytest.mark.parametrize("where", ["namer", "thread", "end"])
    def test_later_snakemake_prints_again_and_the_cause_is_told(
        self, where, view, log, warned, monkeypatch
    ):
        log.write_text("humanline: error: mend it\n")
        begin(view, 0, [str(log)])
        given = []
        view._give_back = lambda: given.append(1)
        planted = lambda *_: 1 / 0  # noqa: E731
        if where == "namer":
            view._namer = SimpleNamespace(name=planted)
            for _ in range(3):
                view.handle(record("job_info", jobid=9, rule_name="a", wildcards={}))
        elif where == "thread":
            monkeypatch.setattr(view, "_show", planted)
            time.sleep(2.2)
            assert view._clock.is_alive()
        else:
            monkeypatch.setattr(view, "_last_lines", planted)
        view.handle(record("job_error", "Error in rule", logging.ERROR, jobid=0))
        view.close()
        assert given == [1] and len(warned) == 1 and "ZeroDivisionError" in warned[0]
        assert view._stream.getvalue().endswith("the cause:\n  humanline: error: mend it\n")
        assert json.loads(view._state.read_text())["ended"] == "failed"

    def test_a_stream_that_nobody_reads_is_left(self, view, warned):
        view._stream.close()
        view._stream = open(os.devnull)  # noqa: SIM115 - not writable: UnsupportedOperation, an OSError
        begin(view, 0, ["none.log"])
        view.handle(record("job_finished", job_id=0))
        assert view._stream is None and warned == []


def test_a_job_that_is_tried_again_has_not_failed(board):
    board.start(0)
    board.fail(0)
    board.start(0)
    assert board.finish(0).named.stage == "train" and board.failed == []


class TestStatus:
    def write(self, board, tmp_path, **changes):
        status.write(status.begin(tmp_path), board.snapshot() | changes)

    def test_a_running_workflow_has_the_same_lines(self, board, tmp_path):
        self.write(board, tmp_path)
        assert status.describe(tmp_path).startswith("laptop: 0 of 1 cells, 0 of 4 jobs, ")

    def test_one_that_was_killed_or_has_ended_is_told(self, board, tmp_path):
        child = os.fork()
        if not child:
            os._exit(0)
        os.waitpid(child, 0)
        self.write(board, tmp_path, process=child)
        assert "laptop: was killed after" in status.describe(tmp_path)
        self.write(board, tmp_path, ended="done")
        assert status.describe(tmp_path) == "laptop: done after 0 s, 0 of 4 jobs done"

    def test_all_that_run_are_told_and_the_one_that_ended_last(self, board, tmp_path):
        self.write(board, tmp_path)
        own = status.begin(tmp_path)
        for name, changed in (("last", 1002.0), ("early", 1001.0)):
            path = own.with_name(f"{status.STATE}-{name}.json")
            status.write(path, board.snapshot() | {"name": name, "ended": "done"})
            os.utime(path, (changed, changed))
        status.write(
            own.with_name(f"{status.STATE}-b.json"),
            board.snapshot() | {"name": "elsewhere", "host": "other"},
        )
        told = status.describe(tmp_path).splitlines()
        assert [line.partition(":")[0] for line in told] == ["elsewhere", "laptop", "last"]
        assert status.begin(tmp_path) == own and len(list(tmp_path.iterdir())) == 2

    def test_without_one_it_is_one_line(self, tmp_path):
        with pytest.raises(ConfigError, match="no workflow was started here; run this where"):
            status.describe(tmp_path)

    @pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"ended": "failed", "jobs": 1}'])
    def test_a_damaged_state_is_one_line(self, text, tmp_path):
        status.begin(tmp_path).write_text(text)
        with pytest.raises(ConfigError, match="cannot be read; remove it"):
            status.describe(tmp_path)


def test_lists_of_hundreds_of_files_are_cut_after_a_name():
    files = ", ".join(f"results/laptop/runs/a/base-s{n}/metrics.json" for n in range(300))
    short = shortened(f"rule claims:\n    input: {files}\n    jobid: 3")
    assert max(map(len, short.splitlines())) < 320 and short.endswith("\n    jobid: 3")
    assert "metrics.json, and 29" in short and shortened("a\nb") == "a\nb"
    assert "more characters" in shortened("x" * 999)
