"""bfloat16 is the default on a GPU that has it; elsewhere it is float32, and no fault."""

import pytest
from transformers import training_args
from trl import TrlParser

import humanline
from humanline.trainers.options import humanline as options

CONFIGS = [getattr(humanline, f"Humanline{name}Config") for name in ("DPO", "KTO", "GRPO")]


@pytest.fixture(params=[True, False], ids=["GPU with bf16", "no bf16"])
def has_bf16(request, monkeypatch) -> bool:
    for module in (options, training_args):
        monkeypatch.setattr(module, "is_torch_bf16_gpu_available", lambda: request.param)
        monkeypatch.setattr(module, "is_torch_xla_available", lambda: False)
    return request.param


@pytest.mark.parametrize("config", CONFIGS)
def test_the_default_is_what_the_machine_has(config, has_bf16, tmp_path):
    assert config(str(tmp_path)).bf16 is has_bf16
    assert config(str(tmp_path), use_cpu=True).bf16 is False  # most CPUs are slow at it
    assert config(str(tmp_path), use_cpu=True, bf16=True).bf16 is True
    assert config(str(tmp_path), bf16=False).bf16 is False


@pytest.mark.parametrize("config", CONFIGS)
def test_what_is_asked_for_is_taken_or_refused_as_by_trl(config, has_bf16, tmp_path):
    if has_bf16:
        assert config(str(tmp_path), bf16=True).bf16 is True
        return
    with pytest.raises(ValueError, match="doesn't support bf16"):
        config(str(tmp_path), bf16=True)


@pytest.mark.parametrize("config", CONFIGS)
def test_a_file_that_says_nothing_of_it_is_read(config, has_bf16, tmp_path):
    (tmp_path / "options.yaml").write_text(f"output_dir: {tmp_path}\nsync_interval: 4\n")
    (read,) = TrlParser(config).parse_args_and_config(["--config", str(tmp_path / "options.yaml")])
    assert read.bf16 is has_bf16 and read.sync_interval == 4
