// The plot of hub/frontier.py drawn anew from the page's table, as something else is chosen or the window changes.

const [HEIGHT, LEFT, RIGHT, TOP, BOTTOM, WIDEST, LETTER] = [460, 64, 24, 24, 56, 960, 7.2];
const form = document.querySelector("form.choose");
const plot = document.querySelector(".plot");
const told = document.querySelector(".told");
const hint = told.textContent;
const heads = [...document.querySelectorAll(".points thead th")];
const rows = [...document.querySelectorAll(".points tbody tr")];

function quantity(key) {
  const column = heads.findIndex((head) => head.dataset.key === key);
  const { title, unit } = heads[column].dataset;
  return { column, title, unit, more: heads[column].classList.contains("best-first") };
}

function number(value) {
  for (const [size, letter] of [[1e9, " G"], [1e6, " M"], [1e3, " k"]]) {
    if (value >= size) return `${Number((value / size).toPrecision(3))}${letter}`;
  }
  return value < 100 ? `${Number(value.toPrecision(3))}` : value.toFixed(0);
}

function undominated(places, xMore, yMore) {
  const better = places.map(([x, y]) => [xMore ? -x : x, yMore ? -y : y]);
  const order = places.map((_, i) => i).sort((a, b) => better[a][0] - better[b][0] || better[a][1] - better[b][1]);
  const found = [];
  for (const i of order) if (!found.length || better[i][1] < better[found.at(-1)][1]) found.push(i);
  return found;
}

function logTicks(low, high) {
  const found = [];
  for (let power = Math.floor(Math.log10(low)); power <= Math.ceil(Math.log10(high)); power++) {
    for (const digit of [1, 2, 5]) found.push(digit * 10 ** power);
  }
  return found.filter((tick) => low <= tick && tick <= high);
}

function linearTicks(low, high) {
  const power = 10 ** Math.floor(Math.log10((high - low) / 4));
  const step = [1, 2, 5, 10].map((digit) => digit * power).find((one) => one >= (high - low) / 6);
  const found = [];
  for (let i = Math.ceil(low / step); i <= Math.floor(high / step); i++) found.push(step * i);
  return found;
}

function svg(kind, attributes, ...inside) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", kind);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...inside);
  return made;
}
const text = (x, y, anchor, said) => svg("text", { x: x.toFixed(1), y: y.toFixed(1), "text-anchor": anchor }, said);

function labels(centers, corners, names, order, width) {
  const taken = centers.map(([x, y]) => [x - 6, y - 6, x + 6, y + 6]);
  corners.slice(1).forEach(([x, y], i) => {
    const [before, above] = corners[i];
    taken.push([Math.min(x, before) - 1, Math.min(y, above) - 1, Math.max(x, before) + 1, Math.max(y, above) + 1]);
  });
  const found = {};
  for (const i of order) {
    const [[x, y], long] = [centers[i], LETTER * names[i].length];
    for (const [anchor, left, base] of [["end", x - 7 - long, y - 6], ["start", x + 7, y - 6],
      ["start", x + 7, y + 16], ["end", x - 7 - long, y + 16]]) {
      const box = [left, base - 11, left + long, base + 3];
      const free = !taken.some((other, j) => j !== i
        && box[0] < other[2] && other[0] < box[2] && box[1] < other[3] && other[1] < box[3]);
      if (!free || left < LEFT || box[2] > width || box[1] < 0 || box[3] > HEIGHT - BOTTOM) continue;
      taken.push(box);
      found[i] = text(anchor === "start" ? left : left + long, base, anchor, names[i]);
      break;
    }
  }
  return found;
}

