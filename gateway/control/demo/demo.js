// The demo page: a name, a room, a feed. The protocol is client.js; this file connects it with what is on the screen.

import { Client } from "./client.js";
import { Chat, Feed } from "./lists.js";
import { post, readConfig, websocketUrl } from "./server.js";
import { closeInWords, errorInWords } from "./words.js";

const FEED = "feed";
const HINT = "✓ is the time that your message took through Redis and back.";
const PROBE_EVERY_MS = 2000;
const SAMPLES = 20;
const NAMES = ["Ada", "Grace", "Alan", "Edsger", "Barbara", "Donald", "Radia", "Tim", "Margaret", "Vint"];

const $ = (id) => document.getElementById(id);
const body = document.body;
const chat = new Chat($("chat"), $("chat-empty"));
const feed = new Feed($("feed"), $("feed-empty"));
const count = { received: 0, sent: 0, reconnects: 0 };
const pending = new Map(); // id in a message of ours → { entry, sentAt }
let client = null;
let user = "";
let room = "";
let samples = []; // round trips in ms, newest last
let ticker = 0; // countdown to the next attempt

// Joining and leaving

function roomName(text) {
  return text.trim().toLowerCase().replace(/[^a-z0-9_.-]+/g, "-").replace(/^-+|-+$/g, "").slice(0, 40);
}

const fetchToken = async () => (await post("token", { user })).token;

function shellCommand({ websocket_port: port }) {
  return `nexus-gateway publish ${port === 8000 ? "" : `--port ${port} `}${FEED} '{"text":"hi"}'`;
}

async function join(name, firstRoom) {
  user = name;
  try {
    const config = await readConfig();
    const token = await fetchToken();
    $("command").textContent = shellCommand(config);
    let first = token; // the token that proves that the name is accepted serves the first connection
    client = new Client(websocketUrl(config), () => { const once = first; first = null; return once ?? fetchToken(); });
  } catch (error) {
    $("join-problem").textContent = `That did not work: ${error.message}.`;
    return;
  }
  sessionStorage.setItem("name", user);
  client.addEventListener("state", ({ detail }) => showState(detail));
  client.subscribe(FEED, { onPublication: onFeed, onState: onFeedState });
  $("me").textContent = user;
  $("app").hidden = false;
  body.dataset.view = "app";
  enterRoom(firstRoom);
  client.connect();
  $("text").focus();
}

function leave() {
  sessionStorage.removeItem("name");
  location.reload();
}

function enterRoom(name) {
  if (room) client.unsubscribe(`chat:${room}`);
  for (const id of pending.keys()) pending.delete(id);
  room = name;
  history.replaceState(null, "", `#${room}`);
  document.title = `#${room} · nexus-gateway demo`;
  $("room-name").textContent = room;
  $("second-tab").href = location.href;
  chat.clear();
  notice("");
  let seen = false;
  client.subscribe(`chat:${room}`, {
    onPublication: onMessage,
    onState: (state, error) => {
      if (state === "subscribed") chat.event(seen ? "You are back" : "You joined the room");
      else notice(`You cannot be in this room. ${errorInWords(error)}`, "problem");
      seen = true;
    },
  });
}

// Messages

async function send(text) {
  const id = crypto.getRandomValues(new Uint32Array(2)).join("-");
  const entry = chat.addPending(user, text);
  pending.set(id, { entry, sentAt: performance.now() });
  try {
    await client.publish(`chat:${room}`, { id, text });
    show("sent", ++count.sent);
    notice("");
  } catch (error) {
    if (!pending.delete(id)) return; // it came back through the room: the answer alone was lost
    chat.settle(entry, "failed", client.state === "connected" ? "not sent" : "perhaps not sent: the connection broke");
    notice(errorInWords(error), "problem");
  }
}

function onMessage({ data, info }) {
  show("received", ++count.received);
  const own = info?.client === client.id ? pending.get(data?.id) : undefined;
  if (own) {
    pending.delete(data.id);
    chat.settle(own.entry, "delivered", `✓ ${inMs(performance.now() - own.sentAt)}`);
    return;
  }
  chat.add(info?.user || "A backend", typeof data?.text === "string" ? data.text : JSON.stringify(data));
  unread("room");
}

function onFeed({ data }) {
  show("received", ++count.received);
  feed.add(data);
  unread("feed");
}

function onFeedState(state, error) {
  if (state !== "subscribed") $("feed-state").textContent = `The feed is not available. ${errorInWords(error)}`;
}

// State of the connection

