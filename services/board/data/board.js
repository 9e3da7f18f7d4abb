// The page: who is logged in, what comes from the service, and what is sent to it.

import { byId, h, placeChildren, setChildren, setText } from "./dom.js";
import { Letters } from "./letters.js";
import { draw } from "./pipeline.js";
import { clock, isDangerous } from "./words.js";

let session = null;
let picture = null;
let events = null;
let heard = 0; // when something came last, by this machine's clock

async function request(path, body) {
  const options = body === undefined ? {} : { method: "POST", headers: { "Content-Type": "application/json", "X-CSRF-Token": session?.csrf ?? "" }, body: JSON.stringify(body) };
  let response;
  try {
    response = await fetch(path, { ...options, credentials: "same-origin" });
  } catch {
    return { error: "The board does not answer." };
  }
  if (response.status === 401) await showLogin();
  const answer = await response.json().catch(() => null);
  return response.ok ? { answer } : { error: answer?.error ?? `The board answers with ${response.status}.` };
}

async function ask(path, isTold) {
  const { answer, error } = await request(path);
  if (error && isTold) await tell("That did not work.", error);
  return answer;
}

// A question, then the deed.
async function act(path, body, question) {
  if (!(await confirmed(question))) return false;
  const { error } = await request(path, body);
  if (error) await tell("That was not done.", error);
  return !error;
}

const QUESTIONS = {
  Halt: (who) => `${who} finishes what runs and stops. What is queued stays queued. To start again: make up.`,
  Drain: (who) => `${who} works until the queue is empty, and stops then, in flow order. To start again: make up.`,
  Pause: (who) => `${who} finishes what runs and takes no more, until it is resumed. It stays connected, and what starts later is paused too.`,
  Resume: (who) => `${who} takes messages again.`,
};

function actOnStage(verb, stage) {
  const text = QUESTIONS[verb](stage ? `Each replica of ${stage}` : "Every stage");
  return act("/api/act", { verb: verb.toLowerCase(), target: stage ?? "" }, { title: `${verb} ${stage ?? "all stages"}?`, text, yes: verb });
}

// There is one dialog: what comes while it is open waits until that is answered.
let answered = Promise.resolve();

function confirmed(question) {
  answered = answered.then(() => put(question));
  return answered;
}

function put({ title, text, yes, no = true }) {
  const dialog = byId("question");
  setText(byId("question-title"), title);
  setText(byId("question-text"), text);
  setText(byId("question-yes"), yes);
  byId("question-yes").className = isDangerous(yes) ? "main danger" : "main";
  dialog.querySelector("[value=no]").hidden = !no;
  dialog.returnValue = "no";
  dialog.showModal();
  return new Promise((resolve) => dialog.addEventListener("close", () => resolve(dialog.returnValue === "yes"), { once: true }));
}

const tell = (title, text) => confirmed({ title, text, yes: "I see", no: false });

const letters = new Letters(ask, act);

function redraw() {
  if (!picture || !session) return;
  draw(picture, session.may_act, actOnStage);
  letters.setCount(picture.rows.reduce((sum, row) => sum + (row.dead ?? 0), 0));
  const { why, since_text: since } = picture.broker;
  byId("away").hidden = !why;
  setText(byId("away"), why ? `The broker does not answer since ${since}: ${why}. The board goes on trying.` : "");
}

const underWay = new Map(); // the line of each job, by its number: a button in it keeps the focus
let lastOver = null; // the number of the job that was over last

function drawJobs(jobs) {
  const now = jobs.filter((job) => job.ok === null);
  for (const each of underWay.keys()) if (!now.some((job) => job.number === each)) underWay.delete(each);
  for (const job of now) {
    if (!underWay.has(job.number)) underWay.set(job.number, h("p", { class: "job" }, h("b", null, job.what), h("span", { class: "muted" }), job.can_cancel && session?.may_act ? h("button", { onclick: () => request("/api/cancel", { number: job.number }) }, "Cancel") : null));
    setText(underWay.get(job.number).querySelector("span"), `${job.said || "begins"} · ${job.who}, since ${clock(job.began)}`);
  }
  placeChildren(byId("jobs-now"), [...underWay.values()]);
  const over = jobs.filter((job) => job.ok !== null);
  const [last] = over;
  if (last && lastOver !== null && last.number !== lastOver) setText(byId("announced-job"), `${last.what}: ${last.ok ? "" : "not done: "}${last.said}`);
  lastOver = last?.number ?? 0;
  const done = over.map((job) => h("li", null, h("time", { datetime: job.ended }, clock(job.ended)), h("span", { title: job.ok ? "done" : "not done" }, job.ok ? "✓" : "✕"), h("span", null, h("b", null, job.what), ` by ${job.who} — ${job.ok ? "" : "not done: "}${job.said}`)));
  setChildren(byId("log"), ...(done.length ? done : [h("li", null, h("span"), h("span"), h("span", { class: "muted" }, "Nothing yet."))]));
}

// One stream in each page that is shown: a browser has six connections to a board, for all its pages.
function listen() {
  events?.close();
  if (document.hidden || !session) return;
  events = new EventSource("/api/events");
  const on = (name, take) => events.addEventListener(name, (event) => {
    heard = Date.now();
    take(JSON.parse(event.data));
  });
  on("picture", (given) => { picture = given; redraw(); showLive(); });
  on("jobs", drawJobs);
  on("letters", (given) => letters.update(given));
  events.onerror = async () => {
    if (events?.readyState !== EventSource.CLOSED) return; // it tries again by itself
    const { answer, error } = await request("/api/session");
    if (!error && !answer) await showLogin();
    else setTimeout(listen, 3000);
  };
}

function showLive() {
  if (!session || !heard) return;
  const isLive = Date.now() - heard < 40000;
  byId("live").classList.toggle("stale", !isLive);
  setText(byId("live"), isLive ? "live" : "not live");
  setText(byId("as-of"), picture ? `as of ${clock(picture.at * 1000)}` : "");
}

function showBoard() {
  byId("login").hidden = true;
  byId("board").hidden = byId("bar").hidden = false;
  setText(byId("user"), session.may_act ? session.user : `${session.user}, may look`);
  letters.mayAct = session.may_act;
  byId("main").focus();
  const verbs = session.may_act ? ["Pause", "Resume", "Drain", "Halt"] : [];
  byId("all-actions").replaceChildren(...verbs.map((verb) => h("button", { class: isDangerous(verb) ? "danger" : null, onclick: () => actOnStage(verb, null) }, `${verb} all`)));
  listen();
}

async function showLogin() {
  events?.close();
  session = picture = null;
  heard = 0;
  byId("board").hidden = byId("bar").hidden = true;
  byId("login").hidden = false;
  byId("login-user").focus();
}

byId("login").addEventListener("submit", async (event) => {
  event.preventDefault();
  const button = event.target.querySelector("button");
  button.disabled = true;
  const { answer, error } = await request("/api/login", { user: byId("login-user").value, password: byId("login-password").value });
  button.disabled = false;
  byId("login-password").value = "";
  setText(byId("login-error"), error ?? "");
  if (!answer) return;
  session = answer;
  showBoard();
});

byId("log-out").addEventListener("click", async () => {
  await request("/api/logout", {});
  await showLogin();
});

byId("letters-look").addEventListener("click", () => request("/api/look", {}).then(({ error }) => error && tell("That was not done.", error)));

document.addEventListener("visibilitychange", () => {
  if (document.hidden) events?.close();
  else if (session) listen();
});

setInterval(showLive, 1000);
const { answer } = await request("/api/session");
session = answer ?? null;
if (session) showBoard();
else await showLogin();
