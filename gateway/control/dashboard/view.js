// One document of the gateway's state → what is on the screen. Texts are set as texts, never as markup.

import { bytes, clock, count, ms, plural, rate, span } from "./words.js";

const $ = (id) => document.getElementById(id);
const STATES = { ready: "ready", not_ready: "not ready", stuck: "stuck", missing: "not running" };

function text(id, value) {
  if ($(id).textContent !== value) $(id).textContent = value;
}

function element(tag, className, ...content) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  made.append(...content);
  return made;
}

// Keeps the elements of a list and changes what has changed, so that focus and scrolling stay.
function list(parent, items, make, update) {
  while (parent.children.length > items.length) parent.lastElementChild.remove();
  items.forEach((item, index) => {
    const child = parent.children[index] ?? parent.appendChild(make());
    update(child, item);
  });
}

const set = (node, value) => { if (node.textContent !== value) node.textContent = value; };

export function show(state, onDrain) {
  showProblems(state);
  showNow(state);
  showWorkers(state, onDrain);
  showMemory(state.memory);
  showRedis(state.redis, state.time);
  showRelays(state.relays);
  showLatency(state.latency);
  showCaches(state.caches);
  showSlow(state);
  showTallies(state.tallies);
}

function showProblems({ problems, redis, time }) {
  const all = [...problems];
  if (redis.state === "away") all.unshift(`Redis is away since ${clock(redis.away_since)} (${span(time - redis.away_since)}): clients stay connected and hear nothing new`);
  list($("problems"), all, () => element("li"), set);
}

function showNow(state) {
  const { rates, slow_consumers: slow } = state;
  const perSecond = (value, what = rate) => (rates ? what(value) : "–");
  text("version", state.version);
  text("connections", count(state.connections));
  text("connections-note", rates ? `+${rate(rates.opened)} −${rate(rates.closed)}` : "");
  text("users", count(state.users));
  text("users-note", `${plural(state.clients, "client")} logged in`);
  text("channels", count(state.channels));
  text("subscriptions", plural(state.subscriptions, "subscription"));
  text("publications", perSecond(rates?.publications));
  text("client-publications", rates ? `${rate(rates.client_publications)} from clients` : "");
  text("deliveries", perSecond(rates?.deliveries));
  text("bytes-out", rates ? `${bytes(rates.bytes_out)}/s out` : "");
  text("commands", perSecond(rates?.commands));
  text("bytes-in", rates ? `${bytes(rates.bytes_in)}/s in` : "");
  text("queued", bytes(state.queued_bytes));
  text("behind", withRate(slow.behind, slow.behind_per_s));
  text("slow-dropped", withRate(slow.dropped, slow.dropped_per_s));
  text("no-pong", count(slow.no_pong));
}

const withRate = (total, perSecond) => (perSecond ? `${count(total)}, now ${rate(perSecond)}` : count(total));

function showWorkers({ workers }, onDrain) {
  const make = () => {
    const drain = element("button", "quiet drain", "Drain…");
    drain.type = "button";
    return element("li", "worker", element("strong"), element("span", "state"), element("span", "facts-line"), drain);
  };
  list($("workers"), workers, make, (item, worker) => {
    const [name, state, facts, drain] = item.children;
    item.dataset.state = worker.state;
    set(name, worker.name);
    set(state, STATES[worker.state]);
    const parts = worker.state === "missing" ? [] : [
      plural(worker.connections, "connection"), plural(worker.channels, "channel"), `${bytes(worker.memory_bytes)} own memory`,
      `up ${span(worker.age_s)}`, `heartbeat ${worker.heartbeat_age_ms < 2000 ? "now" : `${span(worker.heartbeat_age_ms / 1000)} ago`}`, `pid ${worker.pid}`,
    ];
    set(facts, [...parts, plural(worker.restarts, "restart")].join(" · "));
    drain.hidden = worker.state === "missing";
    drain.setAttribute("aria-label", `Drain ${worker.name}`);
    drain.onclick = () => onDrain(worker, workers);
  });
}

function showMemory(memory) {
  if (!memory) {
    text("memory-text", "Not measured yet");
    text("memory-note", "");
    $("memory-bar").value = 0;
    return;
  }
  const { used_bytes: used, limit_bytes: limit } = memory;
  const share = limit ? used / limit : 0;
  text("memory-text", limit ? `${bytes(used)} of ${bytes(limit)} (${Math.round(share * 100)} %)` : bytes(used));
  text("memory-note", `Governor: ${memory.level_in_words}. Workers: ${bytes(memory.workers_bytes)}${memory.stalled_percent ? `; ${memory.stalled_percent} % of the time waited for memory` : ""}`);
  $("memory-bar").value = share;
  $("memory-bar").dataset.level = memory.level;
}

