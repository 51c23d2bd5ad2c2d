"""The report in a browser: its controls are moved, and what is then shown is held to the public functions."""

import json
import re
import shutil

import numpy as np
import pandas as pd
import pytest
from commands import call

import bayesreg as br
from bayesreg.report import explorer, sentences

pytestmark = pytest.mark.browser
NOISE, SCALE = 0.7, 0.5


@pytest.fixture(scope="module")
def browser():
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    found = [path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))]
    if not found:
        pytest.skip("no Chromium is found")
    with sync_api.sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=found[0], args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """A run on the diabetes data under a Gaussian prior, and its report."""
    out = tmp_path_factory.mktemp("reports") / "first"
    arguments = ["--data", "diabetes", "--scale", SCALE, "--noise-scale", NOISE, "--out", out]
    with pytest.MonkeyPatch.context() as patch:  # pictures beside it
        patch.setattr("bayesreg.commands.runs._draw_diagnostics", lambda *_: None)
        assert call("run", *arguments).exit_code == 0
    return out / "report.html"


@pytest.fixture
def opened(browser):
    """A function that opens a page; at the end nothing may have gone wrong in it, or have been fetched."""
    contexts, complaints = [], []

    def open_page(path, **options):
        context = browser.new_context(**{"viewport": {"width": 1280, "height": 900}} | options)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(60_000)
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda one: one.url.startswith(("file:", "data:")) or complaints.append(one.url))
        page.goto(path.as_uri())
        page.wait_for_selector("#evidence .main-svg")
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert complaints == []


def shown(page, name):
    """A number that the page shows, and half a unit of its last digit."""
    text = page.text_content(f"#{name}").split(" ± ")[0].replace("−", "-")
    return number(text)


def number(text):
    digits = text.split("e")[0].partition(".")[2]
    return float(text), 0.5 * 10.0 ** -len(digits) * 10.0 ** float((text.split("e") + ["0"])[1]) * (1 + 1e-6)


def assert_shows(page, name, value):
    found, half = shown(page, name)
    assert abs(found - value) <= half, (name, found, value)


def chosen(page):
    """The position, among the strengths in ascending order, of the one that the slider is at."""
    return page.evaluate("(() => { const one = document.getElementById('lambda'); return one.max - one.value; })()")


def move_to(page, index):
    """Move the slider to a strength, by its position in ascending order, as a pointer does."""
    page.evaluate(
        "index => { const one = document.getElementById('lambda'); one.value = one.max - index;"
        " one.dispatchEvent(new Event('input', {bubbles: true})); }",
        index,
    )


def words(page):
    """The sentence below the density: MAP, mean, lower and upper end."""
    text = page.text_content("#density-words").replace("−", "-").split(". ")[0]
    name, _, rest = text.partition(": ")
    parts = rest.replace("MAP ", "").replace("posterior mean ", "").replace("90% interval ", "").replace(" to ", ", ")
    return name, [number(part) for part in parts.split(", ")]


def assert_words(page, feature, *values):
    name, numbers = words(page)
    assert name == feature and len(numbers) == len(values)
    for (found, half), value in zip(numbers, values, strict=True):
        assert abs(found - value) <= half, (feature, found, value)


def drawn(page, chart, trace, coordinate):
    """The numbers of a trace of a chart."""
    values = page.evaluate(
        "([id, trace, name]) => Array.from(document.getElementById(id).data.at(trace)[name])",
        [chart, trace, coordinate],
    )
    return np.array(values)


def test_it_opens_on_the_run_and_shows_its_numbers(opened, report):
    page, data = opened(report), br.load_diabetes().standardized()
    penalty = br.penalty_for(br.GaussianPrior(SCALE), noise_scale=NOISE, num_rows=442)
    assert page.input_value("#prior") == "l2" and page.input_value("#convention") == "mean-half-squared"
    assert_shows(page, "show-lambda", penalty.strength)
    assert_shows(page, "show-scale", SCALE)
    fits = br.path(data, "l2", [penalty.strength], noise_scale=NOISE)
    posterior = br.posterior_path(data, "l2", [penalty.strength], noise_scale=NOISE)
    folds = br.cross_validate(data, "l2", [penalty.strength])
    assert_shows(page, "show-train", float(fits.losses[0]))
    assert_shows(page, "show-held-out", float(folds.loss[0]))
    np.testing.assert_allclose(drawn(page, "coefficients", 1, "x"), fits.weights[0], rtol=1e-5)
    np.testing.assert_allclose(drawn(page, "coefficients", 0, "x"), posterior.mean[0], rtol=1e-5)
    bmi = data.feature_names.index("bmi")
    page.select_option("#feature", label="bmi")
    numbers = [fits.weights[0, bmi], posterior.mean[0, bmi], posterior.lower[0, bmi], posterior.upper[0, bmi]]
    assert_words(page, "bmi", *map(float, numbers))
    axes = json.loads((report.parent / "explorer.json").read_text())["axes"]
    for kind in ("l1", "l2"):
        page.select_option("#prior", kind)
        certified = sentences.gaps(axes[kind]["largest_gap"], 1e-10, len(axes[kind]["lambdas"]))
        assert certified.passed and page.text_content("#path-words") == certified.text
    assert page.title() == "bayesreg run: first"


