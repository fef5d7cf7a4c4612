"""The demo page as people use it: a real browser, a real gateway, a real Redis."""

from __future__ import annotations

import re
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Page, expect

from tests.demo.conftest import API_KEY, DESK, PHONE, Demo, OpenTab

pytestmark = pytest.mark.browser


def say(page: Page, text: str) -> None:
    page.get_by_label("Message", exact=True).fill(text)
    page.get_by_label("Message", exact=True).press("Enter")


def bubbles(page: Page) -> list[str]:
    return page.locator("#chat .bubble").all_inner_texts()


def test_two_tabs_chat(open_tab: OpenTab) -> None:
    ada, grace = open_tab("Ada", "two-tabs"), open_tab("Grace", "two-tabs")
    say(ada, "Hello from Ada")
    expect(grace.locator(".message", has_text="Hello from Ada").locator(".who")).to_have_text("Ada")
    say(grace, "Hello back")
    expect(ada.locator(".bubble", has_text="Hello back")).to_be_visible()
    expect(ada.locator('.message[data-fate="delivered"] .fate')).to_have_text(re.compile(r"^✓ [\d.]+ ms$"))
    assert bubbles(ada) == bubbles(grace) == ["Hello from Ada", "Hello back"]
    expect(ada.locator("#received")).to_have_text("2")
    expect(ada.locator("#sent")).to_have_text("1")


def test_rooms_are_apart(open_tab: OpenTab) -> None:
    ada, grace = open_tab("Ada", "east"), open_tab("Grace", "west")
    say(ada, "only in the east")
    grace.get_by_label("Join another room").fill("East")
    grace.get_by_role("button", name="Go").click()
    expect(grace.locator("#room-name")).to_have_text("east")
    expect(grace.get_by_text("You joined the room")).to_be_visible()
    say(ada, "for everyone in the east")
    expect(grace.locator(".bubble")).to_have_text(["for everyone in the east"])
    assert grace.url.endswith("#east")


def test_feed_shows_what_backends_publish(open_tab: OpenTab, demo: Demo) -> None:
    page = open_tab("Ada", "feed-room")
    expect(page.locator("#command")).to_have_text(
        f"""nexus-gateway publish --port {demo.public_port} feed '{{"text":"hi"}}'"""
    )
    assert "worker" in demo.publish("feed", '{"text":"from a shell"}')
    expect(page.locator("#feed .item p")).to_have_text("from a shell")
    answer = httpx.post(
        f"{demo.control}/api/publish",
        headers={"X-API-Key": API_KEY},
        content=b'{"channel":"feed","data":{"order":1042}}',
    )
    assert answer.json() == {"result": {}}
    expect(page.locator("#feed .item pre")).to_have_text('{\n "order": 1042\n}')
    expect(page.locator("#feed .item")).to_have_count(2)


def test_text_is_never_markup(open_tab: OpenTab, demo: Demo) -> None:
    markup = '<img src=x onerror="document.title=1"><b>bold</b>'
    ada, grace = open_tab("<i>Ada</i>", "markup"), open_tab("Grace", "markup")
    say(ada, markup)
    expect(grace.locator(".bubble")).to_have_text(markup)
    expect(grace.locator(".who")).to_have_text("<i>Ada</i>")
    assert grace.locator(".bubble *, .who *").count() == 0


def test_killed_workers_show_as_reconnecting_and_the_page_comes_back(open_tab: OpenTab, demo: Demo) -> None:
    ada, grace = open_tab("Ada", "comeback"), open_tab("Grace", "comeback")
    expect(ada.locator("#connection-text")).to_have_text("Connected")
    ada.get_by_label("Message", exact=True).fill("written while away")
    for worker in demo.edge_workers():
        worker.kill()
    for page in (ada, grace):
        expect(page.get_by_text("You are back")).to_be_visible()
        expect(page.locator("#connection-text")).to_have_text("Connected")
        expect(page.locator("#reconnects")).to_have_text("1")
        states: list[str] = page.evaluate("window.states")
        assert any(state.startswith("reconnecting: Reconnecting") for state in states), states
    assert ada.get_by_label("Message", exact=True).input_value() == "written while away"
    ada.get_by_role("button", name="Send").click()
    expect(grace.locator(".bubble")).to_have_text("written while away")


