// Joins the page: tabs, choices, the predict button, errors. Everything else has its own module.

import { address } from "./address.js";
import * as api from "./api.js";
import { MODES, WholeClip } from "./clips.js";
import { Live } from "./live.js";
import { OwnWork } from "./own-work.js";
import { file, show } from "./pictures.js";
import { Results } from "./results.js";
import { CLIPS, Clip, clipFrame, fromClip, Pictures } from "./sources.js";

const $ = (id) => document.getElementById(id);
const results = new Results();
const pictures = new Pictures();
const clip = new Clip($("video"));
const whole = new WholeClip({ said: say });
const live = new Live({ failed: complain, said: say, begun: calm });
const own = new OwnWork({ attempt, said: say });
let source = "sample";
let asked = null; // the AbortController of the prediction under way

// --- what is served -------------------------------------------------------------------------------------------------

async function look() {
  const state = await api.ready();
  $("health").className = `health ${state.ready ? "up" : "down"}`;
  $("health-text").textContent = state.ready ? "ready" : `not ready: ${state.reason || "unknown"}`;
  try {
    const model = await api.model();
    if (state.ready) $("health-text").textContent = `ready on ${model.device}`;
    $("warning").hidden = !model.warning;
    $("warning").textContent = model.warning ?? "";
    offer(model);
    $("about").textContent = `Model ${model.version}: ${model.parameters.toLocaleString("en")} parameters, ${model.dtype}, trained on ${model.training_data}.`;
  } catch (problem) {
    if (problem.code === "unauthenticated") $("key-field").hidden = false;
  }
  if (!state.ready) setTimeout(look, 3000);
}

/** Offers the methods that this service has; until somebody chooses, the one it would take itself. */
function offer(model) {
  const method = $("method");
  for (const option of method.options) option.disabled = !model.options.method.includes(option.value);
  if (!method.dataset.chosen) method.value = model.default_method;
  fit();
}

/** Shows and enables the options that mean something beside the others. */
function fit() {
  const isNetwork = $("method").value === "dmvfn", isClip = source === "clip";
  for (const id of ["route", "digits"]) $(id).disabled = !isNetwork;
  $("digits-field").hidden = $("route").value !== "digits";
  const quality = $("quality"), fast = quality.querySelector('[value="fast"]');
  quality.disabled = isClip;
  fast.disabled = $("method").value !== "flow";
  if (fast.disabled && quality.value === "fast") quality.value = "exact";
  $("scale").disabled = !isNetwork && (isClip || quality.value !== "fast");
  // A live view with a delay says itself for when it predicts.
  const isTimed = isClip || (source === "live" && $("live-delay").value !== "0");
  for (const id of ["steps", "t"]) $(id).disabled = isTimed || (id === "steps" && $("t").value.trim() !== "");
  const compare = $("clip-compare");
  compare.disabled = !MODES[$("clip-mode").value].compares;
  if (compare.disabled) compare.checked = false;
}

/** What the page says of how to predict, and its words for people. */
function choice() {
  const method = $("method"), route = $("route");
  const more = source !== "clip" && $("quality").value !== "exact" ? { quality: $("quality").value } : {};
  if ($("scale").value !== "1" && !$("scale").disabled) more.scale = Number($("scale").value);
  if (method.value !== "dmvfn") return [{ method: method.value, ...more }, method.selectedOptions[0].textContent];
  if (route.value === "digits") {
    const digits = $("digits").value.trim();
    if (!/^(?=.*1)[01]{9}$/.test(digits)) throw new Error("A route has nine digits, 0 or 1 for each block, such as 110100000.");
    return [{ route: digits, ...more }, digits];
  }
  const words = route.selectedOptions[0].textContent;
  return [{ ...(/^\d$/.test(route.value) ? { blocks: Number(route.value) } : { route: route.value }), ...more }, words];
}

/** The times that frames are wanted at, in intervals after the current frame; empty where steps count. */
function times() {
  const words = $("t").value.split(/[,;\s]+/).filter(Boolean).map(Number);
  if (words.some((t) => !(t > 0))) throw new Error("Times are numbers above 0, such as 0.5, 1, 2.7.");
  return words;
}

