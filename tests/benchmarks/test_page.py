"""What a page says, and how it is written, from records whose numbers are made up."""

from __future__ import annotations

import csv
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
import torch

from benchmarks.page import Panel, write_page
from benchmarks.page import writer as writing
from benchmarks.page.beside import as_latex, latex
from benchmarks.page.budgets import equal_budgets, front
from benchmarks.page.charts import charts
from benchmarks.page.columns import COLUMNS, Cell, cells_of
from benchmarks.page.comparing import comparisons
from benchmarks.page.content import budgets
from benchmarks.page.details import details
from benchmarks.page.galleries import galleries, read_sprite
from benchmarks.page.one_set import write_set_page
from benchmarks.pictures import write_sprite
from benchmarks.published import Entry
from condense import distill, load_data

HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)> & \"'\u202e{{ 7 * 7 }}"


class Tags(HTMLParser):
    """The tags of a page with their attributes, and the text of its JSON."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        if self.found and self.found[-1][0] == "script":
            self.scripts.append(data)

    @property
    def content(self) -> dict:
        return json.loads(self.scripts[0])


def written(records, folder: Path, **options) -> str:
    return write_page(records, folder, **({"public": False} | options)).read_text(encoding="utf-8")


def cell(table, entry, name: str):
    return cells_of(table, COLUMNS)[table.entries.index(entry)][[column.name for column in COLUMNS].index(name)]


def test_tables_never_mix_data_sizes_hashes_or_networks(make_record, tmp_path: Path):
    records = [
        make_record(),
        make_record("random"),
        make_record(protocol_hash="b" * 12),
        make_record(ipc=2),
        make_record(data="mnist"),
        make_record(ipc=None, fraction=0.1),
    ]
    tables = comparisons(records)
    places = [(table.data, str(table.size), table.protocol_hash, table.network) for table in tables]
    assert len(tables) == len(set(places)) == 5
    assert [len(table.entries) for table in tables] == [2, 1, 1, 1, 1]
    for table in tables:
        for entry in table.entries:
            assert {record.protocol_hash for record in entry.score.records} == {table.protocol_hash}
    page = Tags(written(records, tmp_path))
    assert sum(tag == "article" for tag, _ in page.found) == 5
    assert len(page.content["charts"]) == 3  # the sizes of one data set, protocol and network share axes


def test_a_row_is_the_mean_over_all_networks_on_all_sets(make_record):
    (table,) = comparisons([make_record("random", (0.2, 0.4), seed=seed) for seed in range(3)])
    (entry,) = table.entries
    assert cell(table, entry, "accuracy").text == "30.0 ± 11.0"
    assert cell(table, entry, "networks").text == "3 x 2"


def test_gains_are_claimed_only_where_the_interval_leaves_out_zero(make_record):
    records = [
        make_record("random", (0.40, 0.42, 0.41)),
        make_record("dm", (0.60, 0.62, 0.61)),
        make_record("dsa", (0.10, 0.90, 0.50)),
        make_record("herding", (0.30, 0.31, 0.30)),
        make_record("idc", (0.7,)),
    ]
    (table,) = comparisons(records)
    gains = {entry.name: cell(table, entry, "gain") for entry in table.entries}
    assert {name: gain.verdict for name, gain in gains.items()} == {
        "dm": "better",
        "dsa": "",
        "herding": "worse",
        "idc": "",  # one network has no interval
        "random": "",
    }
    assert re.fullmatch(r"\+20\.0 \[1\d\.\d, 2\d\.\d\]", gains["dm"].text)
    assert (gains["idc"].text, gains["random"].text) == ("+29.0", "")


def test_rows_are_ranked_and_gain_only_among_those_with_the_same_labels(make_record):
    (table,) = comparisons([make_record("random", (0.4, 0.41)), make_record("dm", (0.6, 0.61))])
    ranks = {entry.name: table.ranks[entry.key] for entry in table.entries}
    assert ranks == {"dm": (1.0, (1, 1)), "random": (2.0, (2, 2))}
    (alone,) = comparisons([make_record()])
    assert set(alone.ranks.values()) == {None}
    assert cell(alone, alone.entries[0], "gain").text == ""


def test_sets_that_store_mosaics_are_also_compared_with_mosaics_of_random_images(make_record):
    mosaics = {"images": 40, "stored_images": 10}
    records = [
        make_record("random", (0.40, 0.41)),
        make_record("random", (0.60, 0.61), settings={"factor": 2}, options={"factor": 2}, **mosaics),
        make_record("idm", (0.50, 0.51), **mosaics),
        make_record("dm", (0.55, 0.56)),
    ]
    (table,) = comparisons(records)
    shown = {
        entry.name: [cell(table, entry, name).text[:5] for name in ("gain", "matched_gain")] for entry in table.entries
    }
    assert shown == {
        "random (factor 2)": ["+20.0", ""],
        "idm": ["+10.0", "-10.0"],
        "dm": ["+15.0", ""],
        "random": ["", ""],
    }


def test_seconds_beside_other_work_are_no_budget(make_record):
    (table,) = comparisons([make_record("dm", shared=True), make_record("dsa")])
    (budget,) = table.shared("minutes")
    assert set(budget.ranks) == {entry.key for entry in table.entries if entry.name == "dsa"}
    badges = {entry.name: [badge.text for badge in details(entry, table).badges] for entry in table.entries}
    assert badges == {"dm": ["shared machine"], "dsa": []}


def test_budgets_within_five_percent_are_ranked_together_and_others_are_not(make_record):
    costs = {"a": 100.0, "b": 105.0, "c": 105.2, "d": 300.0, "free": 0.0}
    found = {each.value: each.members for each in equal_budgets(costs)}
    assert found[105.0] == ("a", "b", "c")  # 100 is within 5 % of 105; 105.2 is not within 5 % of 100
    assert found[100.0] == ("a", "b")
    assert found[300.0] == ("d",)
    assert not any("free" in members for members in found.values())

    records = [
        make_record("dm", (0.5, 0.51), bytes=1000, iterations=500),
        make_record("dsa", (0.6, 0.61), bytes=1040, iterations=900),
        make_record("idm", (0.9, 0.91), bytes=5000),
    ]
    (table,) = comparisons(records)
    keys = {entry.name: entry.key for entry in table.entries}
    first = budgets(table)["bytes"][0]
    assert first["ranks"] == {keys["dsa"]: ["1 [1, 1]", 1.0], keys["dm"]: ["2 [2, 2]", 2.0]}
    assert [set(each["ranks"]) for each in budgets(table)["updates"]] == [{keys["dm"]}, {keys["dsa"]}]
    assert len(budgets(table)["minutes"][0]["ranks"]) == 3


def test_the_front_has_what_nothing_cheaper_is_better_than(make_record):
    assert front([]) == []
    assert front([(1.0, 0.5), (1.0, 0.5), (2.0, 0.5), (3.0, 0.4), (4.0, 0.6)]) == [0, 4]
    records = [make_record(ipc=1), make_record("dsa", (0.4, 0.41), ipc=2), make_record("idm", (0.7, 0.71), ipc=2)]
    (group,) = charts(comparisons(records))
    lines = {line.cells[0]: line.cells[-1] for line in group.charts[0].lines}
    assert lines == {"dm": "yes", "dsa": "no", "idm": "yes"}
    assert group.charts[0].figure["data"][-1]["x"] == [1, 2]


def test_names_cannot_break_out_of_the_page(make_record, tmp_path: Path, draw_pictures):
    records = [
        make_record(data=HOSTILE, options={HOSTILE: HOSTILE}, notes=(HOSTILE,), curves={HOSTILE: (1.0, 2.0)}),
        make_record("dm", data=HOSTILE, class_accuracies={HOSTILE: 0.5, "other": 0.4}, label_source=HOSTILE),
        make_record("dc", data=HOSTILE, machine=HOSTILE, failed=True),
    ]
    draw_pictures(records[1], tmp_path)
    panel = Panel(HOSTILE, (HOSTILE,), ((HOSTILE,),), HOSTILE)
    page = written(records, tmp_path, panels=[panel], title=HOSTILE)
    tags = Tags(page)
    assert sum(tag == "script" for tag, _ in tags.found) == 3  # content, plotly, ours
    assert not any(tag == "img" for tag, _ in tags.found)
    assert not any(name.startswith("on") for _, attributes in tags.found for name in attributes)
    assert "\u202e" not in page
    assert "{{ 7 * 7 }}" in page
    assert any(HOSTILE[:9] in name for name in tags.content["charts"][0]["title"].split(": "))
    figures = [json.dumps(chart["figure"]) for chart in tags.content["charts"][0]["charts"]]
    assert not any("<script" in figure for figure in figures)  # whose texts plotly reads as HTML


def test_the_page_asks_for_nothing_and_runs_only_its_own_scripts(make_record, tmp_path: Path):
    tags = Tags(written([make_record()], tmp_path))
    for tag, attributes in tags.found:
        for name in ("src", "href"):
            link = attributes.get(name) or ""
            assert link.startswith(("#", "data:")) or re.fullmatch(r"results\.\w+", link) or not link, (tag, link)
    policy = next(attributes["content"] for _, attributes in tags.found if "http-equiv" in attributes)
    assert policy is not None
    assert "default-src 'none'" in policy
    assert policy.count("'sha256-") == 2


def test_the_largest_galleries_go_first_where_a_page_would_be_too_large(
    make_record, draw_pictures, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    records = [make_record("dm"), make_record("dsa"), make_record("idm")]
    for record, per_class in zip(records, (10, 2, 4), strict=True):
        draw_pictures(record, tmp_path, per_class=per_class)
    found = galleries(comparisons(records), tmp_path, public=True)
    largest = max(found, key=lambda each: each.size)
    assert largest.title == "dm"
    size = len(written(records, tmp_path).encode())
    assert not capsys.readouterr().err

    limit = size - 100
    monkeypatch.setattr(writing, "LIMIT", limit)
    page = written(records, tmp_path)
    assert len(page.encode()) <= limit
    assert [each["title"] for each in Tags(page).content["galleries"]] == ["dsa", "idm"]
    assert "<li>dm (digits, 1 per class)</li>" in page
    assert "without the pictures of dm (digits, 1 per class)" in capsys.readouterr().err

    monkeypatch.setattr(writing, "LIMIT", 1000)
    assert Tags(written(records, tmp_path)).content["galleries"] == []
    assert "too many records for one page" in capsys.readouterr().err


def test_a_published_page_has_only_pictures_that_lie_with_the_records(make_record, draw_pictures, tmp_path: Path):
    public, private = make_record("dm", nearest=tuple((7, 0.25) for _ in range(20))), make_record("random")
    draw_pictures(public, tmp_path)
    draw_pictures(private, tmp_path, published=False)
    tables = comparisons([public, private])
    shown = galleries(tables, tmp_path, public=True)
    assert [gallery.title for gallery in shown] == ["dm"]
    assert shown[0].nearest[0] == (7, 0.25)
    assert shown[0].licence == "CC BY 4.0"
    assert {gallery.title for gallery in galleries(tables, tmp_path, public=False)} == {"dm", "random"}


def test_tiles_without_an_image_are_not_shown(tmp_path: Path):
    draws = torch.Generator().manual_seed(0)
    for side in (8, 16, 40):
        rows = [torch.rand(count, 3, side, side, generator=draws) for count in (3, 1, 2)]
        write_sprite(rows, tmp_path / "sprite.webp")
        sprite = read_sprite((tmp_path / "sprite.webp").read_bytes(), (side, side), even=False)
        assert (sprite.counts, sprite.columns, sprite.tile) == ((3, 1, 2), 3, (side, side))


def test_old_records_have_a_page_that_says_what_is_not_stored(make_record, tmp_path: Path):
    old = make_record(made_with=False, stored_images=None, label_source=None)
    page = written([old], tmp_path)
    content = Tags(page).content
    assert content["charts"][0]["missing"] == ["learning curves", "accuracy by class"]
    assert content["galleries"] == []
    assert "<p>Not stored.</p>" in page
    assert "<dd>not stored</dd>" in page  # the digest of the file


def test_an_opened_row_says_how_it_is_made_again_and_what_is_particular_about_it(make_record):
    settings = {"iterations": 500, "image_lr": 2.0, "network": "convnet-w128-in"}
    records = [
        make_record("dm", settings=settings, iterations=300, notes=("slow",), set_digest="d1", recipe="desk"),
        make_record("dsa"),
        make_record("herding", machine="quill", weighted=True),
        make_record("idm", images=40, label_source="own: one soft label per image (kl, teacher t 1)"),
    ]
    printed = Entry(
        data="digits", ipc=1, method="dm", accuracy=71.0, source="A paper", tag="authors", selected_on_test=True
    )
    (table,) = comparisons(records, lambda data, ipc, method: [printed] if method == "dm" else [])
    opened = {entry.name: details(entry, table) for entry in table.entries}
    dm = opened["dm"]
    assert dm.commands[0] == (
        "condense distill dm --data digits --no-mirror --ipc 1 --seed 0 --iterations 300 --image-lr 2.0 "
        "--network convnet-w128-in --device cpu --out set.h5",
        "condense evaluate set.h5 --data digits --protocol desk --nets convnet --runs 3",
    )
    shown = {setting.name: (setting.here, setting.published) for setting in dm.settings}
    assert shown["image_lr"] == ("2", "1")
    assert shown["iterations"] == ("300", "20000")
    assert dm.printed == ("71 %: A paper (authors); selected on test",)
    shown = {entry.name: cell(table, entry, "published") for entry in table.entries}
    assert (shown["dm"], shown["dsa"]) == (Cell("71 (authors; selected on test)", 71.0), Cell("", None))
    assert ("digest of the file", "d1") in dm.facts
    assert dm.notes == ("slow",)
    assert json.loads(dm.records)[0]["key"] == records[0].key
    badges = {name: [badge.text for badge in each.badges] for name, each in opened.items()}
    assert badges == {
        "dm": ["fewer updates"],
        "dsa": [],
        "herding": ["weighted", "other machine"],
        "idm": ["teacher labels", "mosaics"],
    }


def test_csv_json_markdown_and_latex_have_the_tables_of_the_page(make_record, tmp_path: Path):
    records = [make_record("random", (0.4, 0.41)), make_record("dm", options={"a_b": "50%"}), make_record(ipc=2)]
    write_page(records, tmp_path, public=True)
    report = tmp_path / "report"
    with (report / "results.csv").open(encoding="utf-8") as file:
        lines = list(csv.DictReader(file))
    assert [(line["ipc"], line["method"]) for line in lines] == [("1", "dm (a_b 50%)"), ("1", "random"), ("2", "dm")]
    assert float(lines[0]["gain"]) == pytest.approx(10.5)
    assert float(lines[0]["gain_low"]) > 0
    content = json.loads((report / "results.json").read_text(encoding="utf-8"))
    assert content["tables"][0]["rows"][1]["accuracies"] == [[0.4, 0.41]]
    text = (report / "results.md").read_text(encoding="utf-8")
    assert "## digits, 1 per class: desk (aaaaaaaaaaaa), convnet-d2-w64-in; labels: class index; made on abacus" in text
    assert "| dm (a_b 50%) | 51.0 ± 1.0 | 1 x 3 |" in text
    tex = (report / "results.tex").read_text(encoding="utf-8")
    assert r"dm (a\_b 50\%) & 51.0 $\pm$ 1.0 & 1 x 3 & \textbf{+10.5 [" in tex
    assert tex.count(r"\toprule") == tex.count(r"\end{tabular}") == 2


def test_latex_sets_every_name_as_it_is(make_record):
    assert latex(r"a\b{c}$&#^_~%<>|") == (
        r"a\textbackslash{}b\{c\}\$\&\#\textasciicircum{}\_\textasciitilde{}\%\textless{}\textgreater{}\textbar{}"
    )
    (table,) = comparisons([make_record(data=HOSTILE)])
    assert "\u202e" not in as_latex(table)


def test_references_failures_and_panels_have_places_of_their_own(make_record, tmp_path: Path):
    records = [make_record(), make_record("dsa", failed=True), make_record(None, (0.9, 0.92))]
    page = written(
        records, tmp_path, panels=[Panel("Privacy", ("attack", "AUC"), (("loss", "0.51"),)), Panel("", (), ())]
    )
    assert "training images give 91.0 %" in " ".join(page.split())
    assert "it broke" in page
    assert 'href="#panel-1">Privacy</a>' in page
    assert "#panel-2" not in page
    assert "No set has been scored yet" in written([make_record(failed=True)], tmp_path)


def test_a_set_has_a_page_of_its_own(tmp_path: Path):
    synthetic = distill("dm", load_data("digits"), ipc=1, iterations=2, network="convnet-w8-in")
    write_set_page(synthetic, tmp_path / "set.html", HOSTILE)
    page = (tmp_path / "set.html").read_text(encoding="utf-8")
    tags = Tags(page)
    assert "condense distill dm --data digits" in page
    assert [chart["title"] for chart in tags.content["charts"][0]["charts"]] == ["Learning curve: loss"]
    assert tags.content["galleries"][0]["names"] == list(synthetic.info.classes)
    assert not any(tag == "img" for tag, _ in tags.found)
    chosen = distill("random", load_data("digits"), ipc=1)
    write_set_page(chosen, tmp_path / "chosen.html", "chosen.h5")
    assert "The set keeps none." in (tmp_path / "chosen.html").read_text(encoding="utf-8")
