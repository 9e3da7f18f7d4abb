// The pipeline as it is drawn: a row for each stage and each queue, in flow order.

import { byId, h, placeChildren, s, setChildren, setText } from "./dom.js";
import { SHAPES, brief, counted, duration, eta, number, rate, states } from "./words.js";

const WIDTH = 200;
const HEIGHT = 40;
const MOST_SHAPES = 24;
const STEP_SECONDS = 5; // between two points of a line: history.py
const LEAST_AGE = 3; // in seconds: it looks every two

const rows = new Map(); // what is drawn, by kind and name

export function draw(picture, mayAct, act) {
  const givenUp = picture.rows.reduce((sum, row) => sum + (row.dead ?? 0), 0);
  drawVerdict(picture, givenUp);
  const flow = byId("flow");
  const seen = new Set();
  const elements = picture.rows.map((row) => {
    const key = `${row.kind} ${row.name}`;
    seen.add(key);
    if (!rows.has(key)) rows.set(key, row.kind === "stage" ? new Stage(row, act) : new Queue());
    const drawn = rows.get(key);
    drawn.update(row, picture, mayAct);
    return drawn.element;
  });
  for (const key of rows.keys()) if (!seen.has(key)) rows.delete(key);
  placeChildren(flow, elements);
  byId("flow-empty").hidden = elements.length > 0 || Boolean(picture.broker.why);
}

// What is over by itself comes first only when nothing needs a person.
function drawVerdict(picture, givenUp) {
  const [headline, more] = verdict(picture, givenUp);
  const needs = givenUp ? h("a", { class: "needs", href: "#letters-title" }, `${counted(givenUp, "message")} ${givenUp === 1 ? "was" : "were"} given up: see Dead letters.`) : null;
  setChildren(byId("verdict"), h("span", null, headline), needs && " ", needs);
  setText(byId("verdict-more"), more);
  const alarms = picture.problems.filter((each) => each.rank === "alarm").length;
  setText(byId("announced"), `${headline.split(",")[0]}${alarms ? `; ${counted(alarms, "alarm")}` : ""}`); // without figures, which change all the time
  const lines = picture.problems.map((each) =>
    h("li", { class: each.rank }, h("span", null, h("b", null, each.what), each.cure && h("span", { class: "cure" }, each.cure, each.command ? " " : "", each.command ? h("code", null, each.command) : null))));
  setChildren(byId("problems"), ...lines);
}

function verdict({ verdict: told, rows: drawn, broker }, givenUp) {
  if (broker.why) return ["The broker does not answer.", "What stands below is how it was when it was last seen."];
  if (!told) return ["Looking …", ""];
  const stages = drawn.filter((row) => row.kind === "stage");
  if (!stages.length && !told.waiting) return ["Nobody is here.", "No stage is at the broker, and no message waits."];
  if (!told.waiting && givenUp) return ["No message waits.", "All that was published has been handled, but for those that were given up."];
  if (!told.waiting) return ["All caught up.", "No message waits: everything that was published has been handled."];
  const queue = drawn.find((row) => row.kind === "queue" && row.name === told.queue);
  const total = queue?.waiting === told.waiting ? "" : `${counted(told.waiting, "message")} in all.`;
  if (told.bottleneck == null) return ["It keeps up.", `${counted(told.waiting, "message")} on the way. ${whole(told.eta)}`];
  if (!told.bottleneck) return [`Nobody reads ${told.queue}.`, `${counted(queue.waiting, "message")} wait there. ${total}`];
  const stage = stages.find((row) => row.name === told.bottleneck);
  if (stage?.paused) return [`${told.bottleneck} is paused.`, `${counted(queue.waiting, "message")} wait in ${told.queue} until it is resumed. ${total}`];
  if (stage && !stage.count) return [`${told.bottleneck} is not there.`, `${counted(queue.waiting, "message")} wait for it in ${told.queue}, and no replica reads them. ${total}`];
  const pace = queue.out ? `it handles ${rate(queue.out)}, and ${rate(queue.in)} come in` : "it handles none now";
  return [`${told.bottleneck} is behind${until(told.eta)}.`, `It is the bottleneck: ${counted(queue.waiting, "message")} wait for it in ${told.queue}; ${pace}.${typeof told.eta === "number" ? "" : ` ${whole(told.eta)}`}`];
}

// When that is over by itself, if it is.
function until(value) {
  if (typeof value === "number") return `, caught up in about ${duration(Math.max(1, value))}`;
  return value === "grows" || value === "level" ? ", and does not catch up" : "";
}

