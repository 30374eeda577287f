"""The quizzes: their data, the facts in them computed, and what a reader gets in a browser, with
and without JavaScript.
"""

import math
import re

import pytest

import vggbook
from tools import ROOT, quizzes
from vggbook import tables

NAMES = {name: getattr(vggbook, name) for name in vggbook.__all__} | {"math": math, "T": tables()}
ALL = [
    (chapter, i, q)
    for chapter, questions in quizzes.quizzes().items()
    for i, q in enumerate(questions, 1)
]


def number(option: str) -> float | None:
    m = re.fullmatch(r"([\d,]+(?:\.\d+)?(?:e-?\d+)?)%?", option)
    return float(m[1].replace(",", "")) if m else None


def test_every_chapter_has_a_quiz_of_four_to_seven_questions():
    chapters = {p.stem[:2] for p in (ROOT / "notebooks").glob("*.ipynb")} - {
        "12"
    }  # chapter 12 is exercises throughout
    assert chapters <= set(quizzes.quizzes())
    assert all(4 <= len(questions) <= 7 for questions in quizzes.quizzes().values())


@pytest.mark.parametrize("chapter,i,q", ALL, ids=[f"{c}-{i}" for c, i, _ in ALL])
def test_the_right_option_is_right_and_the_others_are_not(chapter, i, q):
    for expression in q.check:
        assert eval(expression, dict(NAMES)) is True, expression
    if q.compute:
        value = float(eval(q.compute, dict(NAMES)))
        agree = [
            number(option) is not None and math.isclose(number(option), value)
            for option in q.options
        ]
        assert agree == [k == q.right for k in range(len(q.options))], (
            f"{q.compute} = {value}, options {q.options}"
        )


def test_most_questions_are_checked_by_code():
    assert sum(bool(q.compute or q.check) for _, _, q in ALL) >= 0.6 * len(ALL)


def test_the_right_option_has_no_favourite_place():
    first = sum(q.right == 0 for _, _, q in ALL)
    assert first < len(ALL) / 2 and len({q.right for _, _, q in ALL}) >= 3


@pytest.mark.parametrize(
    "change,reason",
    [
        ({"options": ["a", "b"]}, "0 options are marked"),
        ({"options": [{"right": "a"}, {"right": "b"}]}, "2 options are marked"),
        ({"options": [{"right": "a"}]}, "two to four different"),
        ({"options": [{"right": "a"}, "a"]}, "two to four different"),
        ({"answer": 1}, "unknown keys ['answer']"),
    ],
)
def test_a_question_that_cannot_be_asked_is_refused_by_name(change, reason):
    good = {"question": "?", "options": [{"right": "a"}, "b"], "explanation": "."}
    assert quizzes._question(good, "here").right == 0
    with pytest.raises(ValueError, match="chapter 09, question 2: .*" + re.escape(reason)):
        quizzes._question({**good, **change}, "chapter 09, question 2")


def test_markup_is_escaped():
    assert (
        quizzes.inline("a < b, `x<y * 7 * 7`, *so*, 2*3*4")
        == "a &lt; b, <code>x&lt;y * 7 * 7</code>, <em>so</em>, 2*3*4"
    )


def test_the_html_is_one_block_of_markdown():
    for chapter in quizzes.quizzes():
        text = quizzes.render(chapter)
        heading, block = text.split("\n\n", 1)
        assert heading == "## Quiz" and "\n\n" not in block.strip()
        assert (
            block.count("<fieldset")
            == block.count("<legend")
            == block.count("<details")
            == len(quizzes.quizzes()[chapter])
        )
    assert quizzes.render("99") == ""


def show(browser, *chapters: str, script: bool = True, **context):
    page = browser.new_context(java_script_enabled=script, **context).new_page()
    static = ROOT / "book" / "_static"
    body = "\n".join(quizzes.render(chapter).removeprefix("## Quiz\n\n") for chapter in chapters)
    js = f"<script>{(static / 'quiz.js').read_text()}</script>" if script else ""
    page.set_content(
        '<!doctype html><html lang="en"><head><title>Quiz</title>'
        '<meta name="viewport" content="width=device-width">'
        f"<style>{(static / 'quiz.css').read_text()}</style></head><body>{body}{js}</body></html>"
    )
    page.set_default_timeout(5000)
    return page


@pytest.mark.parametrize("chapter", quizzes.quizzes())
def test_every_option_of_every_question_gets_the_right_verdict(browser, chapter):
    page = show(browser, chapter)
    for i, q in enumerate(quizzes.quizzes()[chapter], 1):
        box = page.locator("fieldset").nth(i - 1)
        for k in sorted(range(len(q.options)), key=lambda k: k == q.right):
            box.locator("input").nth(k).check()
            box.get_by_role("button", name=f"Check {i}").click()
            assert (
                box.locator(".quiz-verdict")
                .inner_text()
                .startswith("Right." if k == q.right else "Not this one.")
            )
            assert box.locator("details").evaluate("(e) => e.open") == (k == q.right)
    assert (
        page.locator(".quiz-score").inner_text()
        == f"0 of {len(quizzes.quizzes()[chapter])} right at the first try."
    )


def test_a_question_works_by_keyboard_alone(browser):
    page, q = show(browser, "02"), quizzes.quizzes()["02"][0]
    page.keyboard.press("Tab")  # into the first group of radio buttons
    assert page.evaluate("document.activeElement.type") == "radio"
    page.keyboard.press("Tab")  # to its button: nothing chosen yet
    page.keyboard.press("Enter")
    assert "Choose an answer first" in page.locator("fieldset").first.inner_text()
    page.keyboard.press("Shift+Tab")
    page.keyboard.press("Space")
    for _ in range(q.right):
        page.keyboard.press("ArrowDown")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    assert "Right." in page.locator("fieldset").first.inner_text()
    assert page.locator(".quiz-score").inner_text().startswith("1 of 1 right at the first try")
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"


def test_without_a_script_the_answers_are_folded_and_open(browser):
    page = show(browser, "02", script=False)
    assert page.get_by_role("button").count() == 0
    q = quizzes.quizzes()["02"][0]
    page.locator("summary").first.click()
    assert q.options[q.right] in page.locator("details").first.inner_text()


def test_quizzes_fit_a_phone(browser):
    page = show(browser, *quizzes.quizzes(), viewport={"width": 320, "height": 600})
    assert page.locator("fieldset").count() == len(ALL)
    assert page.evaluate("document.documentElement.scrollWidth") <= 320
