// Images brought to another size bit for bit as Pillow does it, from which nets are measured: each side in turn,
// antialiased where it shrinks, weights and sums in whole numbers.

const sinc = (x) => (x === 0 ? 1 : Math.sin(Math.PI * x) / (Math.PI * x));
const FILTERS = { // what a pixel at distance x counts, and how far that reaches
  bilinear: [1, (x) => Math.max(1 - Math.abs(x), 0)],
  bicubic: [2, (x) => {
    x = Math.abs(x);
    return x < 1 ? (1.5 * x - 2.5) * x * x + 1 : x < 2 ? ((x - 5) * x + 8) * x * -0.5 + 2 : 0;
  }],
  lanczos: [3, (x) => (Math.abs(x) < 3 ? sinc(x) * sinc(x / 3) : 0)],
  box: [0.5, (x) => (x > -0.5 && x <= 0.5 ? 1 : 0)],
  hamming: [1, (x) => (Math.abs(x) < 1 ? sinc(x) * (0.54 + 0.46 * Math.cos(Math.PI * x)) : 0)],
};
const ONE = 1 << 22;

// For each of `to` places along a side of `from` pixels: the first that counts, and the weights from there on.
function weights(from, to, filter) {
  const scale = from / to;
  if (filter === "nearest") return Array.from({ length: to }, (_, i) => [Math.floor((i + 0.5) * scale), [ONE]]);
  const [reach, curve] = FILTERS[filter];
  const shrink = Math.max(scale, 1);
  return Array.from({ length: to }, (_, i) => {
    const center = (i + 0.5) * scale;
    const first = Math.max(Math.trunc(center - reach * shrink + 0.5), 0);
    const last = Math.min(Math.trunc(center + reach * shrink + 0.5), from);
    const found = Array.from({ length: last - first }, (_, j) => curve((j + first - center + 0.5) * (1 / shrink)));
    const sum = found.reduce((a, b) => a + b, 0);
    return [first, found.map((one) => Math.trunc((one / sum) * ONE + (one < 0 ? -0.5 : 0.5)))];
  });
}

// Along one side: `lines` lines that begin `line` numbers apart, pixels `step` numbers apart, three colours a pixel.
function along(data, taps, lines, line, step, out, outLine, outStep) {
  for (let n = 0; n < lines; n++) {
    taps.forEach(([first, counts], i) => {
      for (let colour = 0; colour < 3; colour++) {
        let sum = ONE / 2;
        for (let j = 0; j < counts.length; j++) sum += data[n * line + (first + j) * step + colour] * counts[j];
        out[n * outLine + i * outStep + colour] = Math.min(Math.max(Math.floor(sum / ONE), 0), 255);
      }
    });
  }
  return out;
}

// { data: RGB, three numbers a pixel, width, height } as another of that kind.
export function resized({ data, width, height }, toWidth, toHeight, filter) {
  if (toWidth !== width) {
    data = along(data, weights(width, toWidth, filter), height, 3 * width, 3,
      new Uint8ClampedArray(3 * toWidth * height), 3 * toWidth, 3);
  }
  if (toHeight !== height) {
    data = along(data, weights(height, toHeight, filter), toWidth, 3, 3 * toWidth,
      new Uint8ClampedArray(3 * toWidth * toHeight), 3, 3 * toWidth);
  }
  return { data, width: toWidth, height: toHeight };
}

// Python's round: a half goes to the even number.
const rounded = (x) => (x % 1 === 0.5 ? 2 * Math.round(x / 2) : Math.round(x));

// The part of an image that a net sees, as timm brings it there: { size, crop_pct, crop_mode, interpolation }.
export function prepared(image, { size, crop_pct: share, crop_mode: mode, interpolation }) {
  const side = Math.floor(size / share);
  const shorter = Math.min(image.width, image.height);
  const [width, height] = [image.width, image.height].map(
    (all) => (mode === "squash" || all === shorter ? side : Math.trunc((side * all) / shorter)));
  if (mode === "border" || side < size) throw new Error("pictures with borders are prepared by the server alone");
  const whole = resized(image, width, height, interpolation);
  const [left, top] = [width, height].map((all) => rounded((all - size) / 2));
  const data = new Uint8ClampedArray(3 * size * size);
  for (let y = 0; y < size; y++) {
    const start = 3 * ((top + y) * width + left);
    data.set(whole.data.subarray(start, start + 3 * size), 3 * y * size);
  }
  return { data, width: size, height: size };
}
