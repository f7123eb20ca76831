"""The real model of the workstation's package: it is converted rightly if it answers sensibly."""

from pathlib import Path

import pytest

from humanline.data import packages
from humanline.files.validation import ConfigError
from humanline.generation.engines import open_engine, sample_text
from humanline.study.scale.sampling import Generation, Sampling
from humanline.study.scale.scale import load_scale

pytest.importorskip("gguf", reason="pip install 'humanline[workstation]'")
SCALE = Path(__file__).parents[2] / "workflow" / "config" / "workstation.yaml"


@pytest.mark.slow
def test_the_model_of_the_package_answers_and_ends():
    source = load_scale(SCALE).tasks["instruction_following"].base_model.start
    try:
        folder = packages.model_folder(source)
    except ConfigError as error:
        pytest.skip(str(error))
    greedy = Sampling(temperature=0, max_new_tokens=24)
    prompts = ["What is the capital of France?", "Say hello."]
    with open_engine(folder, Generation()) as engine:
        answers = sample_text(engine, prompts, n=1, sampling=greedy, seed=1)
        lengths = [len(engine.tokenizer(text).input_ids) for (text,) in answers]
    assert "Paris" in answers[0][0] and "Hello" in answers[1][0]
    assert lengths[0] < 24  # it ends by itself
