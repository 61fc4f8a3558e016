// Shows a prediction: frames, wipe, scores, blocks, times, and the runs so far on the same pair.

import { errorMap, ERROR_GAIN, psnr, show } from "./pictures.js";
import { flowPicture, maskPicture } from "./maps.js";

const $ = (id) => document.getElementById(id);
const BLOCKS = 9;

export const db = (value) => (value === Infinity ? "∞" : `${value.toFixed(2)} dB`);
export const count = (route) => [...route].filter((bit) => bit === "1").length;
/** What the candidates of a mixture are, in a few words. */
const CANDIDATES = {
  projected: "current frame, moved along the flow carried on with it",
  carried: "current frame, moved along the flow as found",
  fast: "current frame, moved along a quicker flow",
  turned: "current frame, moved along the flow sought the other way",
  farneback: "current frame, moved along Farnebäck's flow",
  older: "previous frame, moved on twice as far",
  still: "current frame as it is",
  soft: "moved frame, softened",
  blurred: "moved frame, softened more",
  network: "the network's frame",
  crisp: "moved frame, kept sharper",
};
/** The candidates of a mixture that make up a twentieth or more, the largest first: [name, percent]. */
const largest = (shares) => Object.entries(shares).filter(([, share]) => share >= 0.05).sort(([, a], [, b]) => b - a)
  .map(([name, share]) => [name, Math.round(share * 100)]);
const parts = (shares) => largest(shares).map(([name, percent]) => `${percent} % ${name}`).join(", ");

export class Results {
  #pair = null;
  #answer = null;
  #maps = new Map();
  #timer = null;
  #wanted = "true"; // the view a person chose; shown again as soon as it can be

  constructor() {
    for (const radio of document.querySelectorAll('input[name="view"]')) {
      radio.addEventListener("change", () => {
        this.#wanted = radio.value;
        this.#paint();
      });
    }
    $("wipe").addEventListener("input", () => $("stage").style.setProperty("--at", `${$("wipe").value}%`));
    $("step").addEventListener("input", () => this.#stepChanged());
    $("play").addEventListener("click", () => (this.#timer ? this.stop() : this.#play()));
    $("blocks").replaceChildren(...Array.from({ length: BLOCKS }, (_, i) => Object.assign(document.createElement("li"), { textContent: i + 1 })));
  }

  /** A new pair: what was tried on the last one no longer counts. */
  newPair() {
    $("history").replaceChildren();
  }

  /** `pair`: {previous, current, truths}; `answer` of api.predict; `label` of the choice. Returns a sentence for all. */
  present(pair, answer, label) {
    this.stop();
    this.#pair = pair;
    this.#answer = answer;
    this.#maps.clear();
    $("results").hidden = false;
    show($("c-previous"), pair.previous);
    show($("c-current"), pair.current);
    $("step").max = String(answer.frames.length);
    $("step").value = "1";
    $("player").hidden = answer.frames.length === 1;
    this.#times();
    const said = this.#stepChanged();
    this.#remember(label);
    return said;
  }

  get #step() {
    return Number($("step").value) - 1;
  }

  #stepChanged() {
    const index = this.#step;
    const frame = this.#answer.frames[index];
    const truth = this.#pair.truths[index] ?? null;
    const ahead = frame.t ?? index + 1;
    $("step-at").textContent = String(ahead);
    show($("c-predicted"), frame.canvas);
    $("predicted-note").textContent = ahead === 1 ? "the next frame" : `${ahead} frames ahead`;
    $("f-true").hidden = !truth;
    document.querySelector("#results .frames").classList.toggle("three", !truth);
    if (truth) show($("c-true"), truth);
    for (const view of ["true", "error"]) document.querySelector(`input[name="view"][value="${view}"]`).disabled = !truth;
    const wanted = document.querySelector(`input[name="view"][value="${this.#wanted}"]`);
    (wanted.disabled ? document.querySelector('input[name="view"][value="last"]') : wanted).checked = true;
    const score = truth && { ours: psnr(frame.canvas, truth), repeat: psnr(this.#pair.current, truth) };
    this.#scores(score);
    this.#blocks(frame);
    this.#paint();
    return this.#sentence(frame, score, ahead);
  }

  #sentence(frame, score, ahead) {
    const what = ahead === 1 ? "The next frame is predicted" : `Frame ${ahead} ahead is predicted`;
    const close = score ? `: ${db(score.ours)} from the true one; repeating the last frame gives ${db(score.repeat)}` : "";
    if (frame.t && !frame.flops) return `${what}${close}. The motion of one prediction is carried on to it.`;
    const made = frame.shares ? `Made of ${parts(frame.shares)}.` : `${count(frame.route)} of ${BLOCKS} blocks ran.`;
    return `${what}${close}. ${made}`;
  }

  #scores(score) {
    $("scores").hidden = !score;
    if (!score) return;
    // 15 dB looks like noise, 45 dB like the same picture: the bars span what people can tell apart.
    const width = (value) => `${Math.max(2, Math.min(100, ((Math.min(value, 45) - 15) / 30) * 100))}%`;
    $("bar-predicted").style.width = width(score.ours);
    $("bar-repeat").style.width = width(score.repeat);
    $("psnr-predicted").textContent = db(score.ours);
    $("psnr-repeat").textContent = db(score.repeat);
    const gain = score.ours - score.repeat;
    const verdict = $("psnr-verdict");
    verdict.className = gain > 0 ? "better" : "worse";
    verdict.textContent = !Number.isFinite(gain) ? "" : gain > 0
      ? `${gain.toFixed(2)} dB closer than repeating.`
      : `${(-gain).toFixed(2)} dB further than repeating: these weights fail here.`;
  }

  #blocks(frame) {
    [...$("blocks").children].forEach((item, i) => {
      const ran = frame.route[i] === "1";
      item.classList.toggle("ran", ran);
      item.setAttribute("aria-label", `block ${i + 1} ${ran ? "ran" : "skipped"}`);
    });
    const size = `${frame.canvas.width}×${frame.canvas.height}`;
    const work = `${(frame.flops / 1e9).toFixed(2)} GFLOPs for ${size} pixels`;
    $("made-of-title").textContent = frame.shares ? "What is it made of?" : "Which blocks ran?";
    $("blocks").hidden = Boolean(frame.shares);
    $("shares").hidden = !frame.shares;
    $("shares").replaceChildren(...largest(frame.shares ?? {}).flatMap(([name, percent]) => [
      Object.assign(document.createElement("dt"), { textContent: `${percent} %` }),
      Object.assign(document.createElement("dd"), { textContent: CANDIDATES[name] ?? name }),
    ]));
    $("flops").textContent = frame.shares
      ? `${work}, beside the search for motion.`
      : `${count(frame.route)} of ${BLOCKS}, coarse motion to fine: ${work}, the choosing included.`;
    $("mask-name").textContent = frame.confidence ? "Confidence" : "Mask";
  }

