"""The report: one page that says every number, escapes what files hold, and loads nothing."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from posteriors import make_posterior
from test_shown import EVIL, envelope, information, policy, predicted, realised

from cascade_bayes import InputError
from cascade_bayes._kinds import REPORT
from cascade_bayes._output import Output
from cascade_bayes.data import CascadeData
from cascade_bayes.inference.checks.result import ABOUT, ADVICE, CheckResult, Finding
from cascade_bayes.inference.posterior import Posterior
from cascade_bayes.policy.expected import Evaluation, Prediction
from cascade_bayes.policy.terms import Terms
from cascade_bayes.reporting.facts import Facts
from cascade_bayes.reporting.page import make_page
from cascade_bayes.reporting.pictures import threshold_pictures
from cascade_bayes.reporting.words import recommendation, steps
from cascade_bayes.reporting.write import asked_question, report
from cascade_bayes.verdict import FitVerdict

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
NEEDS_CHROMIUM = pytest.mark.skipif(
    CHROMIUM is None, reason="no chromium on PATH: `apt-get install chromium` to look at the report"
)
VOID = {"meta", "link", "br", "img", "hr", "input"}
LOADING = {"src", "srcset", "href", "xlink:href", "data", "action", "poster", "background"}


def evil_posterior() -> Posterior:
    """A posterior whose names of models, and verdict, want to run a script."""
    one = make_posterior()
    data = replace(one.data, models=(EVIL, "large", "<img src=x onerror=alert(2)>"))
    return replace(one, data=data, recorded_verdict=FitVerdict(False, f"{EVIL} did not converge."))


def made(**changes: object) -> Facts:
    """The facts of a report, none of which took a computation."""
    posterior = evil_posterior()
    findings = (
        Finding("calibration", EVIL, True, "right", {}, 0.5),
        Finding("copulas", EVIL, False, f"{EVIL} off", {}, 1e-6),
    )
    draws = np.random.default_rng(0).choice(
        [-0.9, -0.7, -0.6, -0.5, -0.45, -0.4, -0.3, -0.2, -0.1, -0.05], 60
    )
    chosen = policy(draw_thresholds=draws[:, None], fit_digest=posterior.digest())
    swept = envelope(9)
    swept = replace(swept, context=swept.context | {"fit_digest": posterior.digest()})
    entries: dict = {
        "posterior": posterior,
        "policy": chosen,
        "asked": True,
        "swept": swept,
        "rivals": {"single": None},
        "alone": {name: Prediction.of_draws(predicted(models=1)) for name in posterior.models},
        "checks": CheckResult(findings, 0.01),
        "worth": information(),
        "evaluation": Evaluation(chosen.prediction, realised(), 0.01),
        "realised": [
            {"realised_cost": 0.15, "realised_error": 0.2, "realised_error_se": 0.01, "num_queries": 40}
        ]
        * 9,
        "num_draws": 8,
        "seed": 0,
    }
    return Facts(**entries | changes)


@pytest.fixture(scope="module")
def facts() -> Facts:
    return made()


@pytest.fixture(scope="module")
def page(facts: Facts) -> str:
    return make_page(facts)


class Reader(HTMLParser):
    """Collects tags, attributes and text; complains of elements that are not closed as they were opened."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: set[str] = set()
        self.attributes: list[tuple[str, str]] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list) -> None:
        self.seen.add(tag)
        self.attributes += attrs
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list) -> None:
        self.seen.add(tag)
        self.attributes += attrs

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open[-1:] != ["style"]:
            self.text.append(data)


def parsed(page: str) -> Reader:
    reader = Reader()
    reader.feed(page)
    assert not reader.open
    return reader


def test_nothing_is_loaded_and_no_script_is_there(page: str) -> None:
    reader = parsed(page)
    assert not {"script", "img", "iframe", "object", "embed", "form"} & reader.seen
    links = [value for name, value in reader.attributes if name in LOADING]
    assert links
    assert all(value.startswith(("#", "data:,")) for value in links)
    assert not [name for name, _ in reader.attributes if name.startswith("on")]
    assert not re.search(r"@import|url\((?!#)", page)
    assert "default-src 'none'" in page


