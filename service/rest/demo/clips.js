// A clip in, the clip with predicted frames out: sent as a job, so that there is progress, and can be stopped.

import { ask, headers, Problem } from "./api.js";

/** Milliseconds between two looks at a job. */
const LOOK = 500;

/** What can be predicted of a clip: what the field beside it holds, its usual value (or what none means), whether true
 *  frames stand beside the predicted ones. */
export const MODES = {
  every: { name: "n", usual: "2", compares: true },
  ahead: { name: "n", usual: "1", compares: true },
  lost: { name: "Which, from 0", usual: "3,17,20-24", compares: true },
  fps: { name: "Frames a second", usual: "60", compares: false },
  conceal: { name: "Frames a second", usual: "", without: "as it is", compares: false },
};

/** `form`: {mode, frames, compare, sound}; `choice`: {method}, {route} or {blocks}, and scale. The query of POST /v1/video. */
export function query(form, choice) {
  const frames = form.frames.trim(), isConcealed = form.mode === "conceal";
  const asked = new URLSearchParams({ [form.mode]: isConcealed ? "1" : frames });
  if (isConcealed && frames) asked.set("fps", frames);
  asked.set("sound", form.sound);
  if (form.compare) asked.set("compare", "1");
  for (const [name, value] of Object.entries(choice)) asked.set(name, String(value));
  return asked;
}

/** Converts `file`; tells `progress({state, done, items})`. Returns {blob, notes}. A clip that is stopped is withdrawn. */
export async function convert(file, asked, { progress, signal }) {
  const begun = await ask(`/v1/video?${asked}`, {
    method: "POST", body: file, signal,
    headers: headers({ Prefer: "respond-async", "Content-Type": "application/octet-stream", Accept: "video/mp4" }),
  });
  let job = await begun.json();
  const self = `/v1/video/${job.id}`;
  try {
    while (job.state === "queued" || job.state === "running") {
      progress(job);
      await pause(LOOK, signal);
      job = await (await ask(self, { headers: headers(), signal })).json();
    }
    if (job.state !== "done") throw new Problem(job.error?.code ?? "unknown", "The clip could not be made.", job.error?.message ?? job.state);
    const answer = await ask(`${self}/result`, { headers: headers(), signal });
    return { blob: await answer.blob(), notes: job.notes ?? [] };
  } finally {
    // What is not wanted any more, or was fetched, makes room.
    fetch(self, { method: "DELETE", headers: headers() }).catch(() => {});
  }
}

function pause(milliseconds, signal) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, milliseconds);
    signal.addEventListener("abort", () => { clearTimeout(timer); reject(signal.reason); }, { once: true });
  });
}

/** The pane and panel of whole clips. `tell`: {said(text)}. */
export class WholeClip {
  #file = null;
  #url = null;
  #tell;

  constructor(tell) {
    this.#tell = tell;
  }

  /** Takes a file, or null for none. */
  put(file) {
    this.#file = file;
    byId("clip-name").textContent = file ? `${file.name}, ${Math.ceil(file.size / 1000).toLocaleString("en")} kB` : "";
  }

  async run(choice, signal) {
    if (!this.#file) throw new Error("Choose a clip first.");
    const form = { mode: byId("clip-mode").value, frames: byId("clip-frames").value, compare: byId("clip-compare").checked, sound: byId("clip-sound").value };
    const file = this.#file;
    byId("clip-progress").hidden = false;
    this.#progress({ state: "sending", done: 0, items: null });
    try {
      const { blob, notes } = await convert(file, query(form, choice), { progress: (job) => this.#progress(job), signal });
      this.#show(blob, notes, file.name);
      this.#tell.said("The clip is made.");
    } finally {
      byId("clip-progress").hidden = true;
    }
  }

  #progress({ state, done, items }) {
    byId("clip-state").textContent = { sending: "Sending the clip …", queued: "Waiting for its turn …" }[state]
      ?? `${done}${items ? ` of ${items}` : ""} frames`;
    const bar = byId("clip-bar");
    if (items) { bar.max = items; bar.value = done; } else bar.removeAttribute("value");
  }

  #show(blob, notes, name) {
    if (this.#url) URL.revokeObjectURL(this.#url);
    this.#url = URL.createObjectURL(blob);
    byId("clip-video").src = this.#url;
    const link = byId("clip-save");
    link.href = this.#url;
    link.download = `${name.replace(/\.[^.]*$/, "")}-predicted.mp4`;
    byId("clip-notes").textContent = notes.join("; ");
    byId("clip-result").hidden = false;
  }
}

function byId(id) {
  return document.getElementById(id);
}