function showState({ state, code, reason, retryAt }) {
  clearInterval(ticker);
  const was = body.dataset.state;
  body.dataset.state = state;
  const say = (words) => { if ($("connection-text").textContent !== words) $("connection-text").textContent = words; };
  $("composer").querySelector("button").disabled = state !== "connected";
  if (state === "connected") {
    say("Connected");
    notice("");
    if (count.everConnected) show("reconnects", ++count.reconnects);
    count.everConnected = true;
    probe();
  } else if (state === "connecting") {
    say(count.everConnected ? "Reconnecting…" : "Connecting…");
  } else if (state === "reconnecting") {
    const tick = () => {
      const seconds = Math.max(0, Math.ceil((retryAt - Date.now()) / 1000));
      say(seconds > 0 ? `Reconnecting in ${seconds} s` : "Reconnecting…");
    };
    tick();
    ticker = setInterval(tick, 200);
    if (was !== "reconnecting") $("latency").textContent = "–";
    notice(`${closeInWords({ code, reason })}. What you write stays here.`, "waiting");
  } else if (code !== 1000) {
    say("Disconnected");
    notice(`${closeInWords({ code, reason })}. To come back, leave and join again.`, "problem");
  }
}

async function probe() {
  if (client.state !== "connected") return;
  const start = performance.now();
  try {
    await client.call({ ping: {} });
  } catch (error) {
    if (!error.code) return; // the connection is gone; an error with a code is a round trip, too
  }
  samples = [...samples, performance.now() - start].slice(-SAMPLES);
  const middle = [...samples].sort((a, b) => a - b)[Math.floor((samples.length - 1) / 2)];
  $("latency").textContent = inMs(middle);
  $("spark-text").textContent = `Round trip: ${inMs(middle)} median of the last ${samples.length}`;
  draw(samples);
}

const inMs = (ms) => `${ms < 10 ? ms.toFixed(1) : Math.round(ms)} ms`;

function draw(values) {
  const top = Math.max(...values, 1);
  const bars = values.map((value, index) => {
    const bar = document.createElementNS("http://www.w3.org/2000/svg", "rect");
    const height = Math.max(2, (value / top) * 28);
    const place = { x: index * 6 + (SAMPLES - values.length) * 6 + 0.75, y: 28 - height, width: 4.5, height, rx: 1 };
    for (const [name, number] of Object.entries(place)) bar.setAttribute(name, number.toFixed(2));
    return bar;
  });
  $("spark").replaceChildren(...bars);
}

// Small things on the screen

function show(name, number) {
  $(name).textContent = number.toLocaleString();
}

function notice(text, kind = "") {
  $("notice").textContent = text || HINT;
  $("notice").dataset.kind = kind;
}

function unread(tab) {
  const badge = $(`${tab}-unread`);
  if (body.dataset.tab === tab) return;
  badge.textContent = Number(badge.textContent || 0) + 1;
  badge.hidden = false;
}

function openTab(tab) {
  body.dataset.tab = tab;
  for (const name of ["room", "feed"]) {
    $(`tab-${name}`).setAttribute("aria-selected", String(name === tab));
    $(`tab-${name}`).tabIndex = name === tab ? 0 : -1;
  }
  $(`${tab}-unread`).hidden = true;
  $(`${tab}-unread`).textContent = "";
  if (tab === "room") chat.scroll.scrollTop = chat.scroll.scrollHeight;
}

async function copyCommand() {
  const command = $("command");
  try {
    await navigator.clipboard.writeText(command.textContent);
    $("copy").textContent = "Copied";
    setTimeout(() => { $("copy").textContent = "Copy"; }, 1500);
  } catch {
    getSelection().selectAllChildren(command); // no clipboard outside https and localhost: it is selected, at least
  }
}

$("join").addEventListener("submit", (event) => {
  event.preventDefault();
  const name = $("name").value.trim();
  const firstRoom = roomName($("first-room").value);
  $("join-problem").textContent = !name ? "Please pick a name." : !firstRoom ? "Please name a room, with letters or digits." : "";
  if (name && firstRoom) join(name, firstRoom);
});

$("switch").addEventListener("submit", (event) => {
  event.preventDefault();
  const name = roomName($("room-input").value);
  $("room-input").value = "";
  if (name && name !== room) enterRoom(name);
  $("text").focus();
});

$("composer").addEventListener("submit", (event) => {
  event.preventDefault();
  const text = $("text").value.trim();
  if (!text || client.state !== "connected") return;
  $("text").value = "";
  send(text);
});

$("leave").addEventListener("click", leave);
$("copy").addEventListener("click", copyCommand);
for (const tab of ["room", "feed"]) $(`tab-${tab}`).addEventListener("click", () => openTab(tab));
document.querySelector(".tabs").addEventListener("keydown", (event) => {
  if (event.key !== "ArrowLeft" && event.key !== "ArrowRight") return;
  const other = body.dataset.tab === "room" ? "feed" : "room";
  openTab(other);
  $(`tab-${other}`).focus();
});
addEventListener("online", () => client?.state === "reconnecting" && client.connect());
setInterval(() => client && probe(), PROBE_EVERY_MS);

$("name").value = sessionStorage.getItem("name") ?? NAMES[Math.floor(Math.random() * NAMES.length)];
$("first-room").value = roomName(decodeURIComponent(location.hash.slice(1))) || "lobby";
if (sessionStorage.getItem("name")) join($("name").value, $("first-room").value);
else $("name").select();
