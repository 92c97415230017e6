"""Protocols are frozen: their hashes are written down here, and what they cover and leave out is tried."""

import subprocess
import sys

import pytest

from condense.evaluation.protocols import PROTOCOLS, Protocol, StaticLabels, full
from condense.methods.registry import methods
from condense.runtime.errors import CondenseError
from condense.synthesizers.characteristic_matching import CharacteristicMatching, pretraining_rule
from condense.training.rule import TrainingRule

HASHES = {
    "demo": "e3424bfb4ea4",
    "desk": "752e800e93f4",
    "desk-plain": "354f50fc3dde",
    "desk-static": "eccf30615886",
    "desk-regression": "c39777aab68f",
    "fraction": "65d16de1e016",
    "fraction-weighted": "fc9527f63c1b",
    "desk-soft-hard": "2c270ca89d77",
    "desk-soft-static": "dc0ab78fbc5e",
    "desk-soft": "bf7c62f17ff3",
    "desk-soft-16": "83cc3b97b5e3",
    "dc": "68419e536746",
    "dc-mnist": "644b8c4422af",
    "dc-bn": "7e18a2b5fee2",
    "dsa": "26f6456df89a",
    "fyi": "9ea497925e25",
    "datadam": "3f4f180b59a4",
    "idc": "e9a8d62a0b02",
    "idc-mnist": "6559d956edee",
    "ncfm": "02d2df92a7bc",
    "ncfm-soft": "d5b60ad652dc",
    "ncfm-tiny-10": "4be8c6f7473c",
    "ncfm-tiny-50": "c21211714a8e",
    "regression": "d5ee27e3bf46",
    "rcig": "a57bef3a71dc",
    "mtt": "80399107d447",
    "sre2l-soft": "cbad60d1ebbe",
    "rded-soft": "d4e2b3b7b7d7",
    "rethink-hard": "cf37711b1aa1",
    "rethink-soft": "b53020f8e03e",
    "mtt-soft": "527709333426",
    "datm-soft": "3d483e24b3d5",
    "full": "38adb8010d6b",
}


def test_hashes_are_the_published_ones():
    """If this fails, published results no longer say what they were measured with: make a new protocol instead."""
    assert {protocol.name: protocol.hash for protocol in PROTOCOLS} == HASHES


def test_defaults_are_part_of_what_hashes_mean():
    """Hashes leave out defaults, so no default may change; new fields are welcome at the end of this dictionary."""
    assert TrainingRule(lr=1.0, batch_size=2, epochs=3).model_dump(mode="json") == {
        "optimizer": "sgd",
        "lr": 1.0,
        "momentum": 0.9,
        "weight_decay": 0.0,
        "batch_size": 2,
        "epochs": 3,
        "extra_epoch": False,
        "schedule": "constant",
        "restart_optimizer": False,
        "augmentation": None,
        "align_corners": False,
        "cutmix": 0.0,
        "drop_factor": 0.1,
        "decayed": "all",
        "updates": None,
        "more_updates": None,
        "warmup": 0,
        "last_rate": 0.0,
        "mixup": 0.0,
        "stretch": 1.0,
        "shuffled": True,
    }


def test_names_and_numbers_of_networks_are_not_hashed():
    desk = PROTOCOLS.find("desk")
    other = desk.model_copy(update={"name": "mine", "networks": 20, "summary": "", "aliases": ("x",)})
    assert other.hash == desk.hash


CHANGES = {
    "optimizer": "adamw",
    "lr": 0.02,
    "momentum": 0.8,
    "weight_decay": 1e-4,
    "decayed": "weights",
    "batch_size": 128,
    "epochs": 299,
    "extra_epoch": False,
    "schedule": "cosine",
    "restart_optimizer": False,
    "augmentation": None,
    "align_corners": True,
    "cutmix": 0.5,
    "drop_factor": 0.5,
    "updates": 100,
    "more_updates": (10, 200),
    "warmup": 5,
    "last_rate": 0.5,
    "mixup": 0.8,
    "stretch": 2.0,
    "shuffled": False,
}


def test_a_protocol_that_counts_updates_may_last_longer():
    fraction = PROTOCOLS.find("fraction")
    longer = fraction.lasting(1600)
    assert longer.rule == fraction.rule.model_copy(update={"updates": 1600})
    assert longer.hash != fraction.hash == fraction.lasting(800).hash
    assert PROTOCOLS.find("desk-regression").lasting(600).rule.updates_run(10**6) == 600
    for few in (0, -1):
        with pytest.raises(CondenseError, match="updates are too few: protocol fraction needs 1 or more"):
            fraction.lasting(few)
    with pytest.raises(CondenseError, match=r"desk counts epochs, not updates; those that do: .*fraction"):
        PROTOCOLS.find("desk").lasting(7)


def test_the_line_of_all_data_is_under_the_rule_of_the_column_where_that_counts_updates():
    longer = PROTOCOLS.find("fraction").lasting(1600)
    assert full(longer).hash == longer.hash
    assert full(longer).reference
    assert full("fraction-weighted").hash == full("fraction").hash
    assert full("desk").hash == full("desk-static").hash == "38adb8010d6b"
    assert full("desk-regression").rule == full("desk").rule


