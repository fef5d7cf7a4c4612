"""Questions and their answers as people see them: a real browser, a real gateway, a real Redis, a model of straw."""

from __future__ import annotations

import itertools
import re
from pathlib import Path

import pytest
from playwright.sync_api import Locator, Page, Route, expect

from gateway.control.demo_ask import OF_ONE
from gateway.control.demo_model import compose
from tests.demo.conftest import DESK, PATIENCE_MS, PHONE, Demo, OpenTab

pytestmark = pytest.mark.browser

RECORD_TEXTS = """
window.texts = [];
new MutationObserver(() => window.texts.push(document.querySelector(".answer-text")?.textContent ?? ""))
  .observe(document.getElementById("turns"), { subtree: true, childList: true, characterData: true });
"""


def ask(page: Page, question: str) -> Locator:
    """Type a question and press Enter; its turn in the conversation."""
    count = page.locator(".turn").count()
    page.get_by_label("Your question").fill(question)
    page.get_by_label("Your question").press("Enter")
    expect(page.locator(".turn")).to_have_count(count + 1)
    return page.locator(".turn").last


def text_of(turn: Locator) -> str:
    return turn.locator(".answer-text").text_content() or ""


def expect_begun(turn: Locator, characters: int = 40) -> str:
    """Wait for the beginning of the answer; what is there of it."""
    expect(turn.locator(".answer-text")).to_have_text(re.compile(rf"^.{{{characters},}}", re.DOTALL))
    expect(turn.locator(".mark")).to_have_text("Writing…")
    return text_of(turn)


def expect_whole(turn: Locator, question: str, mark: str = "Finished") -> None:
    expect(turn.locator(".mark")).to_have_text(mark, timeout=2 * PATIENCE_MS)  # the model takes its time
    assert text_of(turn) == compose(question)


# The six things to try.


def test_ask_a_question(open_tab: OpenTab) -> None:
    page = open_tab(path="/ask")
    expect(page.locator("#connection-text")).to_have_text("Connected")
    expect(page.get_by_role("heading", name="What would you like to know?")).to_be_visible()
    page.get_by_role("button", name="Ask", exact=True).click()
    expect(page.locator("#notice")).to_have_text("Please write a question first.")
    turn = ask(page, "Who has asked this?")
    expect(turn.locator(".question")).to_have_text("Who has asked this?")
    expect(page.get_by_role("heading", name="What would you like to know?")).to_be_hidden()
    expect(page.get_by_label("Your question")).to_have_value("")
    expect_begun(turn, 1)
    assert "stream=cache-" in page.url
    page.get_by_role("button", name="Clear").click()
    page.get_by_role("button", name="Where do lost packets go?").click()
    expect_begun(page.locator(".turn"), 1)


def test_a_question_that_comes_before_the_page_is_ready_waits_for_it(open_tab: OpenTab) -> None:
    page = open_tab(path="/ask")
    held: list[Route] = []

    def hold(route: Route) -> None:
        held.append(route)

    page.route("**/config.json", hold)
    with page.expect_request("**/config.json"):
        page.reload()
    page.get_by_label("Your question").fill("Am I too early?")
    page.get_by_label("Your question").press("Enter")
    expect(page.get_by_role("button", name="Ask", exact=True)).to_be_disabled()
    expect(page.locator(".turn")).to_have_count(0)
    held[0].continue_()
    expect(page.locator(".turn .question")).to_have_text("Am I too early?")
    expect_begun(page.locator(".turn"), 1)


def test_watch_the_tokens_arrive(open_tab: OpenTab) -> None:
    page = open_tab(path="/ask")
    page.evaluate(RECORD_TEXTS)
    turn = ask(page, "How do tokens arrive?")
    expect(turn.locator('.answer-text[aria-busy="true"]')).to_be_visible()
    expect_whole(turn, "How do tokens arrive?")
    expect(turn.locator(".detail")).to_have_text(re.compile(r"^\d+ tokens · [\d.]+ s$"))
    expect(turn.locator('.answer-text[aria-busy="false"]')).to_be_visible()
    texts: list[str] = page.evaluate("window.texts.filter((text, index, all) => text !== all[index - 1])")
    assert len(texts) > 30  # in small pieces
    assert all(later.startswith(earlier) for earlier, later in itertools.pairwise(texts))


