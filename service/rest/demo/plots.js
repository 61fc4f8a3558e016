// Small plots of the last values of something, drawn on a canvas in the page's own colours.

export class Plot {
  #canvas;
  #values = [];
  #most;

  /** `most`: how many values are kept. */
  constructor(canvas, most = 90) {
    this.#canvas = canvas;
    this.#most = most;
  }

  clear() {
    this.#values = [];
    this.#draw();
  }

  push(value) {
    this.#values.push(value);
    if (this.#values.length > this.#most) this.#values.shift();
    this.#draw();
  }

  #draw() {
    const canvas = this.#canvas;
    const ratio = window.devicePixelRatio || 1;
    const width = canvas.clientWidth, height = canvas.clientHeight;
    if (!width) return;
    canvas.width = width * ratio;
    canvas.height = height * ratio;
    const pen = canvas.getContext("2d");
    pen.scale(ratio, ratio);
    const style = getComputedStyle(document.documentElement);
    pen.strokeStyle = style.getPropertyValue("--line");
    pen.beginPath();
    pen.moveTo(0, height - 0.5);
    pen.lineTo(width, height - 0.5);
    pen.stroke();
    if (!this.#values.length) return;
    const top = Math.max(...this.#values, 1e-9) * 1.15, bottom = Math.min(0, ...this.#values);
    const x = (i) => (i / (this.#most - 1)) * width;
    const y = (value) => height - 2 - ((value - bottom) / (top - bottom)) * (height - 6);
    pen.beginPath();
    this.#values.forEach((value, i) => (i ? pen.lineTo(x(i), y(value)) : pen.moveTo(x(i), y(value))));
    pen.strokeStyle = style.getPropertyValue("--accent");
    pen.lineWidth = 2;
    pen.lineJoin = "round";
    pen.stroke();
    pen.lineTo(x(this.#values.length - 1), height);
    pen.lineTo(0, height);
    pen.globalAlpha = 0.14;
    pen.fillStyle = pen.strokeStyle;
    pen.fill();
  }
}
