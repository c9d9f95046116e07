from __future__ import annotations

import base64
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import matplotlib.image
import numpy as np
import pytest

from edgeasd.common.errors import StorageError
from edgeasd.detect.features import FeatureSpec
from tests.train.toy import write_clip
from train.data.datasets import read_clips
from train.report.page import ReportInput, write_report
from train.report.plots import ScoredClip, of_group
from train.scoring.metrics import Measures, measure

PICTURES = ["scores", "roc", "embeddings", "missed", "false_alarms", "losses"]
HOSTILE = "<img src=x onerror=alert(1)>&$x^{$"
HISTORY = [
    {
        "epoch": epoch,
        "learning_rate": 1e-3,
        "loss": 1.0 - epoch,
        "contrastive": -1.0 * epoch,
        "seconds": 2.0,
        "windows_per_s": 9.0,
    }
    for epoch in (1, 2, 3)
]


class Page(HTMLParser):
    """Images, cells, and tags left open of a page."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.images: list[bytes] = []
        self.text: list[str] = []
        self.tags: set[str] = set()
        self._open: list[str] = []
        self.feed(path.read_text(encoding="utf-8"))
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        if tag == "img":
            head, _, content = (dict(attrs)["src"] or "").partition(",")
            assert head == "data:image/png;base64"
            self.images.append(base64.b64decode(content, validate=True))
        elif tag != "meta":
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if data.strip():
            self.text.append(data.strip())


@pytest.fixture(scope="module")
def report(toy_data: Path) -> ReportInput:
    """Clips of two sections in two domains, with seeded scores and embeddings."""
    rng = np.random.default_rng(2021)
    clips = [
        ScoredClip(
            clip,
            float(rng.normal(2.0 * (clip.label == "anomaly"))),
            rng.normal(clip.label == "anomaly", size=8).astype(np.float32),
        )
        for clip in read_clips(toy_data).clips
    ]
    tests = [one for one in clips if one.clip.split == "test"]
    scores = [one.score for one in tests]
    measures = measure([one.clip for one in tests], scores, [score >= 1.0 for score in scores])
    return ReportInput(
        title="toy, toy_fan, seed 7",
        facts={"commit": "0123abcd", "clips": "44"},
        recipe='name = "toy"\n',
        history=HISTORY,
        measures=measures,
        thresholds={"00": 1.0, "01": 1.0},
        train=[one for one in clips if one.clip.split == "train"],
        tests=tests,
        features=FeatureSpec(),
    )


@pytest.fixture(scope="module")
def written(report: ReportInput, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of the whole report."""
    return write_report(tmp_path_factory.mktemp("run"), report)


@pytest.mark.parametrize("name", PICTURES)
def test_report_picture_is_not_blank(written: Path, name: str) -> None:
    """Every picture is a PNG file in which something is drawn."""
    image = matplotlib.image.imread(written.parent / "report" / f"{name}.png")

    assert image.shape[1] <= 1080
    assert np.mean(np.any(image[..., :3] < 0.9, axis=-1)) > 0.005


def test_report_page_holds_every_picture(written: Path) -> None:
    """The page needs no other file: the pictures beside it are in it, in order."""
    files = [written.parent / "report" / f"{name}.png" for name in PICTURES]

    assert Page(written).images == [path.read_bytes() for path in files]
    assert sorted((written.parent / "report").iterdir()) == sorted(files)
    assert not re.search(r'(src|href)="(?!data:)', written.read_text(encoding="utf-8"))


def test_report_page_holds_facts_and_measures(written: Path, report: ReportInput) -> None:
    """Facts, each measure with three decimals, thresholds and the recipe are on the page."""
    text = Page(written).text

    assert text[0] == report.title
    assert text[text.index("commit") + 1] == "0123abcd"
    one = report.measures[1]
    numbers = [one.auc, one.pauc, one.precision, one.recall, one.f1, 1.0]
    row = ["00", "target", "2", "2", *(f"{value:.3f}" for value in numbers)]
    start = next(i for i, cell in enumerate(text) if text[i : i + 2] == row[:2])
    assert text[start : start + len(row)] == row
    assert text[-1] == report.recipe.strip()


def test_report_same_input_gives_same_bytes(
    written: Path, report: ReportInput, tmp_path: Path
) -> None:
    """Two reports of one run do not differ."""
    again = write_report(tmp_path, report)

    assert again.read_bytes() == written.read_bytes()


