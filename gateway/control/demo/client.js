// A client of the Centrifuge protocol (JSON, version 2) over a bare WebSocket: what a hand-written one takes.
//
//   const client = new Client("wss://example.com/connection/websocket", async () => (await fetchToken()));
//   client.addEventListener("state", ({ detail }) => console.log(detail.state, detail.reason));
//   client.subscribe("news", { onPublication: (pub) => console.log(pub.data) });
//   client.connect();
//   await client.publish("news", { text: "hello" });
//   client.subscribe("stream:a", { onPublication, recover: true, getToken: async () => (await fetchSubscriptionToken()) });

const FIRST_DELAY_MS = 500, LONGEST_DELAY_MS = 20_000, REPLY_TIMEOUT_MS = 10_000, PING_GRACE_MS = 10_000;
const NO_ANSWER = { message: "no answer", temporary: true };

// Close codes after which coming back is useless: a bad token, a ban, a frame that is too large.
const isFinal = (code) => (code >= 3500 && code <= 3999) || (code >= 4500 && code <= 4999) || code === 1009;
const mayRetry = (error) => error.temporary || error.code < 100 || error.code === 109;

export class Client extends EventTarget {
  state = "closed"; // connecting | connected | reconnecting | closed
  id = ""; // this connection's id, as others see it in `info.client`
  #url; #getToken; #name; #token = null; #socket = null; #lastId = 0; #attempt = 0; #pong = false; #pingMs = 0;
  #pending = new Map(); // command id → { resolve, reject, timer }
  #subscriptions = new Map(); // channel → { onPublication, onState, getToken, recover, position }
  #timers = { retry: 0, silence: 0, refresh: 0 };

  constructor(url, getToken, name = "demo") {
    super();
    this.#url = url;
    this.#getToken = getToken;
    this.#name = name;
  }

