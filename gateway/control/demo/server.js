// What the pages ask of the control port.

export async function post(path, body) {
  const answer = await fetch(path, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify(body),
  }).catch(() => null);
  if (!answer) throw new Error("the control port does not answer");
  const reply = await answer.json().catch(() => ({}));
  if (!answer.ok) throw new Error(reply.error?.message ?? `status ${answer.status}`);
  return reply;
}

export async function readConfig() {
  const answer = await fetch("config.json").catch(() => null);
  if (!answer?.ok) throw new Error("the control port does not answer");
  return answer.json();
}

export function websocketUrl({ websocket_port: port, websocket_path: path }) {
  return `${location.protocol === "https:" ? "wss" : "ws"}://${location.hostname}:${port}${path}`;
}