function whole(value) {
  if (value == null) return "How long it takes is known in half a minute.";
  if (value === "stuck") return "It does not move: see below.";
  if (value === "grows") return "At this pace it never catches up.";
  if (value === "level") return "The queue keeps its length: at this pace it does not catch up.";
  if (value === "empty" || value < 1) return "They are handled in a moment.";
  return `They are handled in about ${duration(value)}.`;
}

class Queue {
  constructor() {
    this.tube = h("span", { class: "tube" });
    this.title = h("h3");
    this.path = h("p", { class: "what" });
    this.depth = h("p", { class: "big" });
    this.pace = h("p", { class: "facts" });
    this.others = h("p", { class: "facts" });
    this.line = new Line("messages waiting");
    const card = h("div", { class: "card" }, h("div", null, this.title, this.path), h("div", null, this.depth, this.pace, this.others), this.line.element);
    this.element = h("li", { class: "queue" }, h("span", { class: "spine", "aria-hidden": "true" }, this.tube), card);
  }

  update(row) {
    setChildren(this.title, row.name, row.eta === "grows" ? h("span", { class: "tag wrong" }, "grows") : null, row.dead && !row.reader ? givenUpTag(row.dead) : null);
    setText(this.path, `queue${row.writers.length ? `, from ${row.writers.join(", ")}` : ""}${row.reader ? "" : ", read by nobody"}`);
    setChildren(this.depth, number(row.waiting), h("small", null, row.waiting === 1 ? " message waits" : " messages wait"));
    setText(this.pace, `in ${rate(row.in)} · out ${rate(row.out)}${row.waiting ? ` · ${eta(row.eta)}` : ""}`);
    const held = row.waiting ? [`${number(row.ready)} ready${oldest(row)}`, `${number(row.in_flight)} in flight`] : [];
    setText(this.others, [...held, ...(row.retrying ? [`besides, ${number(row.retrying)} retrying`] : [])].join(" · "));
    this.tube.classList.toggle("waiting", row.waiting > 0);
    this.tube.classList.toggle("moving", row.out > 0 && row.waiting > 0);
    this.line.update(row.line);
  }
}

class Stage {
  constructor(row, act) {
    this.node = h("span", { class: "node" });
    this.title = h("h3");
    this.role = h("p", { class: "what" });
    this.speed = h("p", { class: "big" });
    this.counts = h("p", { class: "facts" });
    this.line = new Line("handled per second");
    this.summary = h("summary");
    this.table = h("div", { class: "scroll", tabindex: "0", role: "group", "aria-label": `replicas of ${row.name}` });
    this.details = h("details", { ontoggle: () => this.fillTable() }, this.summary, this.table);
    this.actions = h("div", { class: "actions" });
    this.act = act;
    const card = h("div", { class: "card" }, h("div", null, this.title, this.role), h("div", null, this.speed, this.counts), this.line.element, h("div", { class: "more" }, this.details, this.actions));
    this.element = h("li", { class: "stage" }, h("span", { class: "spine", "aria-hidden": "true" }, this.node), card);
  }

  update(row, picture, mayAct) {
    this.row = row;
    const isNarrow = row.count > 0 && picture.verdict?.bottleneck === row.name;
    const wrong = ["silent", "gave_up", "blocked", "refused"].some((state) => row.states[state]);
    const state = Object.keys(row.states)[0];
    const dead = picture.rows.reduce((sum, each) => sum + (each.reader === row.name ? each.dead : 0), 0);
    const one = Object.keys(row.states).length === 1;
    this.element.classList.toggle("bottleneck", isNarrow);
    this.node.className = `node${wrong ? " wrong" : row.count && state !== "paused" ? "" : " off"}`;
    setText(this.node, wrong ? "!" : row.count ? (one ? SHAPES[state] ?? "?" : String(row.count)) : "–");
    setChildren(this.title, row.name, isNarrow ? h("span", { class: "tag" }, "bottleneck") : null, row.paused ? h("span", { class: "tag" }, "paused") : null, row.count ? null : h("span", { class: "tag wrong" }, "no replica"), dead ? givenUpTag(dead) : null);
    setText(this.role, [row.role, row.count ? `${counted(row.count, "replica")}: ${states(row.states)}` : "not at the broker: halted, ended, or never started"].filter(Boolean).join(" · "));
    setChildren(this.speed, row.count ? rate(row.rate) : "–", h("small", null, row.role === "source" ? " published" : " handled"));
    setChildren(this.counts, ...facts(row));
    this.line.update(row.line);
    setChildren(this.summary, h("span", { class: "shapes", "aria-hidden": "true" }, row.replicas.slice(0, MOST_SHAPES).map((each) => SHAPES[each.state] ?? "?").join("")), row.count > MOST_SHAPES ? ` and ${row.count - MOST_SHAPES} more` : "", " replicas", h("span", { class: "unseen" }, ` of ${row.name}`));
    this.details.hidden = !row.count;
    this.fillTable();
    this.drawActions(mayAct);
  }