def test_the_slider_moves_everything_together_by_keyboard_and_by_value(opened, report):
    page, data = opened(report), br.load_diabetes().standardized()
    axis = json.loads((report.parent / "explorer.json").read_text())["axes"]["l2"]
    evidence = br.path(data, "l2", axis["lambdas"], noise_scale=NOISE).log_evidence
    page.focus("#lambda")
    before = chosen(page)
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    assert chosen(page) == before - 2
    assert_shows(page, "show-lambda", axis["lambdas"][before - 2])
    page.keyboard.press("ArrowLeft")
    assert_shows(page, "show-lambda", axis["lambdas"][before - 1])
    page.keyboard.press("Home")
    assert_shows(page, "show-lambda", axis["lambdas"][-1])
    page.keyboard.press("End")
    assert_shows(page, "show-lambda", axis["lambdas"][0])
    for index in (0, 30, len(axis["lambdas"]) - 1):
        move_to(page, index)
        strength = axis["lambdas"][index]
        fits = br.path(data, "l2", [strength], noise_scale=NOISE)
        posterior = br.posterior_path(data, "l2", [strength], noise_scale=NOISE)
        assert_shows(page, "show-lambda", strength)
        assert_shows(page, "show-scale", NOISE / np.sqrt(442 * strength))
        assert_shows(page, "show-train", float(fits.losses[0]))
        assert_shows(page, "show-evidence", float(evidence[index] - evidence.max()))
        page.select_option("#feature", label="bp")
        of = [float(values[0, 3]) for values in (fits.weights, posterior.mean, posterior.lower, posterior.upper)]
        assert_words(page, "bp", *of)
        page.wait_for_function(
            "x => Math.abs(document.getElementById('coefficients').data[0].x[3] - x) < 1e-5", arg=of[1]
        )
        said = page.get_attribute("#lambda", "aria-valuetext")
        assert page.text_content("#show-lambda") in said and page.text_content("#show-scale") in said


@pytest.mark.parametrize("kind", ["l2", "l1"])
def test_every_axis_of_lambda_runs_from_strong_on_the_left_to_weak_on_the_right(opened, report, kind):
    page = opened(report)
    page.select_option("#prior", kind)
    page.focus("#lambda")
    page.keyboard.press("ArrowRight")
    places, strengths = [], []
    for index in (0, 8, 30):
        move_to(page, index)
        strengths.append(shown(page, "show-lambda")[0])
        places.append(page.evaluate("Number(document.getElementById('lambda').value)"))
        for chart in ("path-chart", "losses", "evidence"):
            # Where the chart draws its line, and where on the screen that is.
            page.wait_for_function(
                "([id, x]) => Math.abs(document.getElementById(id).layout.shapes.at(-1).x0 / x - 1) < 0.01",
                arg=[chart, strengths[-1]],
            )
            first, last = page.evaluate(f"document.getElementById('{chart}').layout.xaxis.range")
            assert first > last, chart
            across = (first - np.log10(strengths[-1])) / (first - last)
            along = places[-1] / page.evaluate("Number(document.getElementById('lambda').max)")
            assert across == pytest.approx(along, abs=0.06), chart  # the run's own strength is a stop of the slider too
    assert np.all(np.diff(strengths) > 0) and np.all(np.diff(places) < 0)
    left, right = page.locator(".ends span").all_inner_texts()
    assert left.startswith("strong penalty, narrow") and right.startswith("weak penalty, wide")


