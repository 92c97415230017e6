"""The control: the start of a recovery, as it is stored."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import condense
from condense.runtime.seeds import generator
from condense.synthesizers.recovery.squeeze_recover import SqueezeRecover


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 12, 8)])
def test_noise_has_the_mean_and_deviation_of_the_data(shape, data_of):
    data = data_of(shape)
    made = condense.distill("noise", data, 2, slice_size=3, float_pixels=True)
    mean, std = (torch.tensor(values).view(-1, 1, 1) for values in (data.preprocessing.mean, data.preprocessing.std))
    for place in range(2):
        drawn = torch.randn(3, *shape, generator=generator(0, "recovery noise", place))
        torch.testing.assert_close(made.stored[place::2], (mean + std * drawn).clamp(0, 1))


def test_it_is_where_a_recovery_by_a_teacher_begins(data_of, job_of):
    data = data_of()
    job = job_of(data, ipc=2)
    made = condense.distill("noise", data, 2, slice_size=2, teacher=job.teacher, float_pixels=True)
    settings = SqueezeRecover.Settings(slice_size=2)
    for part in SqueezeRecover.slices(job, settings):
        start = SqueezeRecover(job, settings, part).start().clamp(0, 1)
        for image, label, place in zip(start, part.labels.tolist(), part.places.tolist()):
            assert torch.equal(made.stored[2 * label + place], image)


def test_without_a_normalisation_it_is_grey_noise(data_of, tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (12, 8, 8), dtype=np.uint8)
    labels = np.arange(12) % 2
    np.savez(tmp_path / "own.npz", train_images=pixels, train_labels=labels, test_images=pixels, test_labels=labels)
    data = condense.load_data(tmp_path / "own.npz", normalization="none")
    made = condense.distill("noise", data, 1, float_pixels=True)
    drawn = torch.randn(2, 1, 8, 8, generator=generator(0, "recovery noise", 0))
    torch.testing.assert_close(made.stored, (0.5 + 0.5 * drawn).clamp(0, 1))
