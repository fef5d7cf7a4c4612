// The answers of this browser: what is kept of them for the next visit, and how one looks. Text is never markup.

const KEY = "answers", KEPT = 12;

const STATES = {
  writing: "Writing…",
  finished: "Finished",
  cancelled: "Cancelled",
  failed: "Failed",
  truncated: "Cut short",
  gone: "No longer there",
};

// It was there when it was asked for, or had just ended.
export const isCached = ({ level, closed }) => ["redis", "local", "stale"].includes(level) || (level === "coalesced" && Boolean(closed));

export function load() {
  try {
    const found = JSON.parse(localStorage.getItem(KEY) ?? "[]");
    return found.filter(({ id, question, stream, status }) => [id, question, stream].every((each) => typeof each === "string") && status in STATES);
  } catch { return []; }
}

// Other tabs write, too: only this answer is changed in the list.
export function save({ id, question, stream, level, closed, status, text, detail, problem }) {
  const ended = status !== "writing";
  const entry = { id, question, stream, level, closed, status, ...(ended && { text, detail, problem }) };
  const list = load(), place = list.findIndex((each) => each.id === id);
  if (place < 0) list.push(entry);
  else list[place] = entry;
  try { localStorage.setItem(KEY, JSON.stringify(list.slice(-KEPT))); } catch { /* the browser keeps nothing: neither do we */ }
}

export function forget() { localStorage.removeItem(KEY); }

function make(tag, className, text = "") {
  const element = document.createElement(tag);
  element.className = className;
  element.textContent = text;
  return element;
}

// One question with its answer, on the screen.
export class Turn {
  constructor(answer, { onCancel, onAgain }) {
    this.answer = answer;
    this.element = make("li", "turn");
    this.element.id = answer.id;
    this.text = make("div", "answer-text");
    this.mark = make("span", "mark");
    this.detail = make("span", "detail");
    this.cancel = make("button", "quiet", "Cancel");
    this.again = make("button", "quiet", "Ask again");
    this.tab = make("a", "button", "Second tab");
    this.cancel.type = this.again.type = "button";
    Object.assign(this.tab, { target: "_blank", rel: "noopener", href: linkOf(answer) });
    this.cancel.addEventListener("click", () => onCancel(this));
    this.again.addEventListener("click", () => onAgain(answer.question));
    const body = make("div", "answer"), foot = make("div", "answer-foot"), actions = make("div", "actions");
    actions.append(this.cancel, this.again, this.tab);
    foot.append(this.mark, this.detail, actions);
    body.append(this.text, foot);
    this.element.append(make("p", "question", answer.question), body);
    this.show();
  }

  show() {
    const { status, text, detail = "", problem = "" } = this.answer;
    const writing = status === "writing";
    this.element.dataset.status = status;
    this.element.dataset.cached = String(isCached(this.answer));
    this.text.setAttribute("aria-busy", String(writing)); // read aloud once, as a whole
    if (this.text.textContent !== text) this.text.textContent = text;
    this.mark.textContent = status === "finished" && isCached(this.answer) ? "From cache" : STATES[status];
    this.detail.textContent = problem || detail;
    this.cancel.hidden = !writing;
    this.again.hidden = writing;
  }
}

// What a second tab, or a phone, opens.
export function linkOf({ stream, question }) {
  return `ask#${new URLSearchParams({ stream, q: question })}`;
}

export function linked() {
  const found = new URLSearchParams(location.hash.slice(1)), stream = found.get("stream");
  return stream ? { stream, question: (found.get("q") ?? "").slice(0, 200) || "(a question of somebody else)" } : null;
}