def test_clicking_a_chart_moves_to_the_strength_there(opened, report):
    page = opened(report, reduced_motion="reduce")
    page.locator("#losses").scroll_into_view_if_needed()
    box = page.locator("#losses .nsewdrag").bounding_box()
    for index in (33, 8):
        before = page.input_value("#lambda")
        across, down = page.evaluate(
            "index => { const div = document.getElementById('losses'), { xaxis, yaxis } = div._fullLayout;"
            " const { x, y } = div.data.at(-1); return [xaxis.d2p(x[index]), yaxis.d2p(y[index])]; }",
            index,
        )
        page.mouse.move(box["x"] + across, box["y"] + down, steps=3)
        hovered = (
            "index => (document.getElementById('losses')._hoverdata || []).some((point) => point.pointIndex === index)"
        )
        page.wait_for_function(hovered, arg=index)  # Plotly looks now and then, and a click is on what it saw last
        page.mouse.click(box["x"] + across, box["y"] + down)
        page.wait_for_function("before => document.getElementById('lambda').value !== before", arg=before)
        assert chosen(page) == index


def test_the_other_prior_has_its_own_axis_and_exact_zeros(opened, report):
    page, data = opened(report), br.load_diabetes().standardized()
    document = json.loads((report.parent / "explorer.json").read_text())
    page.select_option("#prior", "l1")
    axis = document["axes"]["l1"]
    # At the scale nearest to the one that was shown.
    index = int(np.abs(np.log(np.array(axis["prior_scales"]) / SCALE)).argmin())
    assert chosen(page) == index
    ends = br.path(data, "l1").lambdas[[0, -1]]
    strengths = np.geomspace(*ends, len(axis["lambdas"]))[::-1].copy()
    posterior = br.posterior_path(
        data, "l1", strengths, noise_scale=NOISE, draws=explorer._DRAWS, num_density_points=61, seed=0
    )
    fits = br.path(data, "l1", strengths, noise_scale=NOISE)
    for place in (index, 9, len(axis["lambdas"]) - 1):
        move_to(page, place)
        assert_shows(page, "show-lambda", float(fits.lambdas[place]))
        assert_shows(page, "show-scale", float(fits.prior_scales[place]))
        assert page.text_content("#show-nonzero") == f"{int(fits.num_nonzero[place])} of 10"
        page.select_option("#feature", label="s5")
        said = page.text_content("#density-words").split("standard error of ")[1]
        errors = [float(value[place, 8]) for value in (posterior.mcse_mean, posterior.mcse_lower, posterior.mcse_upper)]
        told = [number(text.replace("−", "-")) for text in re.findall(r"\d[\d.e−]*\d", said)]
        assert [abs(value - error) <= half for (value, half), error in zip(told, errors, strict=True)] == [True] * 3
        found = (fits.weights, posterior.mean, posterior.lower, posterior.upper)
        assert_words(page, "s5", *(float(values[place, 8]) for values in found))
    page.select_option("#prior", "l2")
    assert page.text_content("#density-words").endswith("exact: nothing is drawn.")
    page.select_option("#prior", "l1")
    move_to(page, len(axis["lambdas"]) - 1)
    page.wait_for_function("() => document.getElementById('coefficients').data[1].x.every(x => x === 0)")
    np.testing.assert_allclose(drawn(page, "density", 1, "x")[[0, -1]], posterior.density_at[-1, 8][[0, -1]], rtol=1e-5)
    heights = posterior.density[-1, 8]
    np.testing.assert_allclose(drawn(page, "density", 1, "y"), heights, rtol=1e-3, atol=1e-3 * heights.max())


def test_lambda_is_said_in_other_words_and_the_buttons_lead_to_the_best(opened, report):
    page = opened(report)
    axis = json.loads((report.parent / "explorer.json").read_text())["axes"]["l2"]
    page.get_by_role("button", name="largest evidence").click()
    index = int(np.argmax(axis["log_evidence"]))
    assert chosen(page) == index and page.text_content("#show-evidence") == "0"
    for convention, factor in (("sklearn-ridge", 442), ("torch-mse-mean", 2), ("mean-half-squared", 1)):
        page.select_option("#convention", convention)
        assert_shows(page, "show-lambda", factor * axis["lambdas"][index])
    page.select_option("#convention", "torch-mse-sum")
    assert page.text_content("#show-convention") == "in torch-mse-sum"
    said = page.text_content("#objective").replace("\u00a0", " ")
    assert said.startswith("Objective of torch-mse-sum: RSS + K wd |w|^2/2 + K l1 |w|_1; K = 1 optimizer step an epoch")
    page.get_by_role("button", name="smallest held-out loss").click()
    assert chosen(page) == int(np.argmin(axis["held_out"]["loss"]))
    page.get_by_role("button", name="this run").click()
    assert_shows(page, "show-scale", SCALE)
    assert "sklearn-lasso" not in page.inner_text("#convention")


