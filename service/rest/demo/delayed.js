// The delayed view: what a viewer at the other end of a slow line sees, and what was predicted for that same instant.

/** Frames kept: two seconds of a camera. */
const KEPT = 64;

export class Delayed {
  #frames = new Map();
  #timers = new Set();

  /** Keeps a canvas under the number of its frame. */
  keep(sequence, frame) {
    this.#frames.set(sequence, frame);
    if (this.#frames.size > KEPT) this.#frames.delete(this.#frames.keys().next().value);
  }

  /** Calls `show(frame)` with the frame `sequence` when it is `atMs` on the page's clock, or now if that has passed. */
  at(sequence, atMs, show) {
    const frame = this.#frames.get(sequence);
    const timer = setTimeout(() => {
      this.#timers.delete(timer);
      show(frame);
    }, Math.max(0, atMs - performance.now()));
    this.#timers.add(timer);
  }

  clear() {
    for (const timer of this.#timers) clearTimeout(timer);
    this.#timers.clear();
    this.#frames.clear();
  }
}
