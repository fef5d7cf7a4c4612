// The official JavaScript SDK under remote control: one JSON command a line on stdin, one JSON event a line on stdout.
//
// What happens is decided in Python, so that a test reads from top to bottom in one place. Every event of a client or of
// a subscription is reported with the client's name; calls are answered with {"done": id, …} or {"failed": id, …}.

import { createInterface } from "node:readline";
import { Centrifuge, UnauthorizedError } from "centrifuge";
import { Centrifuge as ProtobufCentrifuge, UnauthorizedError as ProtobufUnauthorized } from "centrifuge/build/protobuf";
import WebSocket from "ws";

const clients = new Map();
const inProtobuf = new Set();
const tokensWanted = new Map();

const say = (event) => process.stdout.write(`${JSON.stringify(event)}\n`);

// Asks Python for a token; the answer comes as {"op": "token", …}.
let asked = 0;
const askForToken = (client, channel) =>
  new Promise((resolve, reject) => {
    const id = ++asked;
    tokensWanted.set(id, { client, resolve, reject });
    say({ client, event: "token wanted", id, ...(channel ? { channel } : {}) });
  });

// Data of Protobuf clients is bytes: JSON documents here, or what {"base64": …} stands for.
function pack(client, data) {
  if (!inProtobuf.has(client)) return data;
  return data?.base64 === undefined ? Buffer.from(JSON.stringify(data)) : Buffer.from(data.base64, "base64");
}

function unpack(data) {
  if (!(data instanceof Uint8Array)) return data;
  const bytes = Buffer.from(data);
  try {
    return JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes));
  } catch {
    return { base64: bytes.toString("base64") };
  }
}

const CLIENT_EVENTS = [
  "connecting", "connected", "disconnected", "error", "publication", "subscribing", "subscribed", "unsubscribed",
];
const SUBSCRIPTION_EVENTS = ["subscribing", "subscribed", "unsubscribed", "publication", "error"];

function report(emitter, names, about) {
  for (const name of names) {
    // The context of `connected` has the client's id as `client`, which is where our name for it stands.
    emitter.on(name, ({ client: id, ...context }) => {
      if ("data" in context) context.data = unpack(context.data);
      say({ ...context, ...about, event: name, ...(id ? { id } : {}) });
    });
  }
}

const operations = {
  create({ client, url, token, asks, protobuf, options }) {
    if (protobuf) inProtobuf.add(client);
    const sdk = new (protobuf ? ProtobufCentrifuge : Centrifuge)(url, {
      websocket: WebSocket,
      minReconnectDelay: 50,
      maxReconnectDelay: 500,
      ...(token ? { token } : {}),
      ...(asks ? { getToken: () => askForToken(client) } : {}),
      ...options,
    });
    report(sdk, CLIENT_EVENTS, { client });
    clients.set(client, sdk);
  },
  subscribe({ client, channel, token, asks, options }) {
    const subscription = clients.get(client).newSubscription(channel, {
      minResubscribeDelay: 50,
      maxResubscribeDelay: 500,
      ...(token ? { token } : {}),
      ...(asks ? { getToken: () => askForToken(client, channel) } : {}),
      ...options,
    });
    for (const event of ["join", "leave"]) {
      subscription.on(event, ({ info }) => say({ client, channel, event, user: info.user }));
    }
    report(subscription, SUBSCRIPTION_EVENTS, { client, channel });
    subscription.subscribe();
  },
  connect: ({ client }) => clients.get(client).connect(),
  disconnect: ({ client }) => clients.get(client).disconnect(),
  unsubscribe: ({ client, channel }) => clients.get(client).getSubscription(channel).unsubscribe(),
  publish: ({ client, channel, data }) => clients.get(client).publish(channel, pack(client, data)),
  rpc: ({ client, method, data }) => clients.get(client).rpc(method, pack(client, data)),
  history: async ({ client, channel }) => {
    const { publications, ...position } = await clients.get(client).history(channel, { limit: 1 });
    return { ...position, publications: publications.map((each) => ({ ...each, data: unpack(each.data) })) };
  },
  deltaStats: ({ client, channel }) => clients.get(client).getSubscription(channel).deltaStats(),
  presence: ({ client, channel }) => clients.get(client).presence(channel),
  token({ id, token }) {
    const { client, resolve, reject } = tokensWanted.get(id);
    tokensWanted.delete(id);
    if (token) resolve(token);
    else reject(new (inProtobuf.has(client) ? ProtobufUnauthorized : UnauthorizedError)());
  },
};

for await (const line of createInterface({ input: process.stdin })) {
  const { op, call, ...rest } = JSON.parse(line);
  Promise.resolve()
    .then(() => operations[op](rest))
    .then((result) => say({ done: call, ...(result ? { result } : {}) }))
    .catch((error) => say({ failed: call, code: error.code, message: error.message, temporary: error.temporary }));
}
for (const sdk of clients.values()) sdk.disconnect();