def test_what_stays_in_sight_does_not_cover_what_stays_below_it(opened, report):
    page = opened(report, reduced_motion="reduce")
    for convention in page.evaluate("Array.from(document.getElementById('convention').options, one => one.value)"):
        page.select_option("#convention", convention)
        height = page.evaluate("document.querySelector('.dial').getBoundingClientRect().height")
        assert height <= page.evaluate("parseFloat(getComputedStyle(document.querySelector('.side')).top)"), convention


def test_pointing_at_a_coefficient_shows_its_density(opened, report):
    page, data = opened(report), br.load_diabetes()
    page.locator("#coefficients .points path").nth(1).hover(force=True)
    page.wait_for_function("() => document.getElementById('feature').selectedOptions[0].textContent === 'sex'")
    assert page.text_content("#density-name") == "Posterior of sex" and "sex" in data.feature_names
    posterior = br.posterior_path(data.standardized(), "l2", prior_scales=[SCALE], noise_scale=NOISE)
    page.wait_for_function("() => document.getElementById('density').data[1].x.length === 121")
    x, y = (drawn(page, "density", 1, name) for name in "xy")
    assert np.trapezoid(y, x) == pytest.approx(1.0, abs=1e-3)
    assert np.trapezoid(x * y, x) == pytest.approx(float(posterior.mean[0, 1]), rel=1e-3)


