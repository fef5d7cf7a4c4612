// TOKEN=… node node.mjs; with PROTOBUF=1 in Protobuf, where data is bytes.
import WebSocket from "ws";

const { Centrifuge } = await import(process.env.PROTOBUF ? "centrifuge/build/protobuf" : "centrifuge");
const client = new Centrifuge(process.env.GATEWAY ?? "ws://localhost:8000/connection/websocket", {
  websocket: WebSocket,
  token: process.env.TOKEN,
});
const news = client.newSubscription("news");
news.on("subscribed", () => console.log("subscribed"));
news.on("publication", ({ data }) => {
  const { text } = data instanceof Uint8Array ? JSON.parse(new TextDecoder().decode(data)) : data;
  console.log(text);
});
client.on("disconnected", ({ code, reason }) => console.error(`disconnected: ${code} ${reason}`));
news.subscribe();
client.connect();
process.once("SIGTERM", () => client.disconnect());
