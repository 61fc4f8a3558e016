// Where frames come from: bundled clips, picture files, a video file. Each gives {previous, current, truths}.

import { address } from "./address.js";
import { draw, read } from "./pictures.js";

/** Clips we rendered ourselves; frame files are clips/NAME/00.webp and on. */
export const CLIPS = [
  { name: "hills", title: "Balloon over the hills", frames: 12, at: 4 },
  { name: "lanterns", title: "Lanterns in the wind", frames: 12, at: 4 },
];

export function clipFrame(clip, index) {
  return address(`/demo/clips/${clip.name}/${String(index).padStart(2, "0")}.webp`).href;
}

/** Frames `at - 1` and `at` of a bundled clip, and those that follow as far as there are any. */
export async function fromClip(clip, at, steps) {
  const load = async (index) => {
    const answer = await fetch(clipFrame(clip, index));
    if (!answer.ok) throw new Error("The sample clip could not be loaded.");
    return read(await answer.blob());
  };
  const known = Math.min(steps, clip.frames - 1 - at);
  const indexes = [at - 1, at, ...Array.from({ length: known }, (_, k) => at + 1 + k)];
  const [previous, current, ...truths] = await Promise.all(indexes.map(load));
  return { previous, current, truths };
}

/** Up to three picture files, by slot. */
export class Pictures {
  #slots = [null, null, null];

  /** Takes a file's picture; where it cannot be read, the slot is empty. */
  async put(slot, file) {
    this.#slots[slot] = null;
    this.#slots[slot] = await read(file, file.name);
    return this.#slots[slot];
  }

  pair() {
    const [previous, current, truth] = this.#slots;
    if (!previous || !current) throw new Error("Choose a previous and a current frame first.");
    if (previous.width !== current.width || previous.height !== current.height) {
      throw new Error(
        `Both frames must have one size: previous is ${previous.width}×${previous.height}, current is ${current.width}×${current.height}.`,
      );
    }
    const fits = truth && truth.width === previous.width && truth.height === previous.height;
    return { previous, current, truths: fits ? [truth] : [] };
  }
}

/** A video element that frames are taken from by seeking. */
export class Clip {
  #video;
  #url = null;
  frameSeconds = 1 / 25;

  constructor(video) {
    this.#video = video;
  }

  async open(file) {
    if (this.#url) URL.revokeObjectURL(this.#url);
    this.#url = URL.createObjectURL(file);
    const video = this.#video;
    await new Promise((resolve, reject) => {
      video.onloadeddata = resolve;
      video.onerror = () => reject(new Error(`${file.name} is not a video this browser can play. MP4 (H.264) and WebM work everywhere.`));
      video.src = this.#url;
    });
    this.frameSeconds = await this.#measureFrame();
    return video.duration;
  }

  /** Seconds between frames: no browser tells, but it tells when it shows one. */
  async #measureFrame() {
    const video = this.#video;
    if (!video.requestVideoFrameCallback) return 1 / 25;
    const times = [];
    const enough = new Promise((resolve) => {
      const seen = (_, about) => {
        times.push(about.mediaTime);
        if (times.length < 8) video.requestVideoFrameCallback(seen);
        else resolve();
      };
      video.requestVideoFrameCallback(seen);
    });
    await video.play().catch(() => {});
    await Promise.race([enough, new Promise((resolve) => setTimeout(resolve, 1500))]);
    video.pause();
    const gaps = times.slice(1).map((time, i) => time - times[i]).filter((gap) => gap > 1e-3);
    // The smallest: where the browser left frames out, gaps are larger.
    return gaps.length ? Math.min(...gaps) : 1 / 25;
  }

  async frameAt(seconds) {
    const video = this.#video;
    // Half a frame in: seeking to the border itself may show either side of it.
    const at = Math.min(Math.max(0, seconds), video.duration);
    if (Math.abs(video.currentTime - at) > 1e-4) {
      await new Promise((resolve) => {
        video.addEventListener("seeked", resolve, { once: true });
        video.currentTime = at;
      });
    }
    return draw(video, video.videoWidth, video.videoHeight);
  }

  async pair(seconds, gap, steps) {
    const step = this.frameSeconds * gap;
    const last = this.#video.duration - this.frameSeconds / 2;
    const now = Math.min(Math.max(seconds, step) + this.frameSeconds / 2, last);
    const previous = await this.frameAt(now - step);
    const truths = [];
    for (let k = 1; k <= steps && now + k * step <= last; k++) truths.push(await this.frameAt(now + k * step));
    return { previous, current: await this.frameAt(now), truths };
  }
}
