// What codes of the protocol mean, in words for people.

const ERRORS = {
  0: "Not connected at the moment.",
  100: "The gateway has trouble at the moment. Try again.",
  101: "The gateway does not know who you are.",
  102: "There is no such channel: its namespace is not configured.",
  103: "You may not do that here.",
  105: "You are here already.",
  106: "That is more than the gateway allows.",
  107: "The gateway did not understand that.",
  108: "This gateway does not offer that.",
  109: "Your token has expired.",
  111: "Slow down a little, and try again.",
  410: "That is no longer there.",
};

const CLOSES = {
  0: "No sign of life from the gateway",
  1001: "The gateway went away",
  1006: "The connection broke",
  1009: "A message was too large",
  1013: "The gateway is full",
  3001: "The gateway is restarting",
  3005: "Your time was over",
  3008: "This device reads too slowly",
  3012: "This device did not answer a ping",
  3013: "Too many messages at once",
  3500: "The token was not accepted",
  3502: "It took too long to log in",
  3503: "You were disconnected by the server",
  3504: "Too many connections",
  3507: "You may not connect",
};

export const errorInWords = (error) => ERRORS[error.code ?? 0] ?? `The gateway says: ${error.message}.`;

export const closeInWords = ({ code, reason }) => CLOSES[code ?? 0] ?? (reason || `Closed with code ${code}`);
