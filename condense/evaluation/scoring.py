"""`evaluate`: train fresh networks on a set as a protocol says, and measure them on the real test images."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any, Literal

import torch

from condense.baselines.base import Baseline
from condense.compute.engine import Engine
from condense.data import RealData, TestData, TrainingData
from condense.evaluation.calibration import calibration_error
from condense.evaluation.corruptions import corrupted_accuracies, corruptions_hash
from condense.evaluation.protocols import PROTOCOLS, Protocol, StaticLabels, TeacherLabels
from condense.evaluation.results import Evaluation, NetworkResult
from condense.evaluation.statistics import better_than_chance, complete_mean
from condense.evaluation.training_set import TrainingSet, training_set
from condense.labels import Labels
from condense.labels.subclasses import OfClasses
from condense.networks import NetworkLike, build_network, canonical_name, network_name, network_names
from condense.runtime.device import choose_device
from condense.runtime.errors import CondenseError
from condense.runtime.progress import progress_bar
from condense.runtime.seeds import derive_seed
from condense.sets.synthetic_set import SyntheticSet
from condense.teachers.committee import Committee
from condense.teachers.teacher import Teacher
from condense.training.engines import training_engine
from condense.training.loop import Diverged, train_network
from condense.training.prediction import answers, predict
from condense.training.rule import TrainingRule


def evaluate(
    synthetic: SyntheticSet | TrainingData | Baseline[Any],
    data: RealData,
    nets: Sequence[NetworkLike] = ("convnet",),
    runs: int | None = None,
    protocol: str | Protocol = "desk",
    seed: int = 0,
    device: str = "auto",
    compile: Literal["auto", "on", "off"] = "auto",
    progress: bool = False,
    corruptions: bool = False,
    teacher: Teacher | Committee | str | Path | None = None,
) -> Evaluation:
    """Train networks on `synthetic` from scratch and test each once, after its last epoch, on `data.test`.

    Args:
        synthetic: a set; or real training images of `data`, all of them (`data.train`) or a subset; or a training-time
            baseline (`condense.baseline`).
        data: the real data that the set was made from. Its test images get the preprocessing of the set.
        nets: names of networks, and of pools of them (`pool-m`); what they leave open comes from the protocol, the
            depth from the image size. Or network objects: an `nn.Module`, of which fresh copies are trained, or a
            function of an image shape and a number of classes that makes one (see `condense.networks.network_name`).
        runs: networks trained of each kind, by default the protocol's number.
        protocol: a name of `condense protocols`, a `Protocol`, or for the reference line `full("desk")`.
        seed: network k depends on (seed, k) only, so results on different sets are paired network by network.
        device: `auto`, `cpu` or `cuda:N`.
        compile: whether the training step is compiled; `auto` does so where it saves more time than it costs. Networks
            compute in float32 on every machine, so that a protocol means the same everywhere.
        progress: show bars on standard error.
        corruptions: also test each network on a thousand test images under ten corruptions at three strengths
            (`condense.evaluation.corruptions`).
        teacher: a teacher, a committee or their files, for labels that are asked for in training, and for protocols
            with soft labels of a teacher where the images have none of their own.

    Raises:
        CondenseError: unknown names; a set and data that do not match in classes, their order or image shape;
            real images that are not of `data`; a teacher that is missing or is another one; label networks that
            diverged. A diverged network is no error: it is listed in the result.

    >>> from condense.data import load_data
    >>> data = load_data("digits")
    >>> few = data.train.subset(torch.arange(100))
    >>> evaluate(few, data, nets=["mlp"], protocol="demo", runs=1).results[0].network
    'mlp'
    """
    found = PROTOCOLS.find(protocol) if isinstance(protocol, str) else protocol
    count = found.networks if runs is None else runs
    if count < 1 or not nets:
        raise CondenseError(f"--runs {count} of networks {list(nets)}: give at least one run and one network")
    notes = _check_given(synthetic, data, found)
    words = network_names([network_name(net, data.image_shape, len(data.classes)) for net in nets])
    names = [canonical_name(word, data.image_shape, found.network) for word in words]
    for name in names:  # a network that does not fit the images is found before hours of training, not after
        build_network(name, data.image_shape, len(data.classes), seed)
    chosen = choose_device(device)
    info = replace(data.info, preprocessing=synthetic.info.preprocessing)
    train = TrainingData(data.train.source, data.train.labels, info)
    test = TestData(data.test.source, data.test.labels, info)
    committee = None if teacher is None else Committee.of(teacher)
    encoder = synthetic.stored_labels.encoder if isinstance(synthetic, SyntheticSet) else None
    if committee is not None and committee.hash != encoder:
        notes += committee.check_matches(data.info)
    trained_on = training_set(synthetic, train, found, teacher=committee, device=chosen, progress=progress)
    shared = _Conditions(trained_on, test, found, seed, chosen, compile, progress, corruptions)
    for name in names if trained_on.parts > 1 else ():  # again: not every network can have as many outputs
        build_network(name, data.image_shape, shared.outputs, seed)
    return Evaluation(tuple(_evaluate_one(name, count, shared) for name in names), notes + trained_on.notes)


def _check_given(given: object, data: RealData, protocol: Protocol) -> tuple[str, ...]:
    """Make sure that the images may be trained on and tested with `data`; returns notes for the user."""
    if not data.test.labelled:
        raise CondenseError(f"{data.name} was read without labels, so there is no right answer; give it with labels")
    if isinstance(given, TrainingData | Baseline):
        train = given.data if isinstance(given, Baseline) else given
        if train.part_of != data.train.part_of:
            raise CondenseError(
                f"the training images are of another data set or split ({train.info.name}) than the test images "
                f"({data.name}); give both of one load_data"
            )
        return ()
    if not isinstance(given, SyntheticSet):
        raise TypeError(f"networks are trained on a SyntheticSet or on TrainingData, not on {type(given).__name__}")
    if protocol.reference:
        others = ", ".join(entry.name for entry in PROTOCOLS if not entry.reference)
        raise CondenseError(f"protocol {protocol.name} is for all real training images; a set goes by one of {others}")
    notes = [given.check_matches(data.info)]
    if given.info.mirror != data.mirror:
        notes.append(
            f"the set was made {_flips(given.info.mirror)}; networks are trained {_flips(data.mirror)} of it, as this "
            "data says; --mirror or --no-mirror decides"
        )
    if given.label_kind != "hard" and not _trains_on(protocol, given.stored_labels):
        made_for = "" if given.protocol is None else f"; the set was made for protocol {given.protocol}"
        notes.append(f"protocol {protocol.name} does not train on the {given.label_kind} labels of the set{made_for}")
    return tuple(note for note in notes if note is not None)


def _trains_on(protocol: Protocol, labels: Labels) -> bool:
    """Whether networks are trained on labels that a set has beside class indices."""
    match protocol.labels:
        case "hard":
            return False
        case "regression":
            return labels.values is not None
        case StaticLabels():
            return labels.probabilities is not None
        case TeacherLabels() as asked:
            return labels.soft_per == asked.per


def _flips(mirror: bool) -> str:
    return f"{'with' if mirror else 'without'} mirror images"


@dataclass(frozen=True)
class _Conditions:
    """What all networks of one evaluation share."""

    trained_on: TrainingSet
    test: TestData
    protocol: Protocol
    seed: int
    device: torch.device
    compile: Literal["auto", "on", "off"]
    progress: bool
    corruptions: bool

    @property
    def rule(self) -> TrainingRule:
        """The protocol's, at the set's own learning rate if the protocol says so."""
        rule, learned = self.protocol.rule, self.trained_on.learned_lr
        return rule.model_copy(update={"lr": learned}) if self.protocol.learned_lr and learned else rule

    @property
    def outputs(self) -> int:
        """Of networks: one for each class, or for each part of one."""
        return len(self.test.info.classes) * self.trained_on.parts


def _evaluate_one(name: str, runs: int, shared: _Conditions) -> NetworkResult:
    """Train and test `runs` networks called `name`."""
    started = time.perf_counter()
    tested: list[_Tested] = []
    engine = training_engine(
        name,
        shared.test.info,
        len(shared.trained_on.source),
        shared.rule,
        networks=runs,
        device=shared.device,
        compile=shared.compile,
        outputs=shared.outputs,
    )
    with progress_bar(f"evaluating {name}", runs, enabled=shared.progress, unit="networks") as bar:
        for index in range(runs):
            tested.append(_train_and_test(name, index, engine, shared))
            bar.update(index + 1, {"accuracy": tested[-1].accuracy})
    return NetworkResult(
        network=name,
        protocol=shared.protocol.name,
        protocol_hash=shared.protocol.hash,
        accuracies=tuple(one.accuracy for one in tested),
        diverged=tuple(index for index, one in enumerate(tested) if not one.learned),
        class_accuracies=_class_accuracies(tested, shared.test),
        seconds=time.perf_counter() - started,
        images=len(shared.trained_on.source),
        stored_images=shared.trained_on.stored_images,
        bytes=shared.trained_on.bytes,
        seed=shared.seed,
        label_source=shared.trained_on.label_source,
        in_class=shared.trained_on.in_class,
        weighted=shared.trained_on.weighted,
        training_seconds=sum(one.training_seconds for one in tested),
        calibration_error=complete_mean([one.calibration_error for one in tested]),
        corrupted={name: fmean(one.corrupted[name] for one in tested) for name in tested[0].corrupted},
        corruptions_hash=corruptions_hash() if shared.corruptions else None,
        lr=shared.rule.lr,
        preprocessing=shared.test.info.preprocessing.kind,
        compiled=engine.plan.compile == "on",
    )


@dataclass(frozen=True)
class _Tested:
    """A network's accuracy on the test images, how many of each class it has right, and whether it has learned.

    Its calibration error, None where a logit is not finite; accuracies on corrupted images by their names; seconds.
    """

    accuracy: float
    right: list[int]
    learned: bool  # its loss stayed finite, and it knows more than nothing
    calibration_error: float | None
    corrupted: dict[str, float]
    training_seconds: float


def _class_accuracies(tested: list[_Tested], test: TestData) -> dict[str, float]:
    counts = test.class_counts()
    return {
        name: fmean(one.right[label] / counts[label] for one in tested)
        for label, name in enumerate(test.info.classes)
        if counts[label]
    }


def _train_and_test(name: str, index: int, engine: Engine, shared: _Conditions) -> _Tested:
    """Network `index`, trained and tested."""
    info, device = shared.test.info, shared.device
    first, second = (derive_seed(shared.seed, f"evaluation {purpose}", index) for purpose in ("network", "training"))
    network = build_network(name, info.image_shape, shared.outputs, first)
    started = time.perf_counter()
    try:
        train_network(
            network,
            shared.trained_on.source,
            shared.rule,
            seed=second,
            device=device,
            engine=engine,
            progress=shared.progress,
        )
        finite = True
    except Diverged:
        finite = False
    training_seconds = time.perf_counter() - started
    tested = OfClasses(network, len(info.classes)) if shared.trained_on.parts > 1 else network
    logits, labels = predict(tested, shared.test, device), shared.test.labels
    found = answers(logits)
    right = found == labels
    answered, belong, correct = (
        torch.bincount(values, minlength=len(info.classes)).tolist()
        for values in (found[found >= 0], labels, labels[right])
    )
    learned = finite and better_than_chance(sum(correct), answered, belong)
    probable = shared.protocol.labels != "regression" and bool(logits.isfinite().all())
    error = calibration_error(torch.softmax(logits, 1), labels) if probable else None
    spoiled = corrupted_accuracies(tested, shared.test, device) if shared.corruptions else {}
    return _Tested(right.double().mean().item(), correct, learned, error, spoiled, training_seconds)
