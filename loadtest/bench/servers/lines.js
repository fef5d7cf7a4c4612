// What the Node.js peers share: the publisher's unix socket, and an end with the driver's.

const net = require("node:net");

// Listens on `path` and calls `publish` with the lines (strings) of each read.
function takeLines(path, publish) {
  net
    .createServer((publisher) => {
      let rest = "";
      publisher.setEncoding("utf8");
      publisher.on("data", (text) => {
        const lines = (rest + text).split("\n");
        rest = lines.pop();
        if (lines.length) publish(lines);
      });
      publisher.on("error", () => publisher.destroy());
    })
    .listen(path);
}

// Says that the server is ready, and ends with the input.
function ready() {
  process.stdin.on("end", () => process.exit(0));
  process.stdin.resume();
  console.log("ready");
}

module.exports = { takeLines, ready };
