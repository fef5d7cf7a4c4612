// Questions, and their answers as token streams. The stream is where an answer lives: this page only watches, and may
// come and go. client.js speaks the protocol, answers.js keeps and shows.

import { Turn, forget, isCached, linkOf, linked, load, save } from "./answers.js";
import { Client } from "./client.js";
import { post, readConfig, websocketUrl } from "./server.js";
import { closeInWords, errorInWords } from "./words.js";

const $ = (id) => document.getElementById(id);
const turns = new Map(); // id → Turn
const GONE = {
  expired: "Its time is over: the text is kept for ten minutes.",
  unknown: "The gateway knows of no such answer.",
  superseded: "It was begun anew: ask again to see it.",
};
const held = new Set(); // turns to draw when nothing is pressed any more
let client = null, user = "", asking = false, pressed = false, releasing = 0, ticker = 0;

// Who is here

function visitor() {
  try {
    const known = localStorage.getItem("visitor");
    if (known) return known;
    const name = `visitor-${String(crypto.getRandomValues(new Uint32Array(1))[0] % 1e6).padStart(6, "0")}`;
    localStorage.setItem("visitor", name);
    return name;
  } catch { return "visitor"; }
}

async function start() {
  user = $("me").textContent = visitor();
  for (const answer of load()) add({ text: "", ...answer });
  const other = linked();
  const known = other && [...turns.values()].find(({ answer }) => answer.stream === other.stream);
  if (other && !known) add({ ...other, id: newId(), level: "", status: "writing", text: "" });
  else known?.element.scrollIntoView({ block: "nearest" });
  try {
    client = new Client(websocketUrl(await readConfig()), async () => (await post("token", { user })).token, "ask");
  } catch (error) {
    return notice(`That did not work: ${error.message}.`, "problem");
  }
  client.addEventListener("state", ({ detail }) => showState(detail));
  for (const turn of turns.values()) if (turn.answer.status === "writing") watch(turn);
  client.connect();
  notice();
}

// Asking

async function ask(question) {
  if (asking) return;
  if (!question) return notice("Please write a question first.", "problem");
  setAsking(true);
  const begun = performance.now();
  try {
    await started;
    if (!client) return; // why is on the screen
    const { stream, level, token } = await post("ask", { user, question });
    $("question").value = "";
    const same = [...turns.values()].find(({ answer }) => answer.stream === stream && answer.status === "writing");
    if (same) {
      show(same);
      notice("That very question is being answered at the moment: here it is.");
      return;
    }
    const turn = add({ id: newId(), question, stream, level, status: "writing", text: "" });
    turn.begun = begun;
    history.replaceState(null, "", linkOf(turn.answer));
    save(turn.answer);
    watch(turn, token);
    show(turn);
    notice(level === "coalesced" ? "Somebody else has asked that, too: you watch the same answer." : "");
  } catch (error) {
    notice(`That did not work: ${error.message}.`, "problem");
  } finally {
    setAsking(false);
  }
}

async function cancel(turn) {
  const { stream, generation } = turn.answer;
  turn.cancel.disabled = true;
  try {
    await client.call({ rpc: { method: "stream.cancel", data: { stream, generation } } });
  } catch (error) {
    notice(error.code === 103 ? "Only who has asked can cancel this answer." : errorInWords(error), "problem");
  } finally {
    turn.cancel.disabled = false;
  }
}

// Watching

function watch(turn, firstToken = null) {
  const { stream } = turn.answer;
  client.subscribe(`stream:${stream}`, {
    recover: true,
    getToken: async () => {
      const token = firstToken ?? (await post("watch", { user, stream })).token;
      firstToken = null;
      return token;
    },
    onPublication: ({ data }) => take(turn, data),
    onState: (state, error) => state !== "subscribed" && end(turn, "failed", { problem: errorInWords(error) }),
  });
}

// One record: a snapshot of what is there, or of what was missed; a delta; or the end.
function take(turn, record) {
  const { answer } = turn;
  if (answer.status !== "writing") return;
  if (record.type === "snapshot") {
    answer.text = record.from ? answer.text + record.text : record.text;
    answer.generation = record.generation;
    answer.closed ??= record.status !== "active"; // at first sight
    if (record.status === "active" && record.text && !turn.begun) answer.detail = `${[...record.text].length} characters were there already`;
  } else if (record.type === "delta") {
    answer.text += record.text;
  } else if (record.type === "not_resumable") {
    return end(turn, "gone", { problem: GONE[record.reason] ?? "" });
  } else {
    return end(turn, record.type, { detail: inWords(turn, record), problem: record.message });
  }
  redraw(turn);
}

