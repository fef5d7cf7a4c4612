// The dashboard: logs in, gets the gateway's state over its own WebSocket or else by HTTP, and shows it.

import { drain, listen } from "./actions.js";
import { Charts } from "./charts.js";
import { Client } from "./client.js";
import { show } from "./view.js";
import { clock } from "./words.js";

const LOOK_MS = 1000; // time between two looks whether the state is fresh
const QUIET_MS = 4000; // without a publication for this long the state is asked for
const AGAIN_MS = 30_000; // after a WebSocket that was refused for good

const $ = (id) => document.getElementById(id);
const body = document.body;
const charts = new Charts();
let session = null; // what the server says about access, and where the WebSocket is
let client = null;
let publishedAt = -Infinity; // performance.now() of the last publication
let answeredAt = 0; // Date.now() of the last state, by either way
let asking = false;
let timer = 0;
let again = 0;

async function request(path, options = {}) {
  let answer;
  try {
    answer = await fetch(`dashboard/${path}`, { ...options, signal: AbortSignal.timeout(10_000) });
  } catch {
    throw new Error("the control port does not answer");
  }
  const reply = await answer.json().catch(() => ({}));
  if (answer.status === 401 && session?.signed_in) leave("Your session is over. Log in again.");
  if (!answer.ok) throw Object.assign(new Error(reply.error?.message ?? reply.message ?? `status ${answer.status}`), { status: answer.status });
  return reply;
}

const post = (path, content = "{}") => request(path, { method: "POST", headers: { "content-type": "application/json" }, body: content });

// The door

async function start() {
  try {
    session = await request("session");
  } catch (error) {
    return door(`The dashboard cannot start: ${error.message}.`);
  }
  if (session.signed_in) return enter();
  if (session.access === "nobody") return door("No API key is configured, so nobody can log in: set control.api_keys.");
  body.dataset.view = "login";
  $("login").hidden = false;
  $("key").focus();
}

function door(message) {
  body.dataset.view = "login";
  $("door-message").textContent = message;
  $("door-message").hidden = false;
}

$("login").addEventListener("submit", async (event) => {
  event.preventDefault();
  const key = $("key").value;
  $("login-problem").textContent = "";
  try {
    await post("login", JSON.stringify({ key }));
  } catch (error) {
    $("login-problem").textContent = `${error.status === 401 ? "This key is not accepted" : "That did not work"}: ${error.message}.`;
    return $("key").select();
  } finally {
    $("key").value = "";
  }
  session.signed_in = true;
  enter();
});

$("logout").addEventListener("click", async () => {
  await post("logout").catch(() => {});
  leave("You are logged out.");
});

function leave(message) {
  session.signed_in = false;
  stop();
  $("app").hidden = true;
  $("door").hidden = false;
  $("login").hidden = false;
  $("login-problem").textContent = message;
  body.dataset.view = "login";
}

// Looking

async function enter() {
  body.dataset.view = "app";
  $("door").hidden = true;
  $("app").hidden = false;
  $("logout").hidden = session.access === "open";
  await request("curves").then((curves) => charts.start(curves), () => {});
  look();
}

function look() {
  if (!session?.signed_in || document.hidden || timer) return;
  timer = setInterval(check, LOOK_MS);
  check();
  if (session.websocket) connect();
}

function stop() {
  clearInterval(timer);
  clearTimeout(again);
  timer = 0;
  const ended = client;
  client = null; // first, so that its end says nothing
  ended?.close();
}

document.addEventListener("visibilitychange", () => (document.hidden ? stop() : look()));
addEventListener("pagehide", stop);

function connect() {
  const { port, path, tls } = session.websocket;
  const scheme = tls || location.protocol === "https:" ? "wss" : "ws";
  let channel = "";
  const ticket = async () => {
    const reply = await post("ticket");
    channel = reply.channel;
    return reply.token;
  };
  const mine = (client = new Client(`${scheme}://${location.hostname}:${port}${path}`, ticket, "dashboard"));
  mine.addEventListener("publication", ({ detail }) => {
    if (mine !== client || detail.channel !== channel) return;
    publishedAt = performance.now();
    fresh(detail.data, "live");
  });
  mine.addEventListener("state", ({ detail }) => {
    if (mine === client && detail.state === "closed") again = setTimeout(() => mine === client && connect(), AGAIN_MS);
  });
  mine.connect();
}

async function check() {
  if (asking || performance.now() - publishedAt < QUIET_MS) return;
  asking = true;
  try {
    fresh(await request("state"), "http");
  } catch (error) {
    if (session.signed_in) say("away", answeredAt ? `No answer since ${clock(answeredAt / 1000)}` : "No answer", error.message);
  } finally {
    asking = false;
  }
}

function fresh(state, how) {
  if (!session.signed_in) return;
  answeredAt = Date.now();
  say(how, how === "live" ? "Live" : "Live by HTTP", how === "live" ? "Over the gateway's own WebSocket" : "The gateway's WebSocket is not used: this page asks each second");
  show(state, (worker, workers) => drain(post, worker, workers));
  charts.add(state);
}

function say(how, words, title) {
  body.dataset.live = how;
  if ($("live-text").textContent !== words) $("live-text").textContent = words;
  $("live").title = title;
}

listen(post);
start();
