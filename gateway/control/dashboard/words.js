// Numbers and times, for people.

export const count = (value) => value.toLocaleString("en");

export function rate(value) {
  if (value >= 1000) return `${(value / 1000).toFixed(value >= 10_000 ? 0 : 1)}k/s`;
  return `${value >= 10 || Number.isInteger(value) ? Math.round(value) : value.toFixed(1)}/s`;
}

export function bytes(value) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let unit = 0;
  for (; value >= 1024 && unit < units.length - 1; unit++) value /= 1024;
  return `${unit && value < 10 ? value.toFixed(1) : Math.round(value)} ${units[unit]}`;
}

export const ms = (value) => (value >= 100 ? Math.round(value).toString() : value >= 1 ? value.toFixed(1) : value.toFixed(2));

export function span(seconds) {
  if (seconds < 60) return `${Math.max(0, Math.round(seconds))} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min`;
  if (seconds < 172_800) return `${Math.floor(seconds / 3600)} h ${Math.floor((seconds % 3600) / 60)} min`;
  return `${Math.floor(seconds / 86_400)} days`;
}

export const clock = (seconds) => new Date(seconds * 1000).toLocaleTimeString("en-GB");

export const plural = (number, what) => `${count(number)} ${what}${number === 1 ? "" : "s"}`;