function inWords(turn, { usage }) {
  const ms = performance.now() - turn.begun;
  const time = turn.begun ? (ms < 1000 ? `${Math.round(ms)} ms` : `${(ms / 1000).toFixed(1)} s`) : "";
  return [usage?.tokens && `${usage.tokens} tokens`, time].filter(Boolean).join(" · ");
}

function end(turn, status, { detail = "", problem = "" }) {
  client.unsubscribe(`stream:${turn.answer.stream}`);
  Object.assign(turn.answer, { status, detail, problem });
  save(turn.answer);
  redraw(turn);
  notice();
}

// The screen

const newId = () => `a${crypto.getRandomValues(new Uint32Array(2)).join("")}`;
const isAtEnd = () => $("scroll").scrollHeight - $("scroll").scrollTop - $("scroll").clientHeight < 80;
const toEnd = () => { $("scroll").scrollTop = $("scroll").scrollHeight; };
const show = (turn) => turn.element.scrollIntoView({ block: "nearest" });

// A button stays under the finger that presses it: text that grows above it waits for a moment.
function redraw(turn) {
  if (pressed) return held.add(turn);
  const follow = isAtEnd();
  turn.show();
  if (follow) toEnd();
}

function press({ target }) {
  clearTimeout(releasing);
  pressed = Boolean(target.closest(".actions"));
}

function release() {
  clearTimeout(releasing);
  releasing = setTimeout(() => { // behind the click
    pressed = false;
    held.forEach(redraw);
    held.clear();
  }, 100);
}

function add(answer) {
  const turn = new Turn(answer, { onCancel: cancel, onAgain: ask });
  turns.set(answer.id, turn);
  $("turns").append(turn.element);
  $("empty").hidden = true;
  $("clear").hidden = false;
  toEnd();
  return turn;
}

function setAsking(now) {
  asking = now;
  $("send").disabled = now || client?.state === "closed";
}

// Without words of its own the line says what could be tried next.
function notice(text = "", kind = "") {
  const newest = [...turns.values()].at(-1)?.answer;
  const hint = !newest ? "Answers are kept for ten minutes."
    : newest.status === "writing" ? "Reload now, or open a second tab."
    : isCached(newest) ? "From the cache: nobody had to think twice."
    : newest.status === "finished" ? "Ask the very same again: it comes from the cache."
    : "";
  $("notice").textContent = text || hint;
  $("notice").dataset.kind = kind;
}

function showState({ state, code, reason, retryAt }) {
  clearInterval(ticker);
  document.body.dataset.state = state;
  const say = (words) => { if ($("connection-text").textContent !== words) $("connection-text").textContent = words; };
  if (state === "connected") {
    say("Connected");
    notice();
  } else if (state === "connecting") {
    say("Connecting…");
  } else if (state === "reconnecting") {
    const tick = () => say(retryAt > Date.now() ? `Reconnecting in ${Math.ceil((retryAt - Date.now()) / 1000)} s` : "Reconnecting…");
    tick();
    ticker = setInterval(tick, 200);
    notice(`${closeInWords({ code, reason })}. Answers are written on meanwhile.`, "waiting");
  } else {
    say("Disconnected");
    notice(`${closeInWords({ code, reason })}. Reload the page to come back.`, "problem");
  }
  $("send").disabled = asking || state === "closed";
}

$("composer").addEventListener("submit", (event) => {
  event.preventDefault();
  ask($("question").value.trim());
});
for (const button of document.querySelectorAll(".suggestions button")) button.addEventListener("click", () => ask(button.textContent));
addEventListener("pointerdown", press);
for (const type of ["pointerup", "pointercancel", "blur"]) addEventListener(type, release);
$("clear").addEventListener("click", () => {
  for (const { answer } of turns.values()) if (answer.status === "writing") client?.unsubscribe(`stream:${answer.stream}`);
  forget();
  turns.clear();
  $("turns").replaceChildren();
  history.replaceState(null, "", "ask");
  $("empty").hidden = false;
  $("clear").hidden = true;
  notice();
});
// What is asked in another tab of this browser shows here, too.
addEventListener("storage", ({ key }) => {
  if (key !== "answers" || !client) return;
  for (const answer of load().filter(({ id }) => !turns.has(id))) {
    const turn = add({ text: "", ...answer });
    if (answer.status === "writing") watch(turn);
  }
  notice();
});
addEventListener("online", () => client?.state === "reconnecting" && client.connect());

const started = start();
