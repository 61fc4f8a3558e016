// Live mode: camera frames over a WebSocket, each sent once; predictions, latency, drops and blocks as they come.

import { address } from "./address.js";
import { currentKey, Problem } from "./api.js";
import { Delayed } from "./delayed.js";
import { Fates } from "./fates.js";
import { draw, file } from "./pictures.js";
import { Plot } from "./plots.js";
import { count } from "./results.js";

const $ = (id) => document.getElementById(id);
/** Frames sent a second at most. */
const RATE = 25;
/** Bytes that may wait in the socket: beyond, the line is slower than the camera, and a frame is left out here. */
const BACKLOG = 256 * 1024;
/** Frames sent and not yet answered at most. */
const UNANSWERED = 12;

export class Live {
  #socket = null;
  #stream = null;
  #video = document.createElement("video");
  #timer = null;
  #tick = null;
  #sentAt = new Map();
  #sequence = 0;
  #fates = new Fates();
  #options = null;
  #plots = {};
  #delayed = new Delayed();
  #receipt = null;
  #delay = 0;
  #scored = 0; // predictions that a later frame was compared with
  #shown = 0; // frames that the camera has given
  #before = Promise.resolve(); // the frame before is on its way
  #tell;

  /** `tell`: {failed(error), said(text), begun()}. */
  constructor(tell) {
    this.#tell = tell;
    this.#video.muted = true;
    this.#video.playsInline = true;
    $("live-delay").addEventListener("input", () => ($("live-delay-at").textContent = `${$("live-delay").value} ms`));
    $("live-delay").addEventListener("change", () => this.running && this.start(this.#options).catch(tell.failed));
    for (const name of ["latency", "dropped", "blocks", "gain"]) this.#plots[name] = new Plot($(`plot-${name}`));
  }

  get running() {
    return this.#stream !== null;
  }

  /** `options`: {width, choice, steps, times}. Throws a Problem where there is no camera or no stream. */
  async start(options) {
    this.stop();
    this.#tell.begun();
    this.#options = options;
    this.#delay = Number($("live-delay").value);
    $("live-start").disabled = true;
    try {
      this.#stream = await camera(options.width);
      this.#video.srcObject = this.#stream;
      await this.#video.play();
      await this.#open();
    } catch (error) {
      this.stop();
      throw error;
    }
    $("live").hidden = false;
    $("live-stop").disabled = false;
    $("live-delayed-view").hidden = !this.#delay;
    $("live-frames").classList.toggle("delayed", this.#delay > 0);
    $("live-gain").textContent = "–";
    if (this.#delay) $("live-note").textContent = `the same instant, foreseen ${this.#delay} ms before`;
    else if (options.times.length) $("live-note").textContent = `${Math.max(...options.times)} intervals ahead`;
    else $("live-note").textContent = options.steps === 1 ? "the next frame" : `${options.steps} frames ahead`;
    for (const plot of Object.values(this.#plots)) plot.clear();
    this.#sequence = 0;
    this.#sentAt.clear();
    this.#receipt = null;
    this.#scored = 0;
    this.#fates.take();
    this.#timer = setInterval(() => this.#send(), 1000 / RATE);
    this.#tick = setInterval(() => this.#report(), 1000);
    this.#tell.said("Live prediction is running.");
  }

  stop() {
    const was = this.running;
    this.#delayed.clear();
    clearInterval(this.#timer);
    clearInterval(this.#tick);
    const socket = this.#socket;
    this.#socket = null;
    if (socket?.readyState === WebSocket.OPEN) socket.send('{"type": "end"}');
    socket?.close();
    for (const track of this.#stream?.getTracks() ?? []) track.stop();
    this.#stream = null;
    $("live-start").disabled = false;
    $("live-stop").disabled = true;
    if (was) this.#tell.said("Live prediction has stopped.");
  }

  #open() {
    const url = address("/v1/stream");
    url.protocol = url.protocol.replace("http", "ws");
    const key = currentKey();
    const socket = new WebSocket(url, key ? ["dmvfn.v1", `bearer.${key}`] : ["dmvfn.v1"]);
    socket.binaryType = "arraybuffer";
    this.#socket = socket;
    return new Promise((resolve, reject) => {
      const fail = () => reject(new Problem("offline", "The live stream could not be opened.", "The server refused it or is not there."));
      socket.onerror = fail;
      socket.onclose = fail;
      socket.onopen = () => {
        const { choice, steps, times } = this.#options;
        const when = this.#delay ? { show_at: `now+${this.#delay}ms` } : times.length ? { t: times } : { horizon: steps };
        socket.send(JSON.stringify({ type: "start", ...when, format: "jpeg", image_quality: 85, scene_cuts: false, score: true, ...choice }));
        socket.onclose = (event) => this.#closed(socket, event);
        socket.onmessage = (event) => this.#answer(event.data);
        resolve();
      };
    });
  }

  #closed(socket, event) {
    if (socket !== this.#socket) return; // we closed it
    this.stop();
    if (event.code !== 1000) this.#tell.failed(new Problem("offline", "The live stream ended.", event.reason || `The connection was closed (${event.code}).`));
  }

  #send() {
    const socket = this.#socket;
    if (!socket || !this.#video.videoWidth) return;
    // In poor light a camera is slower than RATE: the same picture twice would say that nothing moves.
    const shown = this.#video.getVideoPlaybackQuality().totalVideoFrames;
    if (shown && shown === this.#shown) return;
    this.#shown = shown;
    if (socket.bufferedAmount > BACKLOG || this.#sentAt.size >= UNANSWERED) {
      this.#fates.dropped();
      return;
    }
    const sequence = this.#sequence++;
    this.#sentAt.set(sequence, performance.now());
    const frame = draw(this.#video, this.#video.videoWidth, this.#video.videoHeight, this.#options.width);
    paint($("live-camera"), frame);
    const taken = Math.round(1000 * performance.now());
    if (this.#delay) this.#delayed.keep(sequence, frame);
    const picture = file(frame, "image/jpeg", 0.85).then((blob) => blob.arrayBuffer());
    // One after the other: of two pictures the newer may be encoded first, and the server takes them as they come.
    this.#before = Promise.all([picture, this.#before]).then(
      ([bytes]) => this.#post(socket, bytes, sequence, taken),
      (error) => { this.#sentAt.delete(sequence); this.#tell.failed(error); },
    );
  }

  /** Sends the picture that was taken at `taken`, microseconds on the page's clock. */
  #post(socket, picture, sequence, taken) {
    if (socket !== this.#socket || socket.readyState !== WebSocket.OPEN) return;
    const header = new TextEncoder().encode(JSON.stringify({ frame_id: String(sequence), presentation_time_us: taken, sent_us: taken, ...this.#receipt }));
    const message = new Uint8Array(4 + header.length + picture.byteLength);
    new DataView(message.buffer).setUint32(0, header.length, true);
    message.set(header, 4);
    message.set(new Uint8Array(picture), 4 + header.length);
    socket.send(message);
  }

  async #answer(data) {
    const told = typeof data === "string" ? JSON.parse(data) : unpack(data);
    if (told.type === "refused") {
      this.stop();
      this.#tell.failed(new Problem(told.code, "The server refused the stream.", told.message, { retryAfterMs: told.retry_after_ms ?? null }));
      return;
    }
    if (told.type !== "summary") this.#receipt = { receipt: { sequence: told.sequence, received_us: Math.round(1000 * performance.now()) } };
    if (told.score) {
      $("live-gain").textContent = `${told.score.mean_gain_db.toFixed(1)} dB`;
      if (told.score.frames !== this.#scored) this.#plots.gain.push(told.score.gain_db);
      this.#scored = told.score.frames;
    }
    const sent = this.#sentAt.get(Number(told.frame_id));
    this.#sentAt.delete(Number(told.frame_id));
    if (told.type === "dropped") this.#fates.dropped();
    if (told.type === "first" || told.type === "error") this.#fates.answered();
    if (told.type === "error") this.#tell.failed(new Problem(told.code, "One frame failed; the stream goes on.", told.message));
    if (told.type !== "prediction") return;
    this.#fates.answered(told.frames.reduce((sum, frame) => sum + count(frame.route), 0));
    if (sent !== undefined) {
      const latency = performance.now() - sent;
      this.#plots.latency.push(latency);
      $("live-latency").textContent = `${latency.toFixed(0)} ms`;
    }
    const last = told.frames.at(-1);
    const bitmap = await createImageBitmap(new Blob([told.pictures.at(-1)], { type: last.media_type }));
    const show = (frame) => {
      if (frame) paint($("live-delayed"), frame);
      paint($("live-predicted"), bitmap);
      bitmap.close();
    };
    if (told.show?.aimed_us.length) this.#delayed.at(Number(told.frame_id), told.show.aimed_us[0] / 1000, show);
    else show(null);
  }

  #report() {
    const { frames, share, blocks } = this.#fates.take();
    $("live-dropped").textContent = `${share.toFixed(0)} % of ${frames}`;
    $("live-blocks").textContent = String(blocks);
    this.#plots.dropped.push(share);
    this.#plots.blocks.push(blocks);
  }
}

async function camera(width) {
  if (!navigator.mediaDevices?.getUserMedia) {
    throw new Problem("camera", "No camera here.", "Browsers give the camera only to pages from https or localhost. Open this page as http://localhost or over https.");
  }
  try {
    return await navigator.mediaDevices.getUserMedia({ video: { width: { ideal: width }, frameRate: { ideal: RATE } }, audio: false });
  } catch (error) {
    const why = {
      NotAllowedError: "Allow the camera for this page (the icon beside the address), then start again.",
      NotFoundError: "No camera is connected.",
      NotReadableError: "Another program uses the camera.",
    }[error.name] ?? error.message;
    throw new Problem("camera", "The camera could not be opened.", why);
  }
}

/** A binary message: the header, with `pictures` as bytes. */
function unpack(data) {
  const size = new DataView(data).getUint32(0, true);
  const told = JSON.parse(new TextDecoder().decode(new Uint8Array(data, 4, size)));
  let at = 4 + size;
  told.pictures = told.frames.map(({ bytes }) => {
    const picture = new Uint8Array(data, at, bytes);
    at += bytes;
    return picture;
  });
  return told;
}

/** Draws a canvas or bitmap on the page's `target`, whose size follows. */
function paint(target, source) {
  if (target.width !== source.width || target.height !== source.height) {
    target.width = source.width;
    target.height = source.height;
  }
  target.getContext("2d").drawImage(source, 0, 0);
}
