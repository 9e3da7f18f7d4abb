// Dead letters: why there are some, which they are, one of them as a whole.

import { byId, h, setText } from "./dom.js";
import { clock, counted, isDangerous, moment, number, size } from "./words.js";

const SEEN = "dead letters seen until"; // of each queue and reason, when the newest was given up

export class Letters {
  // ask: (path, whether an error is told) → JSON; act: (path, body, question) → whether it was begun
  constructor(ask, act) {
    this.ask = ask;
    this.act = act;
    this.summary = { at: 0, total: 0, rows: [] };
    this.mayAct = false;
    this.chosen = null; // the list that is open: queue, reason and page
    this.hasActed = false; // since it was listed
    this.seen = JSON.parse(localStorage.getItem(SEEN) ?? "{}");
  }

  update(summary) {
    const isNew = summary.at !== this.summary.at;
    this.summary = summary;
    this.draw();
    if (!isNew || !this.chosen) return;
    if (this.hasActed) this.open(this.chosen.queue, this.chosen.reason, this.chosen.page, false);
    else this.changed.hidden = false; // the list stays as it is: somebody may be choosing from it
  }

  setCount(total) {
    byId("letters-count").hidden = !total;
    setText(byId("letters-count"), number(total));
    this.live = total;
    this.draw();
  }

  draw() {
    const { at, rows, total } = this.summary;
    const live = this.live ?? 0;
    setText(byId("letters-at"), at ? `as of ${clock(at * 1000)}${live !== total ? `, when there were ${number(total)}` : ""}` : "");
    const drawn = JSON.stringify([rows, live, this.mayAct, at > 0]);
    if (drawn === this.drawn) return;
    this.drawn = drawn;
    const empty = live ? `${counted(live, "message")} given up. Press Look again to see why.` : "None: no message has been given up.";
    byId("reasons").replaceChildren(...(rows.length ? rows.map((row) => this.reason(row)) : [h("p", { class: "empty" }, empty)]));
  }

  reason(row) {
    const seen = this.seen[`${row.queue} ${row.reason}`];
    const fresh = seen === undefined ? `${number(row.count)} new since you looked` : row.newest > seen ? "new since you looked" : "";
    const told = h("div", null,
      h("p", { class: "why" }, row.reason, fresh ? h("span", { class: "tag" }, fresh) : null),
      row.message ? h("p", { class: "said" }, row.message) : null,
      h("p", { class: "muted" }, `${row.stage ? `in ${row.stage}, ` : ""}from ${row.queue}${row.last ? `, last at ${moment(row.last)}` : ""}`));
    const buttons = [h("button", { onclick: () => this.open(row.queue, row.reason, 0), "aria-label": `Show ${row.reason} of ${row.queue}` }, "Show")];
    if (this.mayAct && !row.is_rest) buttons.push(this.verb("replay", row), this.verb("purge", row));
    return h("div", { class: "reason" }, h("p", { class: "big" }, number(row.count)), told, h("div", { class: "actions" }, ...buttons));
  }

  // Either what was chosen, or all of a row: those that were there when it was drawn.
  verb(verb, row, chosen) {
    const { queue, reason, count, newest } = row;
    const title = verb === "replay" ? "Replay" : "Purge";
    const which = chosen ? `the ${counted(chosen.length, "message")} chosen` : `all ${counted(count, "message")} with ${reason}`;
    const order = row.is_ordered ? " Its edge is ordered, and what was published after them has been handled: they come out of order." : "";
    const what = verb === "replay" ? `They go back into ${queue}, with all their attempts before them.${order}` : "They are deleted for good. Nobody can bring them back.";
    const question = { title: `${title} ${which} of ${queue}?`, text: what, yes: title };
    const meant = chosen ? { chosen: chosen.map(({ id, failed_at }) => [id, failed_at]) } : { reason, count, until: newest };
    const send = async () => { this.hasActed = await this.act("/api/letters/act", { verb, queue, ...meant }, question) || this.hasActed; };
    return h("button", { class: isDangerous(title) ? "danger" : null, onclick: send, "aria-label": `${title} ${which} of ${queue}` }, chosen ? `${title} ${chosen.length}` : `${title} all`);
  }

  // Only what a person asks for has been seen.
  async open(queue, reason, page, isAsked = true) {
    this.hasActed = false;
    const found = await this.ask(`/api/letters?${new URLSearchParams({ queue, reason, page })}`, isAsked);
    if (!found) return;
    this.chosen = { queue, reason, page };
    if (isAsked) this.seen[`${queue} ${reason}`] = found.newest;
    localStorage.setItem(SEEN, JSON.stringify(this.seen));
    this.drawn = null;
    this.draw();
    this.list(queue, reason, found);
    if (isAsked) byId("letter-list").scrollIntoView({ block: "nearest" });
  }

