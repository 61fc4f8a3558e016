// The jobs and clips of the key that is entered: how each stands, its result to save, and to stop or delete it.

import { ask, currentKey, headers } from "./api.js";
import { el, fill } from "./elements.js";

/** Milliseconds between two looks while something is unfinished: each look counts as requests of the key. */
const LOOK = 5000;
/** What is listed, where, and what `items` counts. A job of several frames has no single picture: JSON has them all. */
const KINDS = [
  { noun: "Clip", path: "/v1/video", member: "clips", counted: "frames", accept: "*/*" },
  { noun: "Job", path: "/v1/jobs", member: "jobs", counted: "pairs", accept: "image/png, application/json;q=0.5" },
];
/** What hides a list instead of failing: no key at all, one that is not known, one without the scope. */
const CLOSED = ["invalid_request", "unauthenticated", "permission_denied"];

const byId = (id) => document.getElementById(id);
const isUnfinished = (entry) => entry.state === "queued" || entry.state === "running";

/** Everything that the key may list, newest first, each with its kind; null where it may list nothing. */
export async function listed() {
  const lists = currentKey() ? await Promise.all(KINDS.map(ofKind)) : [null];
  if (lists.every((list) => list === null)) return null;
  return lists.flatMap((list) => list ?? []).sort((a, b) => b.created - a.created);
}

async function ofKind(kind) {
  try {
    const answer = await (await ask(kind.path, { headers: headers() })).json();
    return answer[kind.member].map((entry) => ({ ...entry, kind }));
  } catch (error) {
    if (CLOSED.includes(error.code)) return null;
    throw error;
  }
}

/** Fetches a result: {blob, name}. A clip brings its file's name, a job's result is named after its id. */
export async function fetched({ id, kind }) {
  const answer = await ask(`${kind.path}/${id}/result`, { headers: headers({ Accept: kind.accept }) });
  const blob = await answer.blob();
  const ending = blob.type.startsWith("image/") ? blob.type.slice("image/".length) : "json";
  return { blob, name: fileName(answer.headers.get("Content-Disposition")) ?? `job-${id.slice(0, 8)}.${ending}` };
}

/** The name in a Content-Disposition whose only or extended form tells one. */
function fileName(disposition) {
  const extended = /filename\*=UTF-8''([^;]+)/i.exec(disposition ?? "");
  if (extended) return decodeURIComponent(extended[1]);
  return /^(?:inline|attachment);\s*filename="([^"]+)"/i.exec(disposition ?? "")?.[1];
}

/** The panel. `tell`: {attempt(work), said(text)}, which show what fails and say what was done. */
export class OwnWork {
  #tell;
  #timer = null;
  #looks = 0;

  constructor(tell) {
    this.#tell = tell;
    byId("own-look").addEventListener("click", () => tell.attempt(() => this.look()));
  }

  /** Shows what there is now, and again while something is unfinished. */
  async look() {
    clearTimeout(this.#timer);
    const number = ++this.#looks;
    const entries = await listed();
    if (number !== this.#looks) return; // a later look is on its way, perhaps of another key
    byId("own").hidden = entries === null;
    this.#show(entries ?? []);
    if (entries?.some(isUnfinished)) this.#timer = setTimeout(() => this.#again(), LOOK);
  }

  /** Looks again unasked: what fails then waits for somebody to ask. */
  #again() {
    this.look().catch((error) => { byId("own-note").textContent = `Not up to date: ${error.message}`; });
  }

  #show(entries) {
    const focused = document.activeElement?.dataset.own;
    fill(byId("own-rows"), ...entries.map((entry) => this.#row(entry)));
    byId("own-table").hidden = entries.length === 0;
    byId("own-note").textContent = entries.length ? "" : "This key has no jobs or clips.";
    if (focused) (document.querySelector(`[data-own="${focused}"]`) ?? byId("own-title")).focus();
  }

  #row(entry) {
    const label = `${entry.kind.noun} ${entry.id.slice(0, 8)}`;
    const begun = new Date(1000 * entry.created).toLocaleString(undefined, { dateStyle: "short", timeStyle: "medium" });
    const detail = entry.error?.message ?? (entry.notes ?? []).join("; ");
    const actions = [this.#action(isUnfinished(entry) ? "Stop" : "Delete", label, entry, () => this.#remove(entry, label))];
    if (entry.state === "done") actions.unshift(this.#action("Save", label, entry, () => this.#save(entry, label)));
    return el("tr", {},
      el("td", {}, entry.kind.noun), el("td", { title: entry.id }, entry.id.slice(0, 8)), el("td", {}, begun),
      el("td", { className: "wrap" }, detail ? `${entry.state}: ${detail}` : entry.state),
      el("td", {}, ...progress(entry, label)), el("td", {}, el("span", { className: "row actions" }, ...actions)));
  }

  #action(verb, label, { id }, work) {
    const button = el("button", { type: "button" }, verb);
    button.setAttribute("aria-label", `${verb} ${label}`);
    button.dataset.own = `${id} ${verb}`;
    button.addEventListener("click", () => this.#tell.attempt(async () => {
      // Not disabled meanwhile, which would take the focus from whoever uses the keyboard.
      if (button.ariaBusy === "true") return;
      button.ariaBusy = "true";
      try {
        await work();
      } finally {
        button.ariaBusy = "false";
      }
    }));
    return button;
  }

  async #save(entry, label) {
    const { blob, name } = await fetched(entry);
    const link = el("a", { href: URL.createObjectURL(blob), download: name });
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
    this.#tell.said(`${label} is saved as ${name}.`);
  }

  async #remove({ id, kind, state }, label) {
    const answer = await ask(`${kind.path}/${id}`, { method: "DELETE", headers: headers() });
    const { state: left } = await answer.json();
    this.#tell.said(`${label} is ${left === state || left === "done" ? "deleted" : left}.`);
    await this.look();
  }
}

/** A bar and its words while something is unfinished, else how much was made. */
function progress({ state, done, items, kind }, label) {
  const words = `${done}${items && items !== done ? ` of ${items}` : ""} ${kind.counted}`;
  if (state !== "queued" && state !== "running") return [words];
  const bar = el("progress", items ? { max: items, value: done } : {});
  bar.setAttribute("aria-label", `${label}: ${words}`);
  return [bar, ` ${words}`];
}