  connect() { if (this.state === "closed" || this.state === "reconnecting") this.#open(); } // waiting? then now
  close() { this.#giveUp({ code: 1000, reason: "closed here" }); }

  // Handlers outlive reconnects. onState gets "subscribed", or "refused" and "ended" with an error. With `recover`, what
  // was missed meanwhile comes as publications, too; so does what the channel begins with.
  subscribe(channel, { onPublication, onState = () => {}, getToken = null, recover = false }) {
    this.#subscriptions.set(channel, { onPublication, onState, getToken, recover, position: null });
    if (this.state === "connected") this.#join(channel);
  }

  unsubscribe(channel) { if (this.#subscriptions.delete(channel)) this.call({ unsubscribe: { channel } }).catch(() => {}); }
  publish(channel, data) { return this.call({ publish: { channel, data } }); }

  // Send one command; resolves with its result, rejects with an Error that has the protocol's `code`.
  call(request) {
    if (this.state !== "connected" && !request.connect) return Promise.reject(new Error("not connected"));
    return new Promise((resolve, reject) => this.#send(request, resolve, reject));
  }

  #send(request, resolve, reject) {
    const id = ++this.#lastId;
    const timer = setTimeout(() => this.#settle(id, { error: NO_ANSWER }), REPLY_TIMEOUT_MS);
    this.#pending.set(id, { resolve, reject, timer });
    this.#socket.send(JSON.stringify({ id, ...request }));
  }

  async #open() {
    this.#drop();
    this.#enter("connecting");
    const attempt = (this.#socket = {}); // replaced when something else happens meanwhile
    try { this.#token ??= await this.#getToken(); }
    catch (error) { return attempt === this.#socket && this.#retryLater(error); }
    if (attempt !== this.#socket) return;
    const socket = (this.#socket = new WebSocket(this.#url));
    const ended = (final, problem) => socket === this.#socket && (final ? this.#giveUp(problem) : this.#retryLater(problem));
    const refused = (error) => {
      if (error.code === 109) this.#token = null; // expired: the next attempt fetches a new one
      ended(!mayRetry(error), error);
    };
    socket.onopen = () => this.call({ connect: { token: this.#token, name: this.#name } }).then((result) => this.#connected(result), refused);
    socket.onmessage = ({ data }) => { if (socket === this.#socket) this.#receive(data); };
    socket.onclose = (event) => ended(isFinal(event.code), event);
  }

  #connected({ client, ping = 0, pong = false, expires, ttl }) {
    this.id = client;
    [this.#attempt, this.#pong, this.#pingMs] = [0, pong, ping * 1000];
    this.#enter("connected");
    if (expires) this.#refreshIn(ttl);
    for (const channel of this.#subscriptions.keys()) this.#join(channel);
  }

  async #join(channel) {
    const subscription = this.#subscriptions.get(channel), socket = this.#socket;
    const isCurrent = () => this.#subscriptions.get(channel) === subscription && this.#socket === socket;
    const refused = (error) => {
      if (!isCurrent()) return;
      if (mayRetry(error)) return setTimeout(() => isCurrent() && this.#join(channel), 2000 * Math.random());
      this.#subscriptions.delete(channel);
      subscription.onState("refused", error);
    };
    const request = { channel };
    if (subscription.getToken) {
      try { request.token = await subscription.getToken(); }
      catch (error) { return refused(Object.assign(error, { temporary: true })); }
      if (!isCurrent()) return; // the next connection joins by itself
    }
    if (subscription.position) Object.assign(request, { recover: true, ...subscription.position });
    this.#send({ subscribe: request }, (result) => this.#joined(subscription, result), refused);
  }

  // Called while the reply is read: pushes behind it in the same frame must come after what it brings.
  #joined(subscription, { epoch = "", offset = 0, publications = [] }) {
    if (subscription.recover) {
      subscription.position = { epoch, offset };
      publications.forEach((pub) => this.#publication(subscription, pub));
    }
    subscription.onState("subscribed");
  }

  #publication(subscription, pub) {
    if (subscription.position && pub.offset) subscription.position.offset = pub.offset;
    subscription.onPublication(pub);
  }

  #refreshIn(ttl) {
    this.#timers.refresh = setTimeout(async () => {
      try {
        this.#token = await this.#getToken();
        const result = await this.call({ refresh: { token: this.#token } });
        if (result.expires) this.#refreshIn(result.ttl);
      } catch { this.#token = null; } // the server closes with 3005 when the time is over, and we come back
    }, Math.min(ttl * 900, 2 ** 31 - 1));
  }

  // One WebSocket message holds one or more replies and pushes, each on a line. An empty object is a ping.
  #receive(message) {
    clearTimeout(this.#timers.silence);
    if (this.#pingMs) this.#timers.silence = setTimeout(() => this.#retryLater({ reason: "no ping" }), this.#pingMs + PING_GRACE_MS);
    for (const reply of message.split("\n").filter(Boolean).map((line) => JSON.parse(line))) {
      if (reply.id) this.#settle(reply.id, reply);
      else if (reply.push) this.#push(reply.push);
      else if (this.#pong) this.#socket?.send("{}");
    }
  }

  #settle(id, { id: _, error, ...results }) {
    const { resolve, reject, timer } = this.#pending.get(id) ?? { resolve() {}, reject() {} }; // answered too late
    this.#pending.delete(id);
    clearTimeout(timer);
    if (error) reject(Object.assign(new Error(error.message), error));
    else resolve(Object.values(results)[0] ?? {});
  }

  #push({ channel, pub, unsubscribe }) {
    const subscription = this.#subscriptions.get(channel);
    if (pub && !subscription) this.dispatchEvent(new CustomEvent("publication", { detail: { channel, ...pub } })); // the server put us there
    if (pub && subscription) this.#publication(subscription, pub);
    if (!unsubscribe || !subscription) return;
    if (unsubscribe.code >= 2500) return this.#join(channel); // lost its place: subscribe again
    this.#subscriptions.delete(channel);
    subscription.onState("ended", Object.assign(new Error(unsubscribe.reason), unsubscribe));
  }

  // Full jitter: a random moment within a window that doubles, so that a crowd of clients does not return at once.
  #retryLater(problem) {
    this.#drop();
    const delayMs = Math.random() * Math.min(LONGEST_DELAY_MS, FIRST_DELAY_MS * 2 ** this.#attempt++);
    this.#timers.retry = setTimeout(() => this.#open(), delayMs);
    this.#enter("reconnecting", problem, Date.now() + delayMs);
  }

  #giveUp(problem) { this.#drop(); this.#attempt = 0; this.#token = null; this.#enter("closed", problem); }

  #drop() {
    Object.values(this.#timers).forEach(clearTimeout);
    const socket = this.#socket;
    this.#socket = null; // first, so that its onclose says nothing
    socket?.close?.();
    for (const id of [...this.#pending.keys()]) this.#settle(id, { error: { message: "connection lost", temporary: true } });
  }

  #enter(state, { code, reason, message } = {}, retryAt = 0) {
    this.state = state;
    this.dispatchEvent(new CustomEvent("state", { detail: { state, code, reason: reason || message || "", retryAt } }));
  }
}