  list(queue, reason, found) {
    const box = byId("letter-list");
    const bar = h("div", { class: "actions" });
    const boxes = [];
    const row = { queue, reason, is_ordered: found.is_ordered };
    const update = () => {
      const chosen = found.letters.filter((_, index) => boxes[index].checked);
      bar.replaceChildren(...(chosen.length && this.mayAct ? [this.verb("replay", row, chosen), this.verb("purge", row, chosen)] : []), ...pager);
    };
    this.changed = h("p", { class: "muted", role: "status", hidden: true }, "Others were given up since, or some are gone. ", h("button", { class: "quiet", onclick: () => this.open(queue, reason, found.page) }, "List them anew"));
    const turn = (by) => h("button", { disabled: found.page + by < 0 || found.page + by >= found.pages, onclick: () => this.open(queue, reason, found.page + by) }, by < 0 ? "Newer" : "Older");
    const pager = found.pages > 1 ? [turn(-1), h("span", { class: "muted" }, `page ${found.page + 1} of ${found.pages}`), turn(1)] : [];
    const rows = found.letters.map((letter) => {
      const tick = h("input", { type: "checkbox", value: letter.id, "aria-label": `choose ${letter.id}`, disabled: !letter.id, onchange: update });
      boxes.push(tick);
      const open = letter.id ? h("button", { class: "link", onclick: () => this.show(letter) }, letter.id) : "no message id: choose it by its reason";
      return h("tr", null, h("td", null, tick), h("td", null, open), h("td", null, letter.message), h("td", { class: "number wide-only" }, letter.attempts == null ? "" : String(letter.attempts)), h("td", { class: "number wide-only" }, size(letter.size)), h("td", { class: "wide-only" }, moment(letter.failed_at)));
    });
    const all = h("input", { type: "checkbox", "aria-label": "choose all on this page", onchange: () => { for (const each of boxes) each.checked = all.checked && !each.disabled; update(); } });
    const head = h("tr", null, h("th", null, all), ...["message id", "what went wrong"].map((name) => h("th", { scope: "col" }, name)), h("th", { class: "number wide-only" }, "attempts"), h("th", { class: "number wide-only" }, "size"), h("th", { class: "wide-only" }, "given up at"));
    const left = found.total - found.kept;
    box.replaceChildren(
      h("div", { class: "head" }, h("h3", null, `${counted(found.total, "message")} of ${queue}: ${reason}`), h("button", { class: "quiet", onclick: () => this.close() }, "Close the list")),
      this.changed,
      h("div", { class: "scroll-wide" }, h("table", null, h("thead", null, head), h("tbody", null, ...rows))),
      left > 0 ? h("p", { class: "muted" }, `The newest ${number(found.kept)} are listed; ${number(left)} older ones are counted only.`) : "",
      bar);
    update();
    box.hidden = false;
  }

  close() {
    this.chosen = null;
    byId("letter-list").hidden = true;
  }

  async show(letter) {
    const found = await this.ask(`/api/letter?${new URLSearchParams({ queue: letter.queue, id: letter.id })}`, true);
    if (!found) return;
    setText(byId("letter-title"), found.reason);
    const pairs = (given) => h("dl", { class: "pairs" }, ...Object.entries(given).filter(([, value]) => value !== "" && value != null).flatMap(([name, value]) => [h("dt", null, name), h("dd", null, value)]));
    const deaths = found.deaths.map((each) => h("tr", null, h("td", null, each.queue), h("td", null, each.reason), h("td", { class: "number" }, each.count), h("td", null, moment(each.time) || each.time)));
    byId("letter-body").replaceChildren(
      found.message ? h("p", { class: "error" }, found.message) : "",
      h("h3", null, "How it came here"),
      pairs({ "message id": found.id, queue: found.queue, stage: found.stage, replica: found.replica, attempts: found.attempts, "given up at": moment(found.failed_at), "routing key": found.routing_key }),
      deaths.length ? h("table", null, h("thead", null, h("tr", null, ...["queue", "by the broker", "times", "at"].map((name) => h("th", null, name)))), h("tbody", null, ...deaths)) : "",
      h("h3", null, `Body, ${size(Number(found.size))}`), ...body(found),
      h("h3", null, "Headers"), Object.keys(found.headers).length ? pairs(found.headers) : h("p", null, "none"),
      h("h3", null, "Properties"), pairs(found.properties));
    byId("letter").showModal();
  }
}

function body(found) {
  const forms = [["JSON", found.json], ["Text", found.text], ["Hex", found.hex]].filter(([, value]) => value != null);
  const pre = h("pre", { tabindex: "0", id: "letter-pre" });
  const tabs = forms.map(([name, value]) => h("button", { type: "button", "aria-controls": "letter-pre", onclick: () => select(name, value) }, name));
  const select = (name, value) => {
    pre.textContent = value;
    pre.classList.toggle("hex", name === "Hex");
    for (const tab of tabs) tab.setAttribute("aria-pressed", String(tab.textContent === name));
  };
  if (forms.length) select(...forms[0]);
  const cut = Number(found.size) > found.shown ? h("p", null, `The first ${size(found.shown)} are shown.`) : "";
  return [h("div", { class: "tabs", role: "group", "aria-label": "Shown as" }, ...tabs), pre, cut];
}
