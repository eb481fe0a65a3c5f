"""Each mistake made on purpose, and named: on independent values, in float16, and on maps as behind a ReLU."""

from collections import Counter
from dataclasses import replace

import pytest
from jobs.mistakes import MISTAKES, TEXTURES, verdict

from roicli.jobs import identify

QUICK = "level", "letterbox_offset", "letterbox_not_stated", "channels_interleaved", "class_token_in_the_mean"


@pytest.mark.parametrize("texture", TEXTURES)
@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes_are_named(tmp_path, dose, name, texture):
    """`--long 20` makes each 20 times."""
    tally = Counter()
    for seed in range(dose - dose % 5):
        scene, pooled, words = MISTAKES[name](seed, texture)
        tally[verdict(scene.identify(tmp_path, pooled), words)] += 1
    assert set(tally) <= {"named", "among"}, tally


@pytest.mark.parametrize("name", QUICK)
def test_a_mistake_is_named_among_few_settings(tmp_path, monkeypatch, name):
    """The same, with few conventions to choose from, which takes a tenth of the time."""
    scene, pooled, words = MISTAKES[name](7, "relu")
    monkeypatch.setattr(identify, "specs", lambda base, more=False: few(base, scene.spec))
    assert verdict(scene.identify(tmp_path, pooled), words) in ("named", "among")


def test_an_order_of_channels_is_tried_with_boxes_as_given(tmp_path):
    """Others were more like the mean of all channels, by another convention."""
    scene, pooled, words = MISTAKES["channels_reversed"](12, "plain")
    assert verdict(scene.identify(tmp_path, pooled), words) in ("named", "among")


def few(base, spec):
    """What a scene computes, and two others; the size is that of the reading."""
    others = [replace(spec, sampling_ratio=spec.sampling_ratio % 4 + 1), replace(spec, op="roi_pool", aligned=False)]
    return [replace(one, output_size=base.output_size) for one in (spec, *others)]