def test_reload_keeps_name_and_room(open_tab: OpenTab) -> None:
    page = open_tab("Ada", "again")
    page.reload()
    expect(page.get_by_text("You joined the room")).to_be_visible()
    expect(page.locator("#me")).to_have_text("Ada")
    expect(page.locator("#room-name")).to_have_text("again")
    page.get_by_role("button", name="Leave").click()
    expect(page.get_by_label("Your name")).to_be_visible()


def test_problems_at_the_door_are_told_in_words(open_tab: OpenTab) -> None:
    page = open_tab()
    page.get_by_label("Your name").fill("   ")
    page.get_by_role("button", name="Join", exact=True).click()
    expect(page.get_by_role("alert")).to_have_text("Please pick a name.")
    page.get_by_label("Your name").fill("Ada")
    page.get_by_label("Room", exact=True).fill("!!!")
    page.get_by_role("button", name="Join", exact=True).click()
    expect(page.get_by_role("alert")).to_have_text("Please name a room, with letters or digits.")


def test_latency_is_measured(open_tab: OpenTab) -> None:
    page = open_tab("Ada", "latency")
    expect(page.locator("#latency")).to_have_text(re.compile(r"^[\d.]+ ms$"))
    expect(page.locator("#spark rect").first).to_be_attached()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize(("device", "size"), [("desk", DESK), ("phone", PHONE)])
def test_page_fits_its_screen(
    open_tab: OpenTab, demo: Demo, artifacts: Path, device: str, size: tuple[int, int], scheme: str
) -> None:
    room = f"{device}-{scheme}"
    page, grace = open_tab("Ada", room, size=size, scheme=scheme), open_tab("Grace", room)
    say(page, "Hello! Is anybody here?")
    expect(grace.locator(".bubble")).to_have_count(1)
    say(grace, "Yes, in the other tab.")
    say(
        grace,
        "A longer line, to see where it breaks on a small screen, and/one/that/has/no/spaces/in/it/at/all/anywhere",
    )
    expect(page.locator(".bubble")).to_have_count(3)
    say(page, "Nice. Both went through Redis and back.")
    expect(page.locator('.message[data-fate="delivered"]')).to_have_count(2)
    demo.publish("feed", '{"text":"Deployment 482 is live"}')
    expect(page.locator("#feed .item")).to_have_count(1)
    page.screenshot(path=artifacts / f"demo-{device}-{scheme}.png", animations="disabled")
    assert_fits(page)
    if device == "phone":
        expect(page.locator("#feed-unread")).to_have_text("1")
        page.get_by_role("tab", name="Feed").click()
        expect(page.locator("#feed .item p")).to_be_visible()
        expect(page.locator("#room-panel")).to_be_hidden()
        page.screenshot(path=artifacts / f"demo-{device}-{scheme}-feed.png", animations="disabled")
        assert_fits(page)


def assert_fits(page: Page) -> None:
    """The page fills the window, nothing sticks out, and what is to be tapped is large enough to be hit."""
    assert page.evaluate("innerHeight - document.querySelector('.panels').getBoundingClientRect().bottom") <= 24
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert page.evaluate("document.documentElement.scrollHeight <= innerHeight")
    for box in page.evaluate(
        "[...document.querySelectorAll('#app button, #app input')].map((e) => e.getBoundingClientRect().toJSON())"
    ):
        if box["width"]:
            assert box["height"] >= 36
            assert box["left"] >= 0
            assert box["right"] <= page.viewport_size["width"]  # type: ignore[index]
            assert box["bottom"] <= page.viewport_size["height"]  # type: ignore[index]
