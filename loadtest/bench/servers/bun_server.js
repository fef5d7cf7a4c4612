// Bun as a peer: WebSocket clients on 127.0.0.1:PORT, all subscribed to one topic; one publisher on a unix socket.
// All lines of one read are published in one tick, so that Bun corks them into one write per client.
// Usage: bun bun_server.js PORT LINE_SOCKET. Ends with its input.

const [port, lineSocket] = process.argv.slice(2);

const server = Bun.serve({
  hostname: "127.0.0.1",
  port: Number(port),
  fetch(request, server) {
    if (server.upgrade(request)) return;
    return new Response("a WebSocket client is expected here\n", { status: 426 });
  },
  websocket: {
    open(client) {
      client.subscribe("bench");
    },
    message() {},
  },
});

let rest = "";
Bun.listen({
  unix: lineSocket,
  socket: {
    data(_publisher, bytes) {
      const lines = (rest + bytes.toString()).split("\n");
      rest = lines.pop();
      for (const line of lines) server.publish("bench", line);
    },
  },
});

process.stdin.on("end", () => process.exit(0));
process.stdin.resume();
console.log("ready");