def test_reload_in_the_middle_and_see_it_go_on(open_tab: OpenTab) -> None:
    page = open_tab(path="/ask")
    seen = expect_begun(ask(page, "What happens to me?"))
    url = page.url
    page.reload()
    turn = page.locator(".turn")
    expect(turn.locator(".detail")).to_have_text(re.compile(r"^\d+ characters were there already$"))
    assert text_of(turn).startswith(seen)
    assert page.url == url
    expect_whole(turn, "What happens to me?")
    page.reload()
    expect_whole(page.locator(".turn"), "What happens to me?")


def test_a_second_tab_shows_the_same(open_tab: OpenTab) -> None:
    page = open_tab(path="/ask")
    turn = ask(page, "Who else is watching?")
    expect_begun(turn)
    with page.context.expect_page() as opening:
        turn.get_by_role("link", name="Second tab").click()
    second = opening.value
    expect_begun(second.locator(".turn"))
    for each in (page, second):
        expect_whole(each.locator(".turn"), "Who else is watching?")
    third = ask(second, "And the other way round?")  # what is asked there shows here
    expect(page.locator(".turn")).to_have_count(2)
    expect_begun(third)
    expect_begun(page.locator(".turn").last)


def test_ask_again_and_it_comes_from_the_cache(open_tab: OpenTab) -> None:
    question = "Is it worth thinking twice?"
    page = open_tab(path="/ask")
    turn = ask(page, question)
    expect_whole(turn, question)
    turn.get_by_role("button", name="Ask again").click()
    expect(page.locator(".turn")).to_have_count(2)
    again = page.locator(".turn").last
    expect_whole(again, question, mark="From cache")
    expect(again.locator(".detail")).to_have_text(re.compile(r"^\d+ tokens · [\d.]+ m?s$"))
    expect(page.locator("#notice")).to_have_text("From the cache: nobody had to think twice.")
    stranger = open_tab(path="/ask")
    expect_whole(ask(stranger, f"  {question} "), question, mark="From cache")
    stranger.reload()
    expect_whole(stranger.locator(".turn"), question, mark="From cache")


def test_cancel_an_answer(open_tab: OpenTab) -> None:
    question = "Do you ever stop talking?"
    page = open_tab(path="/ask")
    turn = ask(page, question)
    seen = expect_begun(turn)
    turn.get_by_role("button", name="Cancel").click()
    expect(turn.locator(".mark")).to_have_text("Cancelled")
    cut = text_of(turn)
    assert cut.startswith(seen)
    assert len(cut) < len(compose(question))
    page.reload()
    expect(page.locator(".turn .mark")).to_have_text("Cancelled")
    assert text_of(page.locator(".turn")) == cut
    page.get_by_role("button", name="Ask again").click()  # what was cancelled is no answer: it begins anew
    expect(page.locator(".turn")).to_have_count(2)
    expect_begun(page.locator(".turn").last)
    expect(page.locator(".turn").first.locator(".mark")).to_have_text("Cancelled")
    assert text_of(page.locator(".turn").first) == cut


@pytest.mark.parametrize("size", [DESK, PHONE])
def test_a_button_stays_under_the_finger_that_presses_it(open_tab: OpenTab, size: tuple[int, int]) -> None:
    page = open_tab(path="/ask", size=size)
    turn = ask(page, f"Where does the button go on {size[0]} pixels?")
    with page.context.expect_page() as opening:
        turn.get_by_role("link", name="Second tab").click()
    second = opening.value
    expect_begun(turn)
    cancel = turn.get_by_role("button", name="Cancel")
    pressed = turn.locator(".actions button:active")
    while not pressed.count():  # it moves on the way of the mouse to it
        page.mouse.up()
        box = cancel.bounding_box()
        assert box is not None
        page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
        page.mouse.down()
    before, held = cancel.bounding_box(), text_of(turn)
    expect_begun(second.locator(".turn"), len(held) + 150)
    assert cancel.bounding_box() == before
    page.mouse.up()
    expect(turn.locator(".mark")).to_have_text("Cancelled")
    expect(second.locator(".turn .mark")).to_have_text("Cancelled")
    assert text_of(turn) == text_of(second.locator(".turn"))
    assert len(text_of(turn)) >= len(held) + 150


# What can go wrong.