// --- tabs -----------------------------------------------------------------------------------------------------------

const tabs = [...document.querySelectorAll('[role="tab"]')];

function choose(tab) {
  for (const other of tabs) {
    const on = other === tab;
    other.setAttribute("aria-selected", String(on));
    other.tabIndex = on ? 0 : -1;
    $(other.getAttribute("aria-controls")).hidden = !on;
  }
  source = tab.id.replace("tab-", "");
  if (source !== "live") live.stop();
  $("predict").hidden = source === "live";
  $("results").hidden = $("clip-result").hidden = true;
  asked?.abort();
  fit();
  $("live").hidden = source !== "live" || !live.running;
  results.stop();
  results.newPair();
  calm();
}

for (const tab of tabs) {
  tab.addEventListener("click", () => choose(tab));
  tab.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    const next = event.key === "Home" ? tabs[0] : event.key === "End" ? tabs.at(-1)
      : step && tabs[(tabs.indexOf(tab) + step + tabs.length) % tabs.length];
    if (!next) return;
    event.preventDefault();
    choose(next);
    next.focus();
  });
}

// --- sources --------------------------------------------------------------------------------------------------------

const sample = () => CLIPS[Number($("sample-clip").value)];

function strip() {
  const chosen = sample(), at = Number($("sample-time").value), steps = Number($("steps").value);
  $("sample-time").max = String(chosen.frames - 2);
  $("sample-at").textContent = `frame ${at + 1} of ${chosen.frames}`;
  [...$("sample-strip").children].forEach((image, i) => {
    image.className = i === at || i === at - 1 ? "given" : i > at && i <= at + steps ? "asked" : "";
  });
}

function newClip() {
  const chosen = sample();
  $("sample-strip").replaceChildren(...Array.from({ length: chosen.frames }, (_, i) => Object.assign(new Image(), { src: clipFrame(chosen, i), alt: "" })));
  $("sample-time").value = String(chosen.at);
  strip();
  results.newPair();
}

CLIPS.forEach((each, i) => $("sample-clip").append(new Option(each.title, String(i))));
$("sample-clip").addEventListener("change", newClip);
$("sample-time").addEventListener("input", () => { strip(); results.newPair(); });
$("t").addEventListener("input", fit);
for (const id of ["route", "quality"]) $(id).addEventListener("change", fit);
$("steps").addEventListener("change", () => { strip(); results.newPair(); });

/** Makes a label with a file input take dropped files too. */
function droppable(label, take) {
  const input = label.querySelector("input");
  const over = (on) => (event) => { event.preventDefault(); label.classList.toggle("over", on); };
  label.addEventListener("dragover", over(true));
  label.addEventListener("dragleave", over(false));
  label.addEventListener("drop", (event) => { over(false)(event); take(event.dataTransfer.files[0]); });
  input.addEventListener("change", () => take(input.files[0]));
}

for (const label of document.querySelectorAll("[data-slot]")) {
  droppable(label, (file) => attempt(async () => {
    if (!file) return;
    label.querySelector("canvas")?.remove();
    label.querySelector(".what").hidden = false;
    results.newPair();
    const canvas = await pictures.put(Number(label.dataset.slot), file);
    const small = document.createElement("canvas");
    show(small, canvas);
    small.setAttribute("aria-hidden", "true");
    label.querySelector(".what").hidden = true;
    label.append(small);
    say(`${file.name} is in place.`);
  }));
}

droppable($("video-drop"), (file) => attempt(async () => {
  if (!file) return;
  const seconds = await clip.open(file);
  $("video-tools").hidden = false;
  $("video-time").max = String(seconds);
  $("video-time").value = String(seconds / 2);
  await moment();
  say(`${file.name} is open: ${seconds.toFixed(1)} seconds.`);
}));

droppable($("clip-drop"), (file) => { if (file) whole.put(file); });
$("clip-mode").addEventListener("change", () => {
  const mode = MODES[$("clip-mode").value];
  $("clip-frames-name").textContent = mode.name;
  $("clip-frames").value = mode.usual;
  $("clip-frames").placeholder = mode.without ?? "";
  fit();
});
$("live-delay").addEventListener("input", fit);
$("clip-stop").addEventListener("click", () => asked?.abort());