def test_report_hostile_names_are_escaped(report: ReportInput, tmp_path: Path) -> None:
    """A name of a file, section or fact is text: no markup, and no formula in a picture."""
    write_clip(tmp_path / f"{HOSTILE}.wav", 5, faulty=True)
    clip = replace(
        report.tests[0].clip, path=tmp_path / f"{HOSTILE}.wav", section=HOSTILE, label="anomaly"
    )
    hostile = replace(
        report,
        title=HOSTILE,
        facts={HOSTILE: HOSTILE},
        recipe=HOSTILE,
        thresholds={**report.thresholds, HOSTILE: 1.0},
        tests=[*report.tests, ScoredClip(clip, -100.0, report.tests[0].embedding)],
    )

    page = Page(write_report(tmp_path / "run", hostile))

    assert page.text.count(HOSTILE) >= 5
    assert f"{HOSTILE}.wav" in page.text
    assert len(page.images) == len(PICTURES)
    assert "script" not in page.tags


def test_report_clip_that_is_gone_is_named(report: ReportInput, tmp_path: Path) -> None:
    """A test clip that cannot be read is named with the reason, even if that is no Unicode."""
    clip = replace(report.tests[0].clip, path=tmp_path / "gone\udcff.wav", label="anomaly")
    gone = ScoredClip(clip, -100.0, report.tests[0].embedding)

    page = Page(write_report(tmp_path, replace(report, tests=[*report.tests, gone])))

    assert f"Not drawn: {tmp_path}/gone\\udcff.wav: does not exist; check the path" in page.text
    assert len(page.images) == len(PICTURES)


def test_report_of_bare_input_is_written(report: ReportInput, tmp_path: Path) -> None:
    """Nothing trained, measured or tested gives a page without pictures, and removes old ones."""
    bare = replace(report, history=[], measures=[], thresholds={}, train=[], tests=[])
    write_report(tmp_path, report)

    page = Page(write_report(tmp_path, bare))

    assert page.images == []
    assert list((tmp_path / "report").iterdir()) == []


def test_report_values_that_are_not_finite_are_left_out(
    report: ReportInput, tmp_path: Path
) -> None:
    """A score, embedding, threshold or measure that is no number spoils no picture."""
    spoilt = [
        ScoredClip(one.clip, value, np.full_like(one.embedding, value))
        for one, value in zip(report.tests, (np.nan, np.inf, -np.inf), strict=False)
    ]
    nowhere = Measures("01", "target", 2, 2, np.nan, np.nan, 0.0, 0.0, 0.0)
    changed = replace(
        report,
        measures=[*report.measures[:3], nowhere],
        thresholds={"00": 1.0, "01": np.nan},
        tests=[*spoilt, *report.tests[3:]],
    )

    page = Page(write_report(tmp_path, changed))

    assert len(page.images) == len(PICTURES)
    assert "nan" in page.text


def test_report_of_one_section_and_domain_with_one_epoch_is_written(
    report: ReportInput, tmp_path: Path
) -> None:
    """One section without a target domain, trained for one epoch, has every picture."""
    small = replace(
        report,
        history=HISTORY[:1],
        thresholds={"00": 1.0},
        train=of_group(report.train, "00", "source"),
        tests=of_group(report.tests, "00", "source"),
    )

    assert len(Page(write_report(tmp_path, small)).images) == len(PICTURES)


def test_report_of_a_section_without_test_clips_says_so(
    report: ReportInput, tmp_path: Path
) -> None:
    """A section that is trained but not tested is named, and does not hinder the others."""
    tests = [one for one in report.tests if one.clip.section == "00"]
    measures = [one for one in report.measures if one.section == "00"]

    page = Page(write_report(tmp_path, replace(report, tests=tests, measures=measures)))

    assert len(page.images) == len(PICTURES)
    assert "Not tested: section 01." in page.text


def test_report_of_normal_test_clips_alone_is_written(report: ReportInput, tmp_path: Path) -> None:
    """Without anomalies there are false alarms to see, and nothing that was missed."""
    tests = [one for one in report.tests if one.clip.label == "normal"]

    page = Page(write_report(tmp_path, replace(report, tests=tests, measures=[])))

    assert len(page.images) == len(PICTURES) - 1
    assert "Nothing was measured." in page.text


def test_report_folder_that_is_a_file_is_refused(report: ReportInput, tmp_path: Path) -> None:
    """A report that cannot be written is an error that names the place."""
    (tmp_path / "report").write_text("", encoding="utf-8")

    with pytest.raises(StorageError, match=r"report/scores\.png: cannot be written"):
        write_report(tmp_path, report)