def test_names_from_files_are_escaped_everywhere(page: str) -> None:
    reader = parsed(page)
    text = "".join(reader.text)
    assert EVIL in text  # what a reader sees is the name
    assert EVIL not in page
    assert "onerror=alert" not in page.replace("&lt;img src=x onerror=alert", "")
    assert page.count("&lt;script&gt;alert(1)&lt;/script&gt;") > 10


def test_pictures_keep_their_names_to_themselves(page: str) -> None:
    names = [value for name, value in parsed(page).attributes if name == "id"]
    assert len(names) == len(set(names))
    referred = re.findall(r'(?:href="|url\()#([\w-]+)', page)
    assert set(referred) <= set(names)
    assert page.count("<svg") == 3 + 1 + 1  # three models, the frontier, one threshold


def test_every_number_is_found(page: str, facts: Facts) -> None:
    text = " ".join("".join(parsed(page).text).replace("\N{NO-BREAK SPACE}", " ").split())
    p = facts.policy.prediction
    for value in (100 * p.error, 100 * p.error_q05, 100 * p.error_q95, 1000 * p.cost, 1000 * p.cost_q05):
        assert f"{value:.3g}" in text
    assert facts.posterior.digest() in text
    assert facts.policy.to_dict()["content_digest"] in text
    for sentence in (*recommendation(facts), *steps(facts.policy), facts.checks.decision()):
        assert " ".join(sentence.split()) in text
    for sentence in (facts.worth.sentence(), facts.evaluation.sentence(), ADVICE["copulas"].remedy):
        assert sentence.split(":")[0] in text
    assert "The fit was rejected." in text
    assert "No single model meets the request." in text
    assert all(f"Whether {about}." in text for about in ABOUT.values())


def test_the_same_facts_give_the_same_pictures(page: str, facts: Facts) -> None:
    (picture,) = threshold_pictures(facts)
    assert picture in page


def test_a_single_model_and_what_cannot_be_told() -> None:
    alone = policy(
        models=("large",),
        thresholds=np.zeros(0),
        draw_thresholds=np.zeros((5, 0)),
        call_cost=np.array([1e-4]),
        prediction=Prediction.of_draws(predicted(models=1)),
    )
    facts = made(policy=alone, asked=False, worth="It cannot be told.", evaluation=None, realised=None)
    text = "".join(parsed(make_page(facts)).text)
    assert "Ask large alone: no cascade does better for 0.01 US dollars per wrong answer." in text
    assert "No question was asked" in text
    assert "It cannot be told." in text
    assert "there is no threshold" in text
    assert "On queries that the fit has not seen" not in text


def test_abstaining_is_a_step_of_its_own() -> None:
    one = policy(
        terms=Terms(abstain_price=0.002),
        abstain_thresholds=np.array([-3.0, -np.inf]),
        draw_abstain_thresholds=np.array([[-3.0, -np.inf]] * 2),
    )
    first, last = steps(one)
    assert "below -3 (a probability of 0.04979), leave the query without an answer" in first
    assert "below -0.5 (a probability of 0.6065), go on to the next model" in first
    assert last.endswith("Return its answer.")


def test_a_policy_has_its_own_question() -> None:
    assert asked_question(None, None, None, None, 0.9) is None
    assert asked_question(None, None, 0.1, None, 0.8) == {"budget": 0.1, "probability": 0.8}
    with pytest.raises(InputError, match="a policy has its own question: give a policy"):
        asked_question(policy(), 0.01, None, None, 0.9)
    with pytest.raises(InputError, match="ask for exactly one"):
        asked_question(None, 0.01, 0.01, None, 0.9)


def test_only_reports_are_replaced(tmp_path: Path, page: str) -> None:
    saved = tmp_path / "report.html"
    saved.write_text("<!doctype html><html><body>my own page</body></html>")
    with pytest.raises(InputError, match="there is a file that is not a report file"):
        report(evil_posterior(), saved)
    saved.write_text(page)
    assert REPORT.recognises(saved)
    Output(saved, REPORT).close()


