"""`noise`: the control of every recovery. Whatever networks learn from these images they learn from their labels."""

from __future__ import annotations

from torch import Tensor

from condense.methods.interface import Job
from condense.methods.slices.layouts import Slice, slices_of
from condense.methods.slices.sliced import Sliced, SlicedSettings, stored_pixels
from condense.synthesizers.recovery.starts import noise_pixels


class Noise(Sliced[SlicedSettings]):
    """mean + std z with z from N(0, 1), clamped to [0, 1]: what recovery from noise starts from."""

    def result(self) -> dict[str, Tensor]:
        """Draw."""
        return {"images": stored_pixels(noise_pixels(self.job, self.slice), self.settings.float_pixels)}

    @classmethod
    def slices(cls, job: Job, settings: SlicedSettings) -> list[Slice]:
        """As those of recoveries, so that a slice of equal number is the start of theirs."""
        return slices_of("ipc-index", len(job.data.info.classes), job.ipc, settings.slice_size)
