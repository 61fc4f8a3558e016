// Pictures as canvases, and how far two of them are apart. Knows nothing of the page or the server.

/** Longest side that is sent: enough to see, small enough for a laptop's CPU. */
export const LONGEST = 640;
/** Differences in the error map are shown this many times larger. */
export const ERROR_GAIN = 4;

/** A canvas of this size. */
export function blank(width, height) {
  const canvas = document.createElement("canvas");
  canvas.width = width;
  canvas.height = height;
  return canvas;
}

export function context(canvas) {
  // Pixels are read back often; the hint keeps them out of the graphics card.
  return canvas.getContext("2d", { willReadFrequently: true });
}

/** What is drawn of an image, video or canvas: scaled down to `longest`, even sides, no transparency. */
export function draw(source, width, height, longest = LONGEST) {
  const factor = Math.min(1, longest / Math.max(width, height));
  const even = (side) => Math.max(16, Math.round((side * factor) / 2) * 2);
  const canvas = blank(even(width), even(height));
  const pen = context(canvas);
  pen.fillStyle = "#fff";
  pen.fillRect(0, 0, canvas.width, canvas.height);
  pen.drawImage(source, 0, 0, canvas.width, canvas.height);
  return canvas;
}

/** A picture file as a canvas, upright; rejects with an Error that says which file. */
export async function read(blob, name = "the picture", longest = LONGEST) {
  let bitmap;
  try {
    bitmap = await createImageBitmap(blob);
  } catch {
    throw new Error(`${name} is not a picture this browser can read. Use PNG, JPEG or WebP.`);
  }
  const canvas = draw(bitmap, bitmap.width, bitmap.height, longest);
  bitmap.close();
  return canvas;
}

export function pixels(canvas) {
  return context(canvas).getImageData(0, 0, canvas.width, canvas.height);
}

export function file(canvas, type = "image/png", quality = undefined) {
  return new Promise((resolve, reject) => {
    canvas.toBlob((blob) => (blob ? resolve(blob) : reject(new Error("The picture could not be encoded."))), type, quality);
  });
}

/** Puts `source` on the page's `target`, whose size follows. */
export function show(target, source) {
  if (target.width !== source.width) target.width = source.width;
  if (target.height !== source.height) target.height = source.height;
  context(target).drawImage(source, 0, 0);
}

/** Peak signal to noise ratio in dB over RGB; Infinity for equal pictures. */
export function psnr(a, b) {
  const x = pixels(a).data;
  const y = pixels(b).data;
  let sum = 0;
  for (let i = 0; i < x.length; i += 4) {
    const r = x[i] - y[i], g = x[i + 1] - y[i + 1], blue = x[i + 2] - y[i + 2];
    sum += r * r + g * g + blue * blue;
  }
  const mean = sum / ((x.length / 4) * 3);
  return mean === 0 ? Infinity : 10 * Math.log10((255 * 255) / mean);
}

/** Where two pictures differ: black for equal, through violet and orange to white. */
export function errorMap(a, b) {
  const x = pixels(a).data;
  const y = pixels(b).data;
  const canvas = blank(a.width, a.height);
  const out = context(canvas).createImageData(a.width, a.height);
  for (let i = 0; i < x.length; i += 4) {
    const most = Math.max(Math.abs(x[i] - y[i]), Math.abs(x[i + 1] - y[i + 1]), Math.abs(x[i + 2] - y[i + 2]));
    heat(Math.min(1, (most * ERROR_GAIN) / 255), out.data, i);
  }
  context(canvas).putImageData(out, 0, 0);
  return canvas;
}

const HEAT = [[0, 0, 0], [74, 20, 120], [214, 72, 60], [252, 180, 60], [255, 255, 255]];

/** Colour of `value` in 0..1, written at `i`. */
export function heat(value, out, i) {
  const at = value * (HEAT.length - 1);
  const low = Math.min(HEAT.length - 2, Math.floor(at));
  const part = at - low;
  for (let c = 0; c < 3; c++) out[i + c] = HEAT[low][c] * (1 - part) + HEAT[low + 1][c] * part;
  out[i + 3] = 255;
}
