// The service as the page uses it: predict, and what is served. Throws Problem for every error.

import { address } from "./address.js";
import { bytes, array } from "./maps.js";
import { file } from "./pictures.js";

/** An error that a person can act on. `code` is the service's, or "offline". */
export class Problem extends Error {
  constructor(code, title, detail, { status = 0, retryAfterMs = null } = {}) {
    super(detail);
    this.code = code;
    this.title = title;
    this.status = status;
    this.retryAfterMs = retryAfterMs;
  }

  /** What to do next. */
  get hint() {
    if (this.retryAfterMs !== null) return `Try again in ${Math.max(1, Math.ceil(this.retryAfterMs / 1000))} s.`;
    return {
      offline: "Is the service still running? Start it with: make serve",
      unauthenticated: "Enter an API key of this server above.",
      invalid_frame: "All frames must be of one size, and neither animated nor transparent.",
      too_large: "Use smaller pictures.",
      deadline_exceeded: "The server is busy or the frame is large. Try fewer blocks or a smaller picture.",
    }[this.code] ?? "";
  }
}

let key = "";

/** The API key for everything from now on; kept in this page's memory only. */
export function useKey(text) {
  key = text.trim();
}

export function currentKey() {
  return key;
}

/** What every request carries, and `more`. */
export function headers(more = {}) {
  return key ? { ...more, Authorization: `Bearer ${key}` } : more;
}

/** The answer of one of the service's paths, if it is a good one. */
export async function ask(path, options) {
  let answer;
  try {
    answer = await fetch(address(path), options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem("offline", "No answer from the server.", "The connection failed.");
  }
  if (answer.ok) return answer;
  let told = {};
  try {
    told = await answer.json();
  } catch {
    // Something between us and the service answered in its own words.
  }
  throw new Problem(told.code ?? "unknown", told.title ?? `Error ${answer.status}`, told.detail ?? answer.statusText, {
    status: answer.status,
    retryAfterMs: told.retry_after_ms ?? null,
  });
}

/** What is served: GET /v1/model. */
export async function model() {
  return (await ask("/v1/model", { headers: headers() })).json();
}

/** {ready, reason} of GET /healthz/ready. */
export async function ready() {
  try {
    const answer = await fetch(address("/healthz/ready"));
    const told = await answer.json().catch(() => ({}));
    return { ready: answer.ok, reason: told.reason ?? told.status ?? "" };
  } catch {
    return { ready: false, reason: "offline" };
  }
}

/**
 * Predicts from two canvases. `choice`: {method}, {route} or {blocks}; `steps` frames ahead, or one at each of `times`.
 * Returns {frames: [{canvas, route, shares, flops, flow, mask, confidence}], times: [[name, ms]], model, flops, roundTrip}.
 */
export async function predict(previous, current, { choice = {}, steps = 1, times = [], signal = undefined } = {}) {
  const form = new FormData();
  form.append("previous", await file(previous), "previous.png");
  form.append("current", await file(current), "current.png");
  for (const [name, value] of Object.entries(choice)) form.append(name, String(value));
  if (times.length) form.append("t", times.join(","));
  else form.append("steps", String(steps));
  form.append("maps", "float16");
  const began = performance.now();
  const answer = await ask("/v1/predict", {
    method: "POST",
    body: form,
    headers: headers({ Accept: "application/json, image/png;q=0.5" }),
    signal,
  });
  const told = await answer.json();
  const roundTrip = performance.now() - began;
  const frames = await Promise.all(told.frames.map(frame));
  return { frames, times: serverTimes(answer.headers.get("Server-Timing")), model: told.model, flops: told.flops, roundTrip };
}

async function frame(told) {
  const bitmap = await createImageBitmap(new Blob([bytes(told.data)], { type: told.media_type }));
  const canvas = document.createElement("canvas");
  canvas.width = bitmap.width;
  canvas.height = bitmap.height;
  canvas.getContext("2d", { willReadFrequently: true }).drawImage(bitmap, 0, 0);
  bitmap.close();
  return {
    canvas,
    t: told.t ?? null,
    route: told.route,
    flops: told.flops,
    flow: told.flow ? array(told.flow) : null,
    shares: told.shares ?? null,
    mask: told.mask ? array(told.mask) : null,
    confidence: told.confidence ? array(told.confidence) : null,
  };
}

/** "decode;dur=1.2, queue;dur=0.1" -> [["decode", 1.2], ...]. */
export function serverTimes(header) {
  return [...(header ?? "").matchAll(/([\w-]+);dur=([\d.]+)/g)].map(([, name, ms]) => [name, Number(ms)]);
}