async function moment() {
  const seconds = Number($("video-time").value);
  $("video-at").textContent = `${seconds.toFixed(2)} s`;
  await clip.frameAt(seconds);
  results.newPair();
}

$("video-time").addEventListener("input", () => attempt(moment));
$("video-gap").addEventListener("change", () => results.newPair());

async function pair(steps) {
  if (source === "sample") return fromClip(sample(), Number($("sample-time").value), steps);
  if (source === "pictures") return pictures.pair();
  if (!$("video").src) throw new Error("Choose a video first.");
  return clip.pair(Number($("video-time").value), Number($("video-gap").value), steps);
}

// --- predicting -----------------------------------------------------------------------------------------------------

async function predict() {
  asked?.abort();
  asked = new AbortController();
  if (source === "clip") return wholeClip(asked.signal);
  const at = times(), steps = at.length ? Math.ceil(Math.max(...at)) : Number($("steps").value);
  const [chosen, words] = choice();
  busy(true);
  try {
    const frames = await pair(steps);
    const answer = await api.predict(frames.previous, frames.current, { choice: chosen, steps, times: at, signal: asked.signal });
    if (at.length) frames.truths = at.map((t) => (Number.isInteger(t) ? frames.truths[t - 1] : undefined));
    say(results.present(frames, answer, words));
    $("results-title").focus({ preventScroll: true });
    const calmly = matchMedia("(prefers-reduced-motion: reduce)").matches;
    $("results").scrollIntoView({ behavior: calmly ? "auto" : "smooth", block: "nearest" });
  } finally {
    busy(false);
  }
}

async function wholeClip(signal) {
  busy(true);
  try {
    await whole.run(choice()[0], signal);
    $("clip-title").focus({ preventScroll: true });
    $("clip-result").scrollIntoView({ block: "nearest" });
  } finally {
    busy(false);
  }
}

/** Saves the predicted frame that is shown. */
$("save").addEventListener("click", () => attempt(async () => {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(await file($("c-predicted")));
  link.download = "predicted.png";
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}));

for (const button of document.querySelectorAll("[data-copies]")) {
  button.addEventListener("click", () => attempt(async () => {
    await navigator.clipboard.writeText($(button.dataset.copies).textContent);
    say("Copied.");
  }));
}

function busy(on) {
  $("predict").disabled = on;
  $("predict").textContent = on ? "Predicting …" : "Predict";
  $("results").setAttribute("aria-busy", String(on));
}

$("predict").addEventListener("click", () => attempt(predict));
$("key").addEventListener("change", () => {
  api.useKey($("key").value);
  look();
  attempt(() => own.look());
});

$("method").addEventListener("change", () => {
  $("method").dataset.chosen = "yes";
  fit();
});

$("live-start").addEventListener("click", () => attempt(async () => {
  await live.start({ width: Number($("live-width").value), choice: choice()[0], steps: Number($("steps").value), times: times() });
}));
$("live-stop").addEventListener("click", () => live.stop());

// --- errors and news ------------------------------------------------------------------------------------------------

async function attempt(work) {
  calm();
  try {
    await work();
  } catch (error) {
    complain(error);
  }
}

function calm() {
  $("error").hidden = true;
}

function complain(error) {
  if (error.name === "AbortError") return;
  if (error.code === "unauthenticated") $("key-field").hidden = false;
  $("error-title").textContent = error.title ?? "That did not work.";
  $("error-text").textContent = error.message;
  $("error-hint").textContent = error.hint ?? "";
  $("error").hidden = false;
  $("error").scrollIntoView({ block: "nearest" });
}

function say(text) {
  $("said").textContent = text;
}

// --- the rest of the page -------------------------------------------------------------------------------------------

const service = address("/").href.replace(/\/$/, "");
$("code-curl").textContent = `curl -F previous=@frame00.png -F current=@frame01.png \\
  ${service}/v1/predict -o next.png`;
$("code-python").textContent = `from dmvfn_client import Client

with Client("${service}") as dmvfn:
    answer = dmvfn.predict("frame00.png", "frame01.png")
    answer.image.save("next.png")`;

newClip();
look();