@pytest.mark.parametrize(
    ("failed", "said"),
    [
        ((), "Decisions can be trusted, because"),
        (("copulas",), "can be trusted as far as a table of other queries confirms them"),
        (("copulas", "calibration"), "cannot be trusted, because this check failed: calibration"),
    ],
)
def test_checks_end_with_whether_to_decide(failed: tuple[str, ...], said: str) -> None:
    findings = [Finding("calibration", "a", True, "right")]
    findings += [Finding(name, "a", False, "off") for name in failed]
    result = CheckResult(tuple(findings), 0.01)
    assert said in result.decision()
    assert result.failed_checks() == [name for name in ABOUT if name in failed]
    assert "not be trusted yet" in CheckResult((), 0.01).decision().replace("cannot", "not")


@pytest.fixture
def browse(tmp_path: Path) -> Callable[..., tuple[str, str]]:
    """Open a page in headless Chromium; return its document after loading, and what the console said."""

    def call(page: str, *flags: str, width: int = 400) -> tuple[str, str]:
        assert CHROMIUM is not None
        path = tmp_path / "report.html"
        path.write_text(page)
        home = tmp_path / "chromium"
        done = subprocess.run(
            [
                CHROMIUM,
                "--headless",
                "--no-sandbox",
                "--disable-gpu",
                "--disable-background-networking",
                "--enable-logging=stderr",
                "--v=0",
                f"--user-data-dir={home}",
                f"--window-size={width},900",
                f"--log-net-log={tmp_path / 'net.json'}",
                *flags,
                path.as_uri(),
            ],
            capture_output=True,
            text=True,
            timeout=120,
            check=True,
        )
        return done.stdout, "\n".join(re.findall(r".*CONSOLE.*", done.stderr))

    return call


@NEEDS_CHROMIUM
def test_a_browser_shows_it_without_an_error_or_a_request(page: str, browse, tmp_path: Path) -> None:
    document, console = browse(page, "--dump-dom")
    assert console == ""
    assert EVIL not in document
    assert "What more labels are worth" in document
    assert requests_of_page(tmp_path / "net.json") == []


def requests_of_page(log: Path) -> list[str]:
    """Return what a page asked the network for; what Chromium asks for itself has no origin."""
    found = [event.get("params", {}) for event in json.loads(log.read_text())["events"]]
    asked = [one for one in found if one.get("initiator", "not an origin") != "not an origin"]
    return [one["url"] for one in asked if "url" in one and not one["url"].startswith(("file:", "data:"))]


@pytest.mark.slow
@NEEDS_CHROMIUM
def test_the_browser_is_heard(page: str, browse, tmp_path: Path) -> None:
    """What the test above finds none of is found where it is: a forbidden script, and a request."""
    _, console = browse(page.replace("</main>", "<script>alert(1)</script></main>"), "--dump-dom")
    assert "Content Security Policy" in console
    allowed = re.sub(r"<meta http-equiv=.*>", "", page)
    browse(allowed.replace("</main>", '<img src="http://127.0.0.1:9/x.png"></main>'), "--dump-dom")
    assert "http://127.0.0.1:9/x.png" in requests_of_page(tmp_path / "net.json")


@pytest.mark.slow
def test_from_a_fit_to_a_file(small_posterior: Posterior, small_data: CascadeData, tmp_path: Path) -> None:
    saved = tmp_path / "report.html"
    facts = report(small_posterior, saved, error_price=0.002, test=small_data, num_draws=60)
    page = saved.read_text()
    parsed(page)
    assert facts.policy.question == {"error_price": 0.002}
    assert facts.realised is not None
    assert len(facts.realised) == len(facts.swept)
    assert "small-3b" in page
    report(small_posterior, saved, policy=facts.policy, test=small_data, num_draws=60)
    again = report(small_posterior, tmp_path / "other.html", num_draws=60)
    assert not again.asked
    points = [again.swept.summary(i) for i in range(len(again.swept))]
    errors = [point.prediction.error for point in points if len(point.models) > 1]
    assert len(again.policy.models) > 1
    middle = 0.5 * (min(errors) + max(errors))
    assert abs(again.policy.prediction.error - middle) == min(abs(error - middle) for error in errors)
    assert saved.stat().st_size < 1_000_000
