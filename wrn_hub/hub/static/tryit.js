// A picture of the user's, and what the net says of it: computed here where the page has the net, else by the server.
import { prepared } from "./resample.js";

const section = document.querySelector("#try-it");
const find = (what) => section.querySelector(what);
const offer = section.dataset;
const LIKELIEST = 5;

// An image's colours as they are beneath transparent parts too, where a canvas loses them and a texture does not; null
// where none so large can be had.
function texels(image) {
  const { width, height } = image;
  const gl = new OffscreenCanvas(1, 1).getContext("webgl");
  if (!gl || Math.max(width, height) > gl.getParameter(gl.MAX_TEXTURE_SIZE)) return null;
  const texture = gl.createTexture();
  gl.bindTexture(gl.TEXTURE_2D, texture);
  gl.texImage2D(gl.TEXTURE_2D, 0, gl.RGBA, gl.RGBA, gl.UNSIGNED_BYTE, image);
  gl.bindFramebuffer(gl.FRAMEBUFFER, gl.createFramebuffer());
  gl.framebufferTexture2D(gl.FRAMEBUFFER, gl.COLOR_ATTACHMENT0, gl.TEXTURE_2D, texture, 0);
  const four = new Uint8Array(4 * width * height);
  gl.readPixels(0, 0, width, height, gl.RGBA, gl.UNSIGNED_BYTE, four);
  const failed = gl.getError();
  gl.getExtension("WEBGL_lose_context")?.loseContext(); // a page may hold few of them
  return failed ? null : four;
}

// The pixels of an image file, upright, as RGB, and whether colours beneath transparent parts were lost.
async function pixels(file) {
  const options = { premultiplyAlpha: "none", colorSpaceConversion: "none" };
  const image = await createImageBitmap(file, options);
  const { width, height } = image;
  const context = new OffscreenCanvas(width, height).getContext("2d", { willReadFrequently: true });
  context.drawImage(image, 0, 0);
  let four = context.getImageData(0, 0, width, height).data;
  const kept = four.every((value, i) => i % 4 < 3 || value === 255) ? four : texels(image);
  four = kept ?? four;
  const data = new Uint8ClampedArray(3 * width * height);
  for (let from = 0, to = 0; from < four.length; from += 4, to += 3) {
    data[to] = four[from];
    data[to + 1] = four[from + 1];
    data[to + 2] = four[from + 2];
  }
  return { data, width, height, lost: !kept };
}

// What the server's `changed` makes: the image as it is, mirrored, and moved four ways with its edge repeated.
function changes(size, shift) {
  const inside = (x) => Math.min(Math.max(x, 0), size - 1);
  return {
    same: (x, y) => [x, y], mirrored: (x, y) => [size - 1 - x, y],
    left: (x, y) => [inside(x + shift), y], right: (x, y) => [inside(x - shift), y],
    up: (x, y) => [x, inside(y + shift)], down: (x, y) => [x, inside(y - shift)],
  };
}

function normalised(seen, { size, mean, std }, places) {
  const numbers = new Float32Array(places.length * 3 * size * size);
  let next = 0;
  for (const place of places) {
    for (let colour = 0; colour < 3; colour++) {
      for (let y = 0; y < size; y++) {
        for (let x = 0; x < size; x++) {
          const [fromX, fromY] = place(x, y);
          const value = seen.data[3 * (fromY * size + fromX) + colour] / 255;
          numbers[next++] = (value - mean[colour]) / std[colour];
        }
      }
    }
  }
  return numbers;
}

function softmax(logits) {
  const most = Math.max(...logits);
  const powers = Array.from(logits, (one) => Math.exp(one - most));
  const sum = powers.reduce((a, b) => a + b, 0);
  return powers.map((one) => one / sum);
}

let loading;
async function load() {
  const fetched = await fetch(offer.facts);
  if (!fetched.ok) throw new Error((await fetched.json()).error);
  const facts = await fetched.json();
  const ort = await import(new URL(offer.ort, document.baseURI));
  ort.env.wasm.numThreads = 1; // more need headers that a static page can't send
  ort.env.wasm.wasmPaths = { wasm: new URL(offer.wasm, document.baseURI).href };
  const session = await ort.InferenceSession.create(new URL(offer.net, document.baseURI).href);
  return { facts, ort, session };
}

async function inBrowser(image) {
  loading ??= load();
  const { facts, ort, session } = await loading.catch((problem) => {
    loading = undefined; // the next picture tries again
    throw problem;
  });
  const { size, classes } = facts;
  const shift = Math.max(Math.floor(size / 8), 1);
  const seen = prepared(image, facts);
  const ways = changes(size, shift);
  const places = Object.values(ways);
  const images = new ort.Tensor("float32", normalised(seen, facts, places), [places.length, 3, size, size]);
  const { logits } = await session.run({ images });
  const told = Object.fromEntries(Object.keys(ways).map((key, i) => {
    const shares = softmax(logits.data.subarray(i * classes.length, (i + 1) * classes.length));
    const best = shares.map((_, j) => j).sort((a, b) => shares[b] - shares[a]).slice(0, LIKELIEST);
    return [key, { classes: best.map((j) => classes[j]), probabilities: best.map((j) => shares[j]) }];
  }));
  const one = (key) => ({ class: told[key].classes[0], probability: told[key].probabilities[0] });
  const { left, right, up, down } = { left: one("left"), right: one("right"), up: one("up"), down: one("down") };
  return {
    ...told.same, drawn: seen, seen: facts.seen, size, pixels: shift, mirrored: one("mirrored"),
    shifted: { left, right, up, down },
    where: `Computed in this browser; the picture stays here.${
      image.lost ? " This browser loses the colours beneath transparent parts, which wrn-hub predict sees." : ""}`,
  };
}