def test_every_field_of_the_rule_is_hashed():
    assert CHANGES.keys() == TrainingRule.model_fields.keys()
    desk = PROTOCOLS.find("desk")
    changed = [desk.model_copy(update={"rule": desk.rule.model_copy(update={name: CHANGES[name]})}) for name in CHANGES]
    assert len({protocol.hash for protocol in (desk, *changed)}) == len(CHANGES) + 1


def test_labels_and_network_rule_are_hashed():
    desk, static = PROTOCOLS.find("desk"), PROTOCOLS.find("desk-static")
    assert isinstance(static.labels, StaticLabels)
    others = [
        desk.model_copy(update={"network": "convnet-w64-bn"}),
        desk.model_copy(update={"learned_lr": True}),
        desk.model_copy(update={"weighted": True}),
        static.model_copy(update={"labels": static.labels.model_copy(update={"networks": 4})}),
        static.model_copy(
            update={"labels": StaticLabels(networks=3, training=static.labels.training.model_copy(update={"lr": 0.1}))}
        ),
        static.model_copy(update={"labels": static.labels.model_copy(update={"corrected": True})}),
        static.model_copy(update={"labels": static.labels.model_copy(update={"hard_epochs": 1})}),
    ]
    assert len({protocol.hash for protocol in (desk, static, *others)}) == 9


PUBLISHED = {"optimizer": "sgd", "lr": 0.01, "momentum": 0.9, "weight_decay": 5e-4, "decayed": "all", "batch_size": 256}
PUBLISHED |= {"align_corners": False, "cutmix": 0.0, "drop_factor": 0.1}
PUBLISHED |= {"updates": None, "more_updates": None, "warmup": 0, "last_rate": 0.0, "mixup": 0.0, "stretch": 1.0}
PUBLISHED |= {"shuffled": True}
DROP = {"extra_epoch": True, "schedule": "drop", "restart_optimizer": True}
MIXED = {"extra_epoch": False, "restart_optimizer": False, "augmentation": "dsa-flip-color-first", "cutmix": 0.5}
IDC = MIXED | {"schedule": "two-drops", "batch_size": 64, "epochs": 1000}
NCFM = MIXED | {"schedule": "fifths", "batch_size": 128, "optimizer": "adamw", "lr": 1e-3, "weight_decay": 0.01}


@pytest.mark.parametrize(
    ("name", "network", "networks", "rule"),
    [
        ("dc", "convnet-w128-in", 5, DROP | {"epochs": 300, "augmentation": None}),
        ("dc-mnist", "convnet-w128-in", 5, DROP | {"epochs": 1000, "augmentation": "dc-crop-scale-rotate"}),
        ("dc-bn", "convnet-w128-bn", 5, DROP | {"epochs": 1000, "augmentation": "dc-crop-noise"}),
        ("dsa", "convnet-w128-in", 5, DROP | {"epochs": 1000, "augmentation": "dsa"}),
        ("fyi", "convnet-w128-in", 5, DROP | {"epochs": 1000, "augmentation": "dsa-flip-first"}),
        ("datadam", "convnet-w128-in", 5, DROP | {"epochs": 1800, "augmentation": "dsa", "batch_size": 64}),
        ("idc", "convnet-w128-in", 5, IDC),
        ("idc-mnist", "convnet-w128-in", 5, IDC | {"cutmix": 0.0}),
        ("ncfm", "convnet-w128-in", 5, NCFM | {"epochs": 2000}),
        ("ncfm-soft", "convnet-w128-in", 5, NCFM | {"epochs": 2000}),
        ("ncfm-tiny-10", "convnet-w128-in", 5, NCFM | {"epochs": 300}),
        ("ncfm-tiny-50", "convnet-w128-in", 5, NCFM | {"epochs": 40}),
        ("demo", "convnet-w32-in", 3, DROP | {"epochs": 100, "augmentation": "dsa"}),
        ("desk", "convnet-w64-in", 3, DROP | {"epochs": 300, "augmentation": "dsa"}),
        ("desk-plain", "convnet-w64-in", 3, DROP | {"epochs": 300, "augmentation": None}),
        ("desk-static", "convnet-w64-in", 3, DROP | {"epochs": 300, "augmentation": "dsa"}),
    ],
)
def test_rules(name: str, network: str, networks: int, rule: dict[str, object]):
    protocol = PROTOCOLS.find(name)
    assert (protocol.network, protocol.networks, protocol.reference) == (network, networks, False)
    assert protocol.rule.model_dump(mode="json") == PUBLISHED | rule
    assert (protocol.labels == "hard") == (name not in ("desk-static", "ncfm-soft"))


def test_the_teacher_of_ncfm_is_one_of_its_own_networks():
    """It is trained as the networks in which the method matches, and corrected; the last epochs have hard labels."""
    labels = PROTOCOLS.find("ncfm-soft").labels
    assert isinstance(labels, StaticLabels)
    assert (labels.networks, labels.corrected, labels.hard_epochs) == (1, True, 101)
    assert labels.training == pretraining_rule(CharacteristicMatching.Settings())


