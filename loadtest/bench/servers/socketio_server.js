// Socket.IO as a peer: clients on 127.0.0.1:PORT, WebSocket only, one publisher on a unix socket.
// Usage: node socketio_server.js default|lean PORT LINE_SOCKET. Ends with its input.
//   default  as it comes; io.emit() for each message, which encodes it once
//   lean     what its documentation advises for many clients: each connection's HTTP request is forgotten, and there
//            are no other transports

const http = require("node:http");
const { Server } = require("socket.io");
const { ready, takeLines } = require("./lines.js");

const [way, port, lineSocket] = process.argv.slice(2);

const server = http.createServer();
const io = new Server(server, way === "lean" ? { transports: ["websocket"], serveClient: false } : {});
if (way === "lean") {
  io.engine.on("connection", (connection) => {
    connection.request = null;
  });
}

takeLines(lineSocket, (lines) => {
  for (const line of lines) io.emit("message", JSON.parse(line));
});
server.listen({ host: "127.0.0.1", port: Number(port), backlog: 4096 }, ready);