def test_a_phone_shows_all_of_it_in_its_width_and_the_slider_answers_to_touch(opened, report):
    page = opened(report, viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert page.is_visible("#objective") and page.is_visible(".ends")
    assert page.evaluate("document.querySelector('.dial').clientHeight") < 844 / 6  # it stays in sight, above the rest
    before = page.input_value("#lambda")
    box = page.locator("#lambda").bounding_box()
    page.locator("#lambda").scroll_into_view_if_needed()
    box = page.locator("#lambda").bounding_box()
    page.touchscreen.tap(box["x"] + 0.9 * box["width"], box["y"] + box["height"] / 2)
    page.wait_for_function("before => document.getElementById('lambda').value !== before", arg=before)
    small = page.evaluate(
        "Array.from(document.querySelectorAll('select, button, input')).filter("
        "one => one.getBoundingClientRect().height < 24).map(one => one.id)"
    )
    assert small == []  # WCAG 2.2, target size


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_from_its_background_in_light_and_in_dark(opened, report, scheme):
    page = opened(report, color_scheme=scheme)
    found = page.evaluate(
        """() => {
          const style = getComputedStyle(document.documentElement);
          const names = ["paper", "panel", "ink", "muted", "blue", "vermillion", "green", "good", "bad", "edge"];
          const said = Object.fromEntries(names.map((name) => [name, style.getPropertyValue(`--${name}`).trim()]));
          const axis = document.getElementById("losses").layout.xaxis.color;
          return { ...said, axis, body: getComputedStyle(document.body).backgroundColor };
        }"""
    )
    paper = luminance(found["paper"])
    assert (paper > 0.9) == (scheme == "light") and found["axis"] == found["muted"]
    assert found["body"] == f"rgb({', '.join(map(str, channels(found['paper'])))})"
    for name in ("ink", "muted", "blue", "good", "bad"):
        assert contrast(found[name], found["paper"]) >= 4.5, name  # text
    assert contrast(found["ink"], found["panel"]) >= 4.5
    for name in ("vermillion", "green", "edge"):
        assert contrast(found[name], found["paper"]) >= 3.0, name  # lines and frames


def channels(colour):
    return [int(colour[start : start + 2], 16) for start in (1, 3, 5)]


def luminance(colour):
    """Relative luminance, as WCAG 2 defines it."""
    shares = [channel / 255 for channel in channels(colour)]
    linear = [share / 12.92 if share <= 0.04045 else ((share + 0.055) / 1.055) ** 2.4 for share in shares]
    return float(np.dot(linear, [0.2126, 0.7152, 0.0722]))


def contrast(one, other):
    dark, light = sorted([luminance(one), luminance(other)])
    return (light + 0.05) / (dark + 0.05)


def test_the_colours_follow_the_system_and_paper_is_light(opened, report):
    page = opened(report, color_scheme="dark")
    ink = "document.getElementById('coefficients').layout.font.color"
    assert luminance(page.evaluate(ink)) > 0.5
    page.emulate_media(color_scheme="light")
    page.wait_for_function(f"() => {ink} === '#1b1f24'")
    page.emulate_media(color_scheme="dark", media="print")
    page.wait_for_function(f"() => {ink} === '#1b1f24'")
    assert not page.is_visible("#lambda") and not page.is_visible("#jumps") and page.is_visible("#show-lambda")
    assert page.evaluate("document.querySelector('details').open")
    assert page.evaluate("document.getElementById('coefficients').clientWidth") <= 680
    page.emulate_media(color_scheme="dark", media="screen")
    page.wait_for_function(f"() => {ink} === '#e8eaed'")
    assert page.is_visible("#lambda")


def test_it_can_be_used_from_the_keyboard_and_read_aloud(opened, report):
    page = opened(report)
    assert page.get_attribute("html", "lang") == "en" and page.locator("h1").count() == 1
    levels = page.evaluate("Array.from(document.querySelectorAll('h1, h2, h3, h4'), one => Number(one.tagName[1]))")
    assert levels[0] == 1 and all(step <= 1 for step in np.diff(levels))
    unnamed = page.evaluate(
        "Array.from(document.querySelectorAll('input, select, button, [role=img], [role=region]')).filter("
        "one => !(one.labels && one.labels.length) && !one.textContent.trim() && !one.getAttribute('aria-label'))"
        ".map(one => one.outerHTML)"
    )
    assert unnamed == []
    reached = []
    for _ in range(40):
        page.keyboard.press("Tab")
        reached.append(page.evaluate("document.activeElement.id || document.activeElement.textContent.trim()"))
        if reached[-1] == "lambda":
            break
    assert reached[0] == "To the explorer" and {"prior", "convention", "feature", "lambda"} <= set(reached)
    assert page.evaluate("parseFloat(getComputedStyle(document.activeElement).outlineWidth)") >= 2


def test_the_first_chart_takes_less_than_two_seconds_of_the_processor(browser, report):
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    page = context.new_page()
    session = context.new_cdp_session(page)
    session.send("Performance.enable", {"timeDomain": "threadTicks"})
    page.goto(report.as_uri())
    page.wait_for_selector("#coefficients .main-svg", timeout=60_000)
    spent = {one["name"]: one["value"] for one in session.send("Performance.getMetrics")["metrics"]}
    context.close()
    assert spent["TaskDuration"] < 2.0
    assert report.stat().st_size < 8e6


@pytest.mark.usefixtures("short_reports")
def test_names_that_look_like_code_are_shown_as_they_are(opened, tmp_path):
    names = ["</script><b>bold</b>", "\"quoted\" & 'so' <!--", "größe µ ∑ $x^2$"]
    random = np.random.default_rng(0)
    frame = pd.DataFrame(random.normal(size=(40, 3)), columns=names)
    frame["<i>price</i>"] = frame @ [1.0, -0.5, 0.0] + random.normal(size=40)
    frame.to_csv(tmp_path / "evil.csv", index=False)
    arguments = [tmp_path / "evil.csv", "--target", "<i>price</i>", "--kind", "l1", "--out", tmp_path / "<b>run"]
    result = call("path", *arguments)
    assert result.exit_code == 0 and result.stderr == ""
    page = opened(tmp_path / "<b>run" / "report.html")
    assert page.evaluate("Array.from(document.getElementById('feature').options, one => one.textContent)") == names
    assert page.locator("b, i").count() == 1  # of the page itself
    ticks = page.evaluate("Array.from(document.querySelectorAll('#coefficients .ytick text'), one => one.textContent)")
    assert (
        len(ticks) == 3
        and sorted(ticks)[0].startswith('"quoted"')
        and any("script" in tick for tick in ticks)
        and names[2] in ticks
    )
    assert "<i>price</i>" in page.inner_text("h1") and "<b>run" in page.inner_text(".source >> nth=0")


@pytest.mark.usefixtures("short_reports")
def test_a_path_opens_on_its_own_prior(opened, tmp_path):
    arguments = ["--data", "diabetes", "--kind", "l1", "--noise-scale", NOISE, "--out", tmp_path / "path"]
    assert call("path", *arguments).exit_code == 0
    assert opened(tmp_path / "path" / "report.html").input_value("#prior") == "l1"
