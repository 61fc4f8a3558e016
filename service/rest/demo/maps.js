// Motion and mask as pictures. Knows the service's arrays, nothing of the page.

import { blank, context } from "./pictures.js";

/** Base64 -> bytes. */
export function bytes(text) {
  return Uint8Array.from(atob(text), (char) => char.charCodeAt(0));
}

let halves = null;

/** Every 16-bit float, once: older browsers have no Float16Array. */
function halfTable() {
  if (halves) return halves;
  halves = new Float32Array(65536);
  for (let bits = 0; bits < 65536; bits++) {
    const exponent = (bits >> 10) & 31, fraction = bits & 1023;
    const size = exponent === 0 ? fraction * 2 ** -24
      : exponent === 31 ? (fraction ? NaN : Infinity) : (1 + fraction / 1024) * 2 ** (exponent - 15);
    halves[bits] = bits & 32768 ? -size : size;
  }
  return halves;
}

/** {dtype, shape, data} of an answer -> {values, shape}. */
export function array(described) {
  const raw = bytes(described.data);
  if (described.dtype === "float32") return { values: new Float32Array(raw.buffer), shape: described.shape };
  const table = halfTable();
  const values = Float32Array.from(new Uint16Array(raw.buffer), (bits) => table[bits]);
  return { values, shape: described.shape };
}

/** Motion of the newer frame's pixels: hue is direction, strength is speed. Returns {canvas, fastest} in pixels a frame. */
export function flowPicture({ values, shape }) {
  const [height, width, channels] = shape;
  let fastest = 0;
  for (let i = 0; i < values.length; i += channels) {
    fastest = Math.max(fastest, Math.hypot(values[i + channels - 2], values[i + channels - 1]));
  }
  const canvas = blank(width, height);
  const out = context(canvas).createImageData(width, height);
  const full = Math.max(fastest, 1);
  for (let i = 0, o = 0; i < values.length; i += channels, o += 4) {
    // The network says where each pixel came from; seen from the picture, things move the other way.
    const x = -values[i + channels - 2], y = -values[i + channels - 1];
    colour(Math.atan2(y, x), Math.sqrt(Math.min(1, Math.hypot(x, y) / full)), out.data, o);
  }
  context(canvas).putImageData(out, 0, 0);
  wheel(canvas);
  return { canvas, fastest };
}

/** Weight of the older frame: white where the older is trusted, black where the newer is. */
export function maskPicture({ values, shape }) {
  const [height, width] = shape;
  const canvas = blank(width, height);
  const out = context(canvas).createImageData(width, height);
  for (let i = 0; i < values.length; i++) {
    const level = values[i] * 255;
    out.data.set([level, level, level, 255], i * 4);
  }
  context(canvas).putImageData(out, 0, 0);
  return canvas;
}

/** Hue from `angle`, white at strength 0. */
function colour(angle, strength, out, at) {
  const hue = (angle / (2 * Math.PI) + 1) % 1;
  for (let c = 0; c < 3; c++) {
    const k = (hue * 6 + [5, 3, 1][c]) % 6;
    out[at + c] = 255 * (1 - strength * Math.max(0, Math.min(k, 4 - k, 1)));
  }
  out[at + 3] = 255;
}

/** A small legend in the corner: which colour is which direction. */
function wheel(canvas) {
  const radius = Math.round(Math.min(canvas.width, canvas.height) * 0.09);
  const size = 2 * radius + 1;
  const legend = blank(size, size);
  const out = context(legend).createImageData(size, size);
  for (let y = -radius; y <= radius; y++) {
    for (let x = -radius; x <= radius; x++) {
      const far = Math.hypot(x, y) / radius;
      const at = ((y + radius) * size + x + radius) * 4;
      if (far <= 1) colour(Math.atan2(y, x), Math.sqrt(far), out.data, at);
      else out.data[at + 3] = 0;
    }
  }
  context(legend).putImageData(out, 0, 0);
  const pen = context(canvas);
  const margin = Math.round(radius * 0.4);
  pen.drawImage(legend, canvas.width - size - margin, canvas.height - size - margin);
  pen.strokeStyle = "#333";
  pen.beginPath();
  pen.arc(canvas.width - margin - radius - 0.5, canvas.height - margin - radius - 0.5, radius, 0, 2 * Math.PI);
  pen.stroke();
}
