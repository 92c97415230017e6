"""What an evaluation found, for people and for JSON."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from statistics import fmean
from typing import Any

from condense.evaluation.statistics import deviation
from condense.runtime.errors import CondenseError
from condense.runtime.provenance import versions

_WORTH_A_WORD = 0.01  # between the accuracy over all images and that over classes


@dataclass(frozen=True, kw_only=True)
class NetworkResult:
    """The test accuracies of one kind of network, all trained on one set under one protocol.

    Args:
        network: full name.
        protocol: name of the protocol.
        protocol_hash: only results with equal hash and network may be compared.
        accuracies: fractions, one for each network trained; network k always starts from (`seed`, k), whatever the set.
        diverged: the k whose loss became infinite or that are not right more often than by chance (see
            `better_than_chance`); they count in the mean.
        class_accuracies: by the name of each class with test images, the fraction of them that is right, mean over
            the networks.
        seconds: for training and testing all of them, label networks aside.
        training_seconds: of `seconds` those of training.
        images: number of training images.
        stored_images: number of images that are stored; less, if each is decoded to several.
        bytes: what they cost to keep, labels included.
        seed: from which networks, order of images and augmentation were drawn.
        label_source: where the labels came from.
        in_class: fraction of the training images whose soft label is largest for their own class; None for hard labels.
            Where it is low, the labels and the classes that images were made for contradict each other.
        weighted: whether images counted by the weights of the set; None where it has none.
        calibration_error: expected calibration error on the test images, a fraction, mean over the networks (see
            `condense.evaluation.calibration`); None where a logit is not finite, and under regression, which has none.
        corrupted: accuracy by corruption (see `condense.evaluation.corruptions`), mean over strengths and networks;
            empty where it was not asked for.
        corruptions_hash: of what these corruptions are; only equal ones may be compared.
        lr: learning rate in the first epoch: the protocol's, or the one that was learned with the set.
        preprocessing: kind of preprocessing, always that of the set.
        compiled: whether the training step was compiled; numbers differ by rounding only.
        versions: packages that can change a number.
    """

    network: str
    protocol: str
    protocol_hash: str
    accuracies: tuple[float, ...]
    diverged: tuple[int, ...]
    class_accuracies: dict[str, float]
    seconds: float
    images: int
    stored_images: int
    bytes: int
    seed: int
    label_source: str
    lr: float
    preprocessing: str
    compiled: bool = False
    in_class: float | None = None
    weighted: bool | None = None
    training_seconds: float | None = None
    calibration_error: float | None = None
    corrupted: dict[str, float] = field(default_factory=dict)
    corruptions_hash: str | None = None
    versions: dict[str, str] = field(default_factory=versions)

    @property
    def mean(self) -> float:
        """Mean accuracy, a fraction; nothing is left out of it."""
        return fmean(self.accuracies)

    @property
    def std(self) -> float | None:
        """Sample standard deviation of the accuracies (n - 1); None for a single network."""
        return deviation(self.accuracies)

    @property
    def balanced(self) -> float:
        """Mean over the classes of their accuracies: that of `mean` if all classes have as many test images."""
        return fmean(self.class_accuracies.values())

    @property
    def corrupted_mean(self) -> float | None:
        """Mean accuracy over all corruptions; None where it was not asked for."""
        return fmean(self.corrupted.values()) if self.corrupted else None

    def as_dict(self) -> dict[str, Any]:
        """Everything, JSON-able, `mean` and `std` first."""
        values = {"mean": self.mean, "std": self.std, "balanced": self.balanced, **asdict(self)}
        return values | {"accuracies": list(self.accuracies), "diverged": list(self.diverged)}

    def __str__(self) -> str:
        error = "" if self.std is None else f" ± {100 * self.std:.1f}"
        count = len(self.accuracies)
        networks = f"{count} network{'s' if count > 1 else ''}"
        near_chance = f", {len(self.diverged)} of them near chance" if self.diverged else ""
        labels = "" if self.in_class is None else f", {self.in_class:.0%} of labels are of the image's class"
        given = "" if self.label_source == "class index" else f"; labels {self.label_source}"
        unequal = abs(self.balanced - self.mean) >= _WORTH_A_WORD
        balanced = f", {100 * self.balanced:.1f} % balanced over classes" if unequal else ""
        spoiled = "" if self.corrupted_mean is None else f", {100 * self.corrupted_mean:.1f} % on corrupted images"
        unweighted = ", unweighted" if self.weighted is False else ""
        about = f"{networks}{balanced}{spoiled}{unweighted}{near_chance}{labels}"
        return (
            f"{self.network}: {100 * self.mean:.1f}{error} % ({about}, protocol {self.protocol} {self.protocol_hash}, "
            f"{self.seconds:.0f} s{given})"
        )


@dataclass(frozen=True)
class Evaluation:
    """One result for each kind of network, in the order asked for; `notes` are sentences that the user should read."""

    results: tuple[NetworkResult, ...]
    notes: tuple[str, ...] = ()

    @property
    def mean(self) -> float:
        """Mean accuracy of the only kind of network."""
        return self._only.mean

    @property
    def std(self) -> float | None:
        """Sample standard deviation of the only kind of network; None if one network was trained."""
        return self._only.std

    @property
    def accuracies(self) -> tuple[float, ...]:
        """Accuracies of the only kind of network."""
        return self._only.accuracies

    @property
    def protocol(self) -> str:
        """Name of the protocol."""
        return self.results[0].protocol

    @property
    def _only(self) -> NetworkResult:
        if len(self.results) > 1:
            names = ", ".join(result.network for result in self.results)
            raise CondenseError(f"{len(self.results)} kinds of network were evaluated ({names}); look at .results")
        return self.results[0]

    def as_dict(self) -> dict[str, Any] | list[dict[str, Any]]:
        """The only result as a dictionary, or a list of them if there are several."""
        dictionaries = [result.as_dict() for result in self.results]
        return dictionaries[0] if len(dictionaries) == 1 else dictionaries