  #times() {
    const answer = this.#answer;
    const known = answer.times.reduce((sum, [, ms]) => sum + ms, 0);
    const rows = [...answer.times, ["network and browser", Math.max(0, answer.roundTrip - known)]];
    const total = rows.reduce((sum, [, ms]) => sum + ms, 0) || 1;
    $("times").replaceChildren(...rows.map(([, ms], i) => {
      const part = document.createElement("i");
      part.className = `t${i}`;
      part.style.width = `${(ms / total) * 100}%`;
      return part;
    }));
    $("times-list").replaceChildren(...rows.flatMap(([name, ms], i) => {
      const key = Object.assign(document.createElement("span"), { className: `key t${i}` });
      const term = Object.assign(document.createElement("dt"), { textContent: name });
      const value = Object.assign(document.createElement("dd"), { textContent: `${ms.toFixed(1)} ms` });
      term.prepend(key);
      return [term, value];
    }));
  }

  #remember(label) {
    const frame = this.#answer.frames[0];
    const truth = this.#pair.truths[0];
    const server = this.#answer.times.reduce((sum, [, ms]) => sum + ms, 0);
    const row = document.createElement("tr");
    const cells = [label, frame.shares ? "–" : frame.route, truth ? db(psnr(frame.canvas, truth)) : "–", (frame.flops / 1e9).toFixed(2), `${server.toFixed(0)} ms`];
    row.append(...cells.map((text) => Object.assign(document.createElement("td"), { textContent: text })));
    $("history").prepend(row);
  }

  #map(name) {
    const index = this.#step;
    const at = `${name}${index}`;
    if (!this.#maps.has(at)) {
      const frame = this.#answer.frames[index];
      const made = { flow: () => flowPicture(frame.flow), mask: () => ({ canvas: maskPicture(frame.mask ?? frame.confidence) }), error: () => ({ canvas: errorMap(frame.canvas, this.#pair.truths[index]) }) };
      this.#maps.set(at, made[name]());
    }
    return this.#maps.get(at);
  }

  #paint() {
    const view = document.querySelector('input[name="view"]:checked').value;
    const frame = this.#answer.frames[this.#step];
    const single = view === "error" || view === "flow" || view === "mask";
    $("stage").classList.toggle("single", single);
    let hint;
    if (single) {
      const map = this.#map(view);
      show($("stage-under"), map.canvas);
      $("tag-left").textContent = { error: "error", flow: "motion", mask: frame.confidence ? "confidence" : "mask" }[view];
      hint = {
        error: `Black is exact; differences are shown ${ERROR_GAIN} times larger.`,
        flow: `Colour is the direction things move, strength the speed; the fastest pixel moves ${map.fastest?.toFixed(1)} pixels a frame.`,
        mask: frame.confidence
          ? "Light: the motion is to be trusted. Dark: both frames, moved along it, disagree."
          : "Light: taken from the previous frame. Dark: taken from the current one.",
      }[view];
    } else {
      const other = view === "true" ? this.#pair.truths[this.#step] : this.#pair.current;
      show($("stage-under"), other);
      show($("stage-over"), frame.canvas);
      $("tag-left").textContent = "predicted";
      $("tag-right").textContent = view === "true" ? "true" : "last frame";
      hint = "Drag the line, or focus it and use the arrow keys.";
    }
    $("view-hint").textContent = hint;
  }

  #play() {
    $("play").textContent = "Pause";
    $("play").setAttribute("aria-pressed", "true");
    this.#timer = setInterval(() => {
      const next = Number($("step").value) % Number($("step").max) + 1;
      $("step").value = String(next);
      this.#stepChanged();
    }, 400);
  }

  stop() {
    clearInterval(this.#timer);
    this.#timer = null;
    $("play").textContent = "Play";
    $("play").setAttribute("aria-pressed", "false");
  }
}