def test_methods_name_the_protocol_of_their_paper():
    for name in ("dc", "dsa", "datadam", "idc", "ncfm", "mtt"):
        assert methods().find(name).protocol == name
    for method in methods():
        for protocol in (method.protocol, method.soft_protocol):
            assert protocol is None or PROTOCOLS.find(protocol).name == protocol


def test_full_takes_its_network_from_the_column_beside_it():
    wide = full("dsa")
    assert (wide.name, wide.network, wide.networks, wide.labels) == ("full", "convnet-w128-in", 1, "hard")
    rule = wide.rule
    assert (rule.lr, rule.momentum, rule.weight_decay, rule.batch_size) == (0.05, 0.9, 5e-4, 128)
    assert (rule.schedule, rule.epochs_run(60_000), rule.augmentation) == ("cosine", 20, "dsa")
    assert full(PROTOCOLS.find("desk")).hash == full("desk").hash != wide.hash
    assert full("desk") == PROTOCOLS.find("full")


def test_regression_is_trained_as_its_table_says():
    """Batches of min(n, 100), 1,000 updates up to 50 images, else 2,000; Adam from 0 to 3e-4 in 500, then to 3e-6."""
    desk = PROTOCOLS.find("desk-regression")
    assert (desk.network, desk.networks, desk.labels) == ("convnet-w64-nonorm", 3, "regression")
    rule = desk.rule
    assert (rule.optimizer, rule.batch_size, rule.weight_decay, rule.augmentation) == ("adam", 100, 0.0, "dsa")
    assert [rule.updates_run(images) for images in (1, 10, 50, 51, 500, 50_000)] == [1000] * 3 + [2000] * 3
    for updates in (1000, 2000):
        rates = [rule.update_rate(update, updates) for update in range(updates + 1)]
        assert rates[0] == 0
        assert max(rates) == rates[500] == 3e-4
        assert rates[250] == pytest.approx(1.5e-4)
        assert rates[(500 + updates) // 2] == pytest.approx((3e-4 + 3e-6) / 2)
        assert rates[updates] == pytest.approx(3e-6)


def test_regression_has_the_updates_of_frepo_for_every_size_of_its_tables():
    rule = PROTOCOLS.find("regression").rule
    published = {10: 1000, 100: 2000, 200: 20_000, 400: 5000, 500: 5000, 1000: 10_000, 2000: 40_000, 5000: 40_000}
    assert {images: rule.updates_run(images) for images in published} == published
    assert (rule.optimizer, rule.lr, rule.warmup, rule.batch_size) == ("adam", 3e-4, 500, 500)
    assert rule.update_rate(2000, 2000) == pytest.approx(3e-6)
    assert (rule.augmentation, rule.shuffled, rule.weight_decay) == ("mild", False, 0.0)
    assert PROTOCOLS.find("regression").network == "conv-w128-nonorm"


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, "give one of epochs and updates"),
        ({"epochs": 3, "updates": 5}, "give one of epochs and updates"),
        ({"epochs": 3, "warmup": 5}, "warmup and more_updates count updates"),
        ({"epochs": 3, "more_updates": (5, 6)}, "warmup and more_updates count updates"),
        ({"updates": 3, "schedule": "drop"}, "schedule drop and extra_epoch count epochs"),
        ({"updates": 3, "extra_epoch": True}, "count epochs"),
        ({"updates": 3, "more_updates": (5, 0)}, "greater than 0"),
        ({"updates": 3, "more_updates": (5, 6, 7)}, "more_updates are pairs of images and updates"),
        ({"updates": 3, "more_updates": (5, 6, 5, 7)}, "with ascending numbers of images"),
    ],
)
def test_a_training_is_as_long_as_its_epochs_or_its_updates(values: dict, message: str):
    with pytest.raises(ValueError, match=message):
        TrainingRule(lr=1.0, batch_size=2, **values)


def test_unknown_protocol():
    with pytest.raises(CondenseError, match=r"unknown protocol 'dsk'.*did you mean desk"):
        full("dsk")


def test_protocols_are_closed():
    values = PROTOCOLS.find("desk").model_dump()
    assert Protocol(**values) == PROTOCOLS.find("desk")
    with pytest.raises(ValueError, match="epochs"):
        Protocol(**values, epochs=3)


def test_listing_does_not_import_torch():
    code = "import sys, condense.evaluation; assert 'torch' not in sys.modules; condense.evaluation.PROTOCOLS.names()"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_protocol_of_rcig():
    """`eval.py` of the released code, without augmentation: images are counted with their mirror images here."""
    protocol = PROTOCOLS.find("rcig")
    rule = protocol.rule
    assert (protocol.network, protocol.labels, protocol.networks) == ("conv-w128-nonorm", "regression", 5)
    assert protocol.mirrored
    assert [rule.updates_run(2 * images) for images in (10, 100, 500)] == [1000, 2000, 2000]
    assert rule.augmentation is None
    assert [rule.update_rate(update, 2000) for update in (0, 250, 500, 2000)] == pytest.approx([0, 5e-5, 1e-4, 1e-6])
    assert rule.batch_size == 256
