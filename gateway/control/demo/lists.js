// The two lists of the page: the chat and the feed. All text goes in through textContent, so it is never markup.

const KEPT = 300; // entries; older ones leave the page
const SAME_AUTHOR_MS = 120_000; // messages of one author within this time share a head

const clock = new Intl.DateTimeFormat(undefined, { timeStyle: "short" });

function make(tag, className, text) {
  const element = document.createElement(tag);
  element.className = className;
  if (text !== undefined) element.textContent = text;
  return element;
}

function time() {
  const now = new Date();
  const element = make("time", "time", clock.format(now));
  element.dateTime = now.toISOString();
  return element;
}

function hue(name) {
  let hash = 0;
  for (const character of name) hash = (hash * 31 + character.codePointAt(0)) % 360;
  return hash;
}

class List {
  constructor(list, empty) {
    this.list = list;
    this.empty = empty;
    this.scroll = list.parentElement;
  }

  // Follows the newest entry, unless the reader has scrolled away from it.
  insert(entry, { atTop = false } = {}) {
    const { scrollHeight, scrollTop, clientHeight } = this.scroll;
    const follow = atTop ? scrollTop < 60 : scrollHeight - scrollTop - clientHeight < 60;
    this.empty.hidden = true;
    if (atTop) this.list.prepend(entry);
    else this.list.append(entry);
    while (this.list.childElementCount > KEPT) (atTop ? this.list.lastElementChild : this.list.firstElementChild).remove();
    if (follow) this.scroll.scrollTop = atTop ? 0 : this.scroll.scrollHeight;
    return entry;
  }

  clear() {
    this.list.replaceChildren();
    this.empty.hidden = false;
  }
}

export class Chat extends List {
  #last = { author: "", at: 0 };

  add(user, text, { own = false } = {}) {
    const author = `${own}/${user}`;
    const first = author !== this.#last.author || Date.now() - this.#last.at > SAME_AUTHOR_MS;
    this.#last = { author, at: Date.now() };
    const entry = make("li", `message fresh${own ? " own" : ""}${first ? " first" : ""}`);
    if (first) {
      if (!own) {
        const avatar = make("span", "avatar", [...user][0].toUpperCase());
        avatar.setAttribute("aria-hidden", "true");
        avatar.style.setProperty("--hue", hue(user));
        entry.append(avatar);
      }
      const by = make("div", "by");
      by.append(make("span", "who", own ? "You" : user), time());
      entry.append(by);
    }
    entry.append(make("div", "bubble", text));
    return this.insert(entry);
  }

  // One's own message, before the gateway has sent it back.
  addPending(user, text) {
    const entry = this.add(user, text, { own: true });
    entry.dataset.fate = "pending";
    entry.append(make("div", "fate", "sending…"));
    this.scroll.scrollTop = this.scroll.scrollHeight;
    return entry;
  }

  settle(entry, fate, words) {
    entry.dataset.fate = fate;
    entry.querySelector(".fate").textContent = words;
  }

  event(text) {
    this.#last = { author: "", at: 0 };
    const quiet = this.empty.hidden;
    this.insert(make("li", "event", text));
    this.empty.hidden = quiet; // an event is no message: the invitation to write stays
  }
}

export class Feed extends List {
  add(data) {
    const entry = make("li", "item fresh");
    const text = typeof data === "string" ? data : data?.text;
    if (typeof text === "string") entry.append(make("p", "", text));
    else entry.append(make("pre", "", JSON.stringify(data, null, 1)));
    entry.append(time());
    return this.insert(entry, { atTop: true });
  }
}
