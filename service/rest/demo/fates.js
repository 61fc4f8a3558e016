// What became of live frames, counted in the second in which it is known. Knows nothing of the page.

/** Counts frames by fate: predicted or not, of those whose fate is known. Never more dropped than there were. */
export class Fates {
  #known = 0;
  #dropped = 0;
  #blocks = 0;

  /** A frame was left out, here or by the server. */
  dropped() {
    this.#known += 1;
    this.#dropped += 1;
  }

  /** A frame was answered otherwise: predicted with `blocks` blocks in all, the first of its pair, or failed. */
  answered(blocks = 0) {
    this.#known += 1;
    this.#blocks += blocks;
  }

  /** {frames, dropped, share (percent), blocks} since the last time, and begins anew. */
  take() {
    const told = { frames: this.#known, dropped: this.#dropped, blocks: this.#blocks, share: this.#known ? (100 * this.#dropped) / this.#known : 0 };
    this.#known = this.#dropped = this.#blocks = 0;
    return told;
  }
}
