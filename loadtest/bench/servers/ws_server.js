// `ws` as a peer: WebSocket clients on 127.0.0.1:PORT, one publisher on a unix socket.
// Usage: node ws_server.js send|shared PORT LINE_SOCKET. Ends with its input.
//   send    the broadcast of its documentation: client.send() for each client and message
//   shared  its best: the frames of all lines of one read are made once, and written to each client in one write

const http = require("node:http");
const { Sender, WebSocket, WebSocketServer } = require("ws");
const { ready, takeLines } = require("./lines.js");

const [way, port, lineSocket] = process.argv.slice(2);
const TEXT = { fin: true, rsv1: false, opcode: 1, mask: false, readOnly: false };

const server = http.createServer();
const sockets = new WebSocketServer({ server });
sockets.on("connection", (client) => client.on("error", () => client.terminate()));

function send(lines) {
  for (const line of lines) {
    sockets.clients.forEach((client) => {
      if (client.readyState === WebSocket.OPEN) client.send(line);
    });
  }
}

function sendShared(lines) {
  const frames = Buffer.concat(lines.flatMap((line) => Sender.frame(Buffer.from(line), TEXT)));
  for (const client of sockets.clients) {
    if (client.readyState === WebSocket.OPEN) client._socket.write(frames);
  }
}

takeLines(lineSocket, way === "shared" ? sendShared : send);
server.listen({ host: "127.0.0.1", port: Number(port), backlog: 4096 }, ready);