async function byServer(file) {
  const fetched = await fetch(offer.server, { method: "POST", body: file });
  const said = await fetched.json().catch(() => ({}));
  if (!fetched.ok) throw new Error(said.error || `the server answers ${fetched.status}`);
  const png = Uint8Array.from(atob(said.input), (letter) => letter.charCodeAt(0));
  return { ...said, drawn: await pixels(new Blob([png])), where: "Computed by the server of this page." };
}

// Here, if the net and the picture are such that it can be done; else the server is asked, if there is one.
async function answered(file) {
  if (!offer.net) return byServer(file);
  try {
    const image = await pixels(file);
    if (image.lost && offer.server) return await byServer(file);
    return await inBrowser(image);
  } catch (problem) {
    if (!offer.server) throw problem;
    return byServer(file);
  }
}

const percent = (share) => `${(100 * share).toFixed(1)} %`;

function draw(canvas, { data, width, height }) {
  const image = new ImageData(width, height);
  for (let i = 0; i < width * height; i++) {
    image.data.set(data.subarray(3 * i, 3 * i + 3), 4 * i);
    image.data[4 * i + 3] = 255;
  }
  [canvas.width, canvas.height] = [width, height];
  canvas.getContext("2d").putImageData(image, 0, 0);
}

async function drawGiven(file) {
  const canvas = find("canvas.given");
  const image = await createImageBitmap(file).catch(() => null);
  canvas.parentElement.hidden = !image; // a kind that only the server reads
  if (!image) return;
  const share = Math.min(1, 480 / Math.max(image.width, image.height));
  [canvas.width, canvas.height] = [image.width, image.height].map((side) => Math.max(Math.round(side * share), 1));
  canvas.getContext("2d").drawImage(image, 0, 0, canvas.width, canvas.height);
}

function element(kind, text, className = "") {
  const made = document.createElement(kind);
  made.textContent = text;
  made.className = className;
  return made;
}

function line(name, share, differs = false) {
  const [made, bar] = [element("li", ""), element("span", "", "bar")];
  bar.append(element("i", ""));
  bar.firstChild.style.width = `${100 * share}%`;
  made.append(element("span", name, differs ? "name differs" : "name"), bar, element("span", percent(share), "share"));
  return made;
}

function show(said) {
  find(".try-said").textContent = `${said.classes[0]}, ${percent(said.probabilities[0])}`;
  find(".likeliest").replaceChildren(...said.classes.map((name, i) => line(name, said.probabilities[i])));
  const ways = { mirrored: said.mirrored };
  for (const [where, one] of Object.entries(said.shifted)) ways[`${said.pixels} px ${where}`] = one;
  find(".changed").replaceChildren(...Object.entries(ways).map(([way, one]) => {
    const differs = one.class !== said.classes[0];
    const made = line(one.class, one.probability, differs);
    made.prepend(element("span", way, "way"));
    return made;
  }));
  draw(find("canvas.seen"), said.drawn);
  find(".try-how small").textContent = `${said.seen} A shift repeats the edge. ${said.where}`;
  find(".try-out").hidden = false;
}

let last = 0;
async function look(file) {
  const turn = ++last; // of pictures that come fast the last one counts
  find(".try-said").textContent = loading || !offer.net ? "Looking ..." : "Loading the net ...";
  section.setAttribute("aria-busy", "true");
  section.scrollIntoView({ block: "nearest" });
  try {
    const [said] = await Promise.all([answered(file), drawGiven(file)]);
    if (turn === last) show(said);
  } catch (problem) {
    if (turn !== last) return;
    find(".try-out").hidden = true;
    find(".try-said").textContent = `It can't be looked at: ${problem.message}`;
  } finally {
    if (turn === last) section.removeAttribute("aria-busy");
  }
}

const first = (files) => [...files].find((file) => file.type.startsWith("image/")) ?? files[0];

find(".try-in").hidden = false;
find("input").addEventListener("change", (event) => event.target.files[0] && look(event.target.files[0]));
document.addEventListener("paste", (event) => {
  if (event.clipboardData.files.length) look(first(event.clipboardData.files));
});
// wherever on the page it is dropped
for (const kind of ["dragenter", "dragover"]) {
  document.addEventListener(kind, (event) => {
    if (!event.dataTransfer.types.includes("Files")) return;
    event.preventDefault();
    section.classList.add("over");
  });
}
document.addEventListener("dragleave", (event) => event.relatedTarget || section.classList.remove("over"));
document.addEventListener("drop", (event) => {
  section.classList.remove("over");
  if (!event.dataTransfer.files.length) return;
  event.preventDefault();
  look(first(event.dataTransfer.files));
});
find(".sample")?.addEventListener("click", async () => {
  const fetched = await fetch(find(".sample").dataset.sample);
  look(await fetched.blob());
});