function showRedis(redis, now) {
  const words = {
    connected: "Connected",
    partly: `${redis.connected} of ${plural(redis.workers, "worker")} connected`,
    away: `Away since ${clock(redis.away_since ?? now)}`,
    unknown: "No worker runs",
  };
  text("redis-text", words[redis.state]);
  $("redis-text").dataset.state = redis.state;
  text("redis-note", redis.lost ? `${plural(redis.lost, "connection")} lost since the start` : "No connection was lost since the start");
}

function showRelays(relays) {
  list($("relays"), relays, () => element("li", "relay", element("strong"), element("span", "state"), element("span", "facts-line")), (item, relay) => {
    const [name, state, facts] = item.children;
    const { pool } = relay;
    item.dataset.state = relay.state;
    set(name, relay.source);
    set(state, relay.trouble ? `${relay.state}: ${relay.trouble}` : relay.state);
    set(facts, [
      relay.waiting === null ? "nobody knows how many wait" : `${count(relay.waiting)} waiting${relay.waiting ? `, the oldest for ${span(relay.oldest_s)}` : ""}`,
      `${count(relay.published)} published`, `${count(relay.retried)} retried`,
      relay.source === "outbox" ? relay.dead_now !== null && plural(relay.dead_now, "dead letter") : `${count(relay.dead)} given up`,
      relay.dropped && `${count(relay.dropped)} dropped`,
      pool && `SQL connections: ${pool.checked_out} in use, ${pool.checked_in} free, ${pool.overflow} above ${pool.size}, ${pool.waiting} waited for`,
    ].filter(Boolean).join(" · "));
  });
  $("relays-card").hidden = !relays.length;
}

function showLatency(operations) {
  const columns = ["avg_ms", "p50_ms", "p90_ms", "p95_ms", "p99_ms", "max_ms"];
  const make = () => {
    const heading = element("th");
    heading.scope = "row";
    return element("tr", "", heading, element("td"), ...columns.map((name) => element("td", ["avg_ms", "p90_ms", "p95_ms"].includes(name) ? "more" : "")));
  };
  list($("latency"), operations, make, (row, operation) => {
    const [name, total, ...cells] = row.children;
    set(name, operation.operation);
    set(total, count(operation.count));
    cells.forEach((cell, index) => set(cell, ms(operation[columns[index]])));
  });
  $("latency").parentElement.hidden = !operations.length;
  $("latency-empty").hidden = operations.length > 0;
}

function showCaches(kinds) {
  const columns = ["hits", "local", "redis", "coalesced", "stale", "misses", "bypasses"];
  const more = new Set(["local", "redis", "coalesced", "stale", "bypasses"]);
  const make = () => {
    const heading = element("th");
    heading.scope = "row";
    return element("tr", "", heading, element("td"), ...columns.map((name) => element("td", more.has(name) ? "more" : "")), element("td"));
  };
  list($("caches"), kinds, make, (row, kind) => {
    const [name, hitRate, ...cells] = row.children;
    set(name, kind.kind.replaceAll("_", " "));
    set(hitRate, kind.hits + kind.misses ? `${(kind.hit_rate * 100).toFixed(1)} %` : "–");
    columns.forEach((column, index) => set(cells[index], count(kind[column])));
    set(cells.at(-1), bytes(kind.bytes_saved));
  });
  $("caches-card").hidden = !kinds.length;
}

function showSlow({ slow, time }) {
  list($("slow"), slow, () => element("li", "slow", element("strong"), element("span", "took"), element("span", "where")), (item, entry) => {
    const [name, took, where] = item.children;
    set(name, entry.operation);
    set(took, `${ms(entry.duration_ms)} ms`);
    const facts = [`${span(time - entry.time)} ago`, entry.process, entry.channel && `channel ${entry.channel}`, entry.user && `user ${entry.user}`];
    set(where, facts.filter(Boolean).join(" · "));
  });
  $("slow-empty").hidden = slow.length > 0;
}

function showTallies(tallies) {
  list($("tallies"), tallies, () => element("div", "", element("dt"), element("dd")), (item, tally) => {
    const [name, value] = item.children;
    set(name, `${tally.kind}: ${tally.reason.replaceAll("_", " ")}`);
    set(value, withRate(tally.total, tally.per_s));
  });
  $("tallies-empty").hidden = tallies.length > 0;
}
