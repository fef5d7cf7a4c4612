// What an operator can do. Each action asks first, and says afterwards what has happened.

import { plural } from "./words.js";

const $ = (id) => document.getElementById(id);

// Resolves with whether the operator wants it.
function confirmed(title, text, yes) {
  const dialog = $("confirm");
  $("confirm-title").textContent = title;
  $("confirm-text").textContent = text;
  $("confirm-yes").textContent = yes;
  dialog.returnValue = "";
  $("confirm-yes").onclick = () => dialog.close("yes");
  $("confirm-no").onclick = () => dialog.close("");
  dialog.showModal();
  return new Promise((resolve) => dialog.addEventListener("close", () => resolve(dialog.returnValue === "yes"), { once: true }));
}

async function act(post, path, body, said, words = (result) => result.message) {
  const say = (text, kind) => { said.textContent = text; said.dataset.kind = kind; };
  say("…", "");
  try {
    const { result } = await post(path, body);
    say(`${words(result)}.`, "done");
    return true;
  } catch (error) {
    say(`Not done: ${error.message}.`, "problem");
    return false;
  }
}

export function listen(post) {
  $("disconnect").addEventListener("submit", async (event) => {
    event.preventDefault();
    const user = $("disconnect-user").value.trim();
    const back = $("disconnect-return").checked;
    if (!user) {
      $("disconnect-said").textContent = "Whom? Enter a user id.";
      return $("disconnect-user").focus();
    }
    const text = back ? "All connections of this user are closed; its clients come back at once." : "All connections of this user are closed; its clients stay away until the user does something.";
    if (!(await confirmed(`Disconnect ${user}?`, text, "Disconnect"))) return;
    if (await act(post, "disconnect", JSON.stringify({ user, return: back }), $("disconnect-said"))) $("disconnect-user").value = "";
  });

  $("publish").addEventListener("submit", async (event) => {
    event.preventDefault();
    const channel = $("publish-channel").value.trim();
    const data = $("publish-data").value;
    try {
      JSON.parse(data);
    } catch {
      $("publish-said").textContent = 'The data is not JSON. A text needs quotes: "hello"';
      return $("publish-data").focus();
    }
    if (!channel) {
      $("publish-said").textContent = "Where? Enter a channel.";
      return $("publish-channel").focus();
    }
    if (!(await confirmed(`Publish to ${channel}?`, "Everyone who is subscribed to this channel gets it.", "Publish"))) return;
    const body = `{"channel":${JSON.stringify(channel)},"data":${data}}`; // as it was written: numbers keep their digits
    await act(post, "publish", body, $("publish-said"), ({ offset }) => `Published to ${channel}${offset ? `, offset ${offset}` : ""}`);
  });
}

export async function drain(post, worker, workers) {
  const others = workers.filter(({ name, state }) => name !== worker.name && state === "ready");
  const gap = others.length ? "The other workers take new clients meanwhile." : "No other worker is ready: new clients are refused until the next one runs.";
  const text = `It closes its ${plural(worker.connections, "connection")} one by one and ends; another worker starts in its place. ${gap}`;
  if (await confirmed(`Drain ${worker.name}?`, text, "Drain")) await act(post, "drain", JSON.stringify({ worker: worker.name }), $("action-said"));
}