  drawActions(mayAct) {
    const verbs = mayAct ? verbsFor(this.row) : [];
    if (this.drawn === verbs.join()) return;
    this.drawn = verbs.join();
    const name = this.row.name;
    this.actions.replaceChildren(...verbs.map((verb) => h("button", { onclick: () => this.act(verb, name), "aria-label": `${verb} ${name}` }, verb)));
  }

  fillTable() {
    if (!this.details.open) return;
    const cells = (each) => [each.name.split("/").slice(1).join("/"), `${SHAPES[each.state] ?? ""} ${each.state.replace("_", " ")}${each.why ? `: ${each.why}` : ""}`, each.in_flight, each.handled, each.failed];
    const body = this.row.replicas.map((each) => h("tr", null, ...cells(each).map((cell, index) => h("td", { class: index > 1 ? "number" : null }, typeof cell === "number" ? number(cell) : cell ?? ""))));
    const head = ["replica", "state", "in flight", "handled", "failed"].map((name, index) => h("th", { class: index > 1 ? "number" : null, scope: "col" }, name));
    const more = this.row.count - this.row.replicas.length;
    setChildren(this.table, h("table", null, h("thead", null, h("tr", null, ...head)), h("tbody", null, ...body)), more > 0 ? h("p", { class: "muted" }, `${more} more`) : null);
  }
}

// For how long the oldest of them has waited; of what was there before, the board knows only how long it has looked.
function oldest({ oldest_seconds: seconds, oldest_is_exact: isExact }) {
  if (seconds == null || seconds < LEAST_AGE) return "";
  return isExact ? `, the oldest for ${duration(seconds)}` : `, the oldest for more than ${duration(seconds)}`;
}

// A stage that is paused is resumed first: its queue does not become empty. That can be done without a replica too.
function verbsFor({ paused, states: given, count }) {
  if (paused || given.paused) return count ? ["Resume", "Halt"] : ["Resume"];
  return count ? ["Pause", "Drain", "Halt"] : [];
}

function facts(row) {
  const told = [h("b", null, number(row.handled)), " since start"];
  if (row.handler_seconds != null && row.role !== "source") told.push(` · ${brief(row.handler_seconds)} each`);
  if (row.oldest_seconds >= 1) told.push(` · the oldest for ${brief(row.oldest_seconds)}`);
  if (row.in_flight) told.push(` · ${number(row.in_flight)} in flight`);
  if (row.failed) told.push(" · besides, ", h("span", { class: "wrong" }, `${counted(row.failed, "failure")}`), ` (${number(row.retried)} tried again, ${number(row.dead_lettered)} given up)`);
  return told;
}

const givenUpTag = (count) => h("span", { class: "tag wrong" }, `${number(count)} given up`);

// What was, as a line: as much of the last ten minutes as the board has seen.
class Line {
  constructor(what) {
    this.what = what;
    this.area = s("path", { class: "area" });
    this.stroke = s("path", { class: "stroke" });
    const base = s("path", { class: "base", d: `M0 ${HEIGHT}H${WIDTH}` });
    this.svg = s("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", role: "img" }, base, this.area, this.stroke);
    this.from = h("span");
    this.most = h("span");
    this.element = h("figure", { class: "spark" }, this.svg, h("figcaption", null, this.from, this.most));
  }

  update(values) {
    const most = Math.max(...values, 0);
    const step = WIDTH / Math.max(1, values.length - 1);
    const points = values.map((value, index) => `${(step * index).toFixed(1)} ${(HEIGHT - 2 - (HEIGHT - 6) * (most ? value / most : 0)).toFixed(1)}`);
    const path = points.length ? `M${points.join("L")}` : "";
    this.stroke.setAttribute("d", path);
    this.area.setAttribute("d", path && `${path}L${WIDTH} ${HEIGHT}L0 ${HEIGHT}Z`);
    const unit = this.what === "handled per second" ? rate(most) : number(most);
    const span = duration(STEP_SECONDS * Math.max(1, values.length - 1));
    setText(this.from, `last ${span}`);
    setText(this.most, most ? `up to ${unit}` : "none");
    this.svg.setAttribute("aria-label", `${this.what} in the last ${span}, up to ${unit}, now ${number(values.at(-1) ?? 0)}`);
  }
}
