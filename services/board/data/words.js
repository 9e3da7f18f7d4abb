// How numbers, times and states are put.

const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const fine = new Intl.NumberFormat("en", { maximumFractionDigits: 1 });

export const number = (value) => whole.format(value);
export const counted = (value, noun) => `${number(value)} ${noun}${value === 1 ? "" : "s"}`;

export function rate(value) {
  if (value == null) return "…";
  return `${value >= 10 ? whole.format(value) : fine.format(value)}/s`;
}

export function duration(seconds) {
  if (seconds < 1) return "a moment";
  if (seconds < 90) return `${Math.round(seconds)} s`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} min`;
  if (seconds < 172800) return `${fine.format(seconds / 3600)} h`;
  return `${whole.format(seconds / 86400)} days`;
}

// How long one message takes.
export function brief(seconds) {
  if (seconds >= 90) return duration(seconds);
  return seconds >= 1 ? `${fine.format(seconds)} s` : seconds >= 0.001 ? `${whole.format(seconds * 1000)} ms` : "under 1 ms";
}

export function eta(value) {
  if (value == null) return "not known yet";
  if (value === "empty") return "empty";
  if (value === "level") return "keeps its length";
  if (value === "grows") return "grows: never at this pace";
  if (value === "stuck") return "nothing moves";
  return value < 1 ? "at once" : `empty in about ${duration(value)}`;
}

export const size = (bytes) => (bytes < 1024 ? counted(bytes, "byte") : bytes < 1048576 ? `${fine.format(bytes / 1024)} KiB` : `${fine.format(bytes / 1048576)} MiB`);

export const clock = (iso) => {
  const time = new Date(iso);
  return Number.isNaN(time.getTime()) ? "" : time.toLocaleTimeString("en-GB");
};

export function moment(iso) {
  const time = new Date(iso);
  if (!iso || Number.isNaN(time.getTime())) return "";
  const sameDay = time.toDateString() === new Date().toDateString();
  return sameDay ? time.toLocaleTimeString("en-GB") : time.toLocaleString("en-GB", { dateStyle: "medium", timeStyle: "short" });
}

// What ends stages, or cannot be undone.
export const isDangerous = (verb) => ["Halt", "Drain", "Purge"].includes(verb);

// A shape for each state, so that nobody needs to see colours.
export const SHAPES = { running: "●", starting: "◐", pausing: "◑", paused: "‖", blocked: "■", refused: "■", halting: "◒", halted: "○", gave_up: "✕", silent: "✕" };
const ORDER = ["silent", "gave_up", "blocked", "refused", "halting", "starting", "pausing", "paused", "running", "halted"];

export function states(given) {
  const names = Object.keys(given).sort((a, b) => ORDER.indexOf(a) - ORDER.indexOf(b));
  return names.map((name) => `${given[name]} ${name.replace("_", " ")}`).join(", ");
}