def test_somebody_elses_answer_can_be_watched_and_not_cancelled(open_tab: OpenTab, demo: Demo) -> None:
    question = "May I look over your shoulder?"
    page, asker, phone = open_tab(path="/ask"), open_tab(path="/ask"), open_tab(size=PHONE)
    expect(asker.locator("#connection-text")).to_have_text("Connected")
    turn = ask(page, question)
    same = ask(asker, question)
    expect(asker.locator("#notice")).to_have_text("Somebody else has asked that, too: you watch the same answer.")
    link = turn.get_by_role("link", name="Second tab").get_attribute("href")
    phone.goto(f"{demo.page}/{link}")  # another device, which has the link
    watched = phone.locator(".turn")
    expect(watched.locator(".question")).to_have_text(question)
    expect_begun(watched)
    watched.get_by_role("button", name="Cancel").click()
    expect(phone.locator("#notice")).to_have_text("Only who has asked can cancel this answer.")
    for each in (turn, watched, same):
        expect_whole(each, question)


def test_workers_that_are_killed_cost_no_token(open_tab: OpenTab, demo: Demo) -> None:
    question = "What if the gateway dies?"
    page = open_tab(path="/ask")
    turn = ask(page, question)
    expect_begun(turn)
    for worker in demo.edge_workers():
        worker.kill()
    expect(page.locator("#connection-text")).to_have_text(re.compile("Reconnecting"))
    expect(page.locator("#connection-text")).to_have_text("Connected")
    expect_whole(turn, question)


def test_too_many_questions_at_once_are_refused_in_words(open_tab: OpenTab) -> None:
    page = open_tab(path="/ask")
    turns = [ask(page, f"Question number {number}?") for number in range(OF_ONE)]
    page.get_by_label("Your question").fill("One more?")
    page.get_by_label("Your question").press("Enter")
    expect(page.locator("#notice")).to_have_text(re.compile(rf"{OF_ONE} of your answers are being written"))
    expect(page.get_by_label("Your question")).to_have_value("One more?")
    assert len(turns) == page.locator(".turn").count()


def test_an_answer_that_is_gone_is_said_to_be(open_tab: OpenTab) -> None:
    page = open_tab(path="/ask#stream=cache-00&q=What+was+it%3F")
    expect(page.locator(".turn .mark")).to_have_text("No longer there")
    expect(page.locator(".turn .detail")).to_have_text("The gateway knows of no such answer.")


def test_questions_are_never_markup(open_tab: OpenTab) -> None:
    question = '<img src=x onerror="document.title=1"><b>bold</b>'
    page = open_tab(path="/ask")
    turn = ask(page, question)
    expect(turn.locator(".answer-text")).to_contain_text(question)
    expect(turn.locator(".question")).to_have_text(question)
    assert turn.locator(".question *, .answer-text *").count() == 0


def test_both_pages_lead_to_each_other(open_tab: OpenTab) -> None:
    page = open_tab()
    page.get_by_role("link", name="Or ask a model").click()
    expect(page.get_by_role("heading", name="Ask", exact=True)).to_be_visible()
    page.get_by_role("link", name="Chat").click()
    expect(page.get_by_label("Your name")).to_be_visible()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize(("device", "size"), [("desk", DESK), ("phone", PHONE)])
def test_page_fits_its_screen(
    open_tab: OpenTab, artifacts: Path, device: str, size: tuple[int, int], scheme: str
) -> None:
    page = open_tab(path="/ask", size=size, scheme=scheme)
    expect(page.locator("#connection-text")).to_have_text("Connected")
    page.screenshot(path=artifacts / f"ask-{device}-{scheme}-empty.png", animations="disabled")
    assert_fits(page)
    turn = ask(page, f"Does and/one/that/has/no/spaces/in/it/at/all/anywhere/fit/on/a/{device}/when/it/is/{scheme}?")
    expect_begun(turn, 200)
    page.screenshot(path=artifacts / f"ask-{device}-{scheme}.png", animations="disabled")
    assert_fits(page)
    turn.get_by_role("button", name="Cancel").click()
    expect(turn.locator(".mark")).to_have_text("Cancelled")
    assert_fits(page)


def assert_fits(page: Page) -> None:
    """Nothing sticks out, and what is to be tapped is large enough to be hit."""
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert page.evaluate("document.documentElement.scrollHeight <= innerHeight")
    assert page.evaluate("((box) => box.scrollWidth <= box.clientWidth)(document.getElementById('scroll'))")
    tapped = "[...document.querySelectorAll('.ask button, .ask input, .ask a')]"
    for box in page.evaluate(f"{tapped}.map((element) => element.getBoundingClientRect().toJSON())"):
        if box["width"]:
            assert box["height"] >= 36
            assert box["left"] >= 0
            assert box["right"] <= page.viewport_size["width"]  # type: ignore[index]