function drawn({ dataset, axis, measure }, width) {
  const [ofX, ofY] = [quantity(axis), quantity(measure)];
  const value = (row, { column }) => row.cells[column].dataset.value;
  const known = rows.filter((row) => row.cells[1].textContent === dataset && Number(value(row, ofX)) > 0
    && value(row, ofY) !== "");
  if (!known.length) return null;
  const places = known.map((row) => [Number(value(row, ofX)), Number(value(row, ofY))]);
  const [xs, ys] = [0, 1].map((which) => places.map((place) => place[which]));
  const [low, high, pad] = [Math.min(...xs) / 1.4, Math.max(...xs) * 1.4, (Math.max(...ys) - Math.min(...ys)) * 0.1 || 1];
  const [bottom, top] = [Math.min(...ys) - pad, Math.max(...ys) + pad];
  const at = ([x, y]) => [LEFT + ((width - LEFT - RIGHT) * Math.log(x / low)) / Math.log(high / low),
    TOP + ((HEIGHT - TOP - BOTTOM) * (top - y)) / (top - bottom)];
  const [centers, best] = [places.map(at), undominated(places, ofX.more, ofY.more)];
  const picture = svg("svg", { viewBox: `0 0 ${width} ${HEIGHT}`, width, height: HEIGHT, role: "group",
    "aria-label": `${ofY.title} over ${ofX.title}, ${dataset}` });
  let free = LEFT; // of many ticks those that have room
  for (const tick of logTicks(low, high)) {
    const x = at([tick, top])[0];
    picture.append(svg("path", { class: "grid", d: `M${x.toFixed(1)} ${TOP}V${HEIGHT - BOTTOM}` }));
    if (x - 18 < free) continue;
    picture.append(text(x, HEIGHT - BOTTOM + 20, "middle", number(tick)));
    free = x + 18;
  }
  for (const tick of linearTicks(bottom, top)) {
    const y = at([low, tick])[1];
    picture.append(svg("path", { class: "grid", d: `M${LEFT} ${y.toFixed(1)}H${width - RIGHT}` }),
      text(LEFT - 8, y + 4, "end", `${Number(tick.toPrecision(4))}`));
  }
  picture.append(text((LEFT + width - RIGHT) / 2, HEIGHT - 10, "middle", ofX.title),
    text(LEFT - 8, TOP - 8, "start", `${ofY.title}, %`));
  const corners = best.flatMap((i, n) => (n ? [[centers[i][0], centers[best[n - 1]][1]], centers[i]] : [centers[i]]));
  picture.append(svg("path", { class: "best", d: `M${corners.map(([x, y]) => `${x.toFixed(1)} ${y.toFixed(1)}`).join("L")}` }));
  const rest = known.map((_, i) => i).filter((i) => !best.includes(i));
  const named = labels(centers, corners, known.map((row) => row.dataset.label), [...best, ...rest], width);
  known.forEach((row, i) => {
    const [card, [cost, reached]] = [row.querySelector("a"), places[i]];
    const said = `${card.textContent}: ${reached.toFixed(2)}${ofY.unit} ${ofY.title}, ${number(cost)} ${ofX.title}`;
    picture.append(svg("a", { href: card.getAttribute("href"), "aria-label": said, ...(best.includes(i) && { class: "on" }) },
      svg("circle", { cx: centers[i][0].toFixed(1), cy: centers[i][1].toFixed(1), r: 5 }), ...(named[i] ? [named[i]] : [])));
  });
  return picture;
}

function draw() {
  const choice = Object.fromEntries(new FormData(form));
  const picture = drawn(choice, Math.max(Math.min(plot.clientWidth, WIDEST), 300));
  plot.replaceChildren(...(picture ? [picture] : []));
  document.querySelector(".nothing").hidden = Boolean(picture);
  for (const row of rows) row.hidden = row.cells[1].textContent !== choice.dataset;
}

form.hidden = false;
form.querySelector("button").hidden = true;
const asked = new URLSearchParams(location.search); // which a static page's server leaves to us
for (const select of form.querySelectorAll("select")) {
  const value = asked.get(select.name);
  if ([...select.options].some((option) => option.value === value)) select.value = value;
}
form.addEventListener("change", () => {
  history.replaceState(null, "", `?${new URLSearchParams(new FormData(form))}`);
  draw();
});
addEventListener("resize", draw);
addEventListener("pageshow", draw); // the browser puts back what was chosen before
const tell = (event) => (told.textContent = event.target.closest("a")?.getAttribute("aria-label") ?? hint);
for (const kind of ["mouseover", "focusin"]) plot.addEventListener(kind, tell);
for (const kind of ["mouseleave", "focusout"]) plot.addEventListener(kind, () => (told.textContent = hint));
