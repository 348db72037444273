// Sorting, filtering and copying. Without it the pages show everything all the same.
"use strict";

function value(row, column) {
  const cell = row.cells[column];
  if (!("value" in cell.dataset)) return cell.textContent.trim().toLowerCase() || null;
  return cell.dataset.value === "" ? null : Number(cell.dataset.value);
}

function compare(a, b) {
  if (typeof a === "number") return a - b;
  return a.localeCompare(b, "en", { numeric: true });
}

function sort(table, column, descending) {
  const body = table.tBodies[0];
  const rows = [...body.rows].sort((left, right) => {
    const [a, b] = [value(left, column), value(right, column)];
    if (a === null || b === null) return (a === null) - (b === null); // what isn't known comes last either way
    return descending ? compare(b, a) : compare(a, b);
  });
  body.append(...rows);
  [...table.tHead.rows[0].cells].forEach((head, i) => {
    if (i === column) head.setAttribute("aria-sort", descending ? "descending" : "ascending");
    else head.setAttribute("aria-sort", "none");
  });
}

for (const table of document.querySelectorAll("table.sortable")) {
  [...table.tHead.rows[0].cells].forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    head.setAttribute("aria-sort", "none");
    button.addEventListener("click", () => {
      const first = head.classList.contains("best-first") ? "descending" : "ascending";
      const now = head.getAttribute("aria-sort");
      const next = now === "none" ? first : now === "ascending" ? "descending" : "ascending";
      sort(table, column, next === "descending");
    });
  });
}

// Names as hub/search.py takes them apart, and finds them: whole parts of names, else beginnings, else anything.
function plain(text) {
  return text.toLowerCase().replace(/[^a-z0-9]+/g, "-").replace(/^-|-$/g, "");
}

function found(word, all) {
  for (const pattern of [`(?<![a-z0-9])${word}(?![a-z0-9])`, `(?<![a-z0-9])${word}`, word]) {
    const hits = all.map((terms) => new RegExp(pattern).test(terms));
    if (hits.some(Boolean)) return hits;
  }
  return all.map(() => false);
}

const form = document.querySelector("form.filter");
if (form) {
  const [text, here] = [form.querySelector("#_filter"), form.querySelector("#_here")];
  const rows = [...document.querySelector("table.models").tBodies[0].rows];
  const terms = rows.map((row) => row.dataset.terms);
  const chips = [...document.querySelectorAll(".chips a")];
  const nothing = document.querySelector(".nothing");
  const asked = new URLSearchParams(location.search); // which a static page's server leaves to us
  let dataset = asked.get("dataset") ?? "";
  text.value ||= asked.get("q") ?? "";
  here.checked ||= asked.get("weights") === "here";

  const address = (chosen) => {
    const query = new URLSearchParams();
    if (text.value.trim()) query.set("q", text.value.trim());
    if (chosen) query.set("dataset", chosen);
    if (here.checked) query.set("weights", "here");
    return query.size ? `?${query}` : location.pathname;
  };
  const filter = () => {
    const words = text.value.trim().slice(0, 200).split(/\s+/).map(plain).filter(Boolean).map((word) => found(word, terms));
    let shown = 0;
    rows.forEach((row, i) => {
      const weights = !here.checked || !row.classList.contains("without");
      row.hidden = !(weights && (!dataset || row.dataset.dataset === dataset) && words.every((hits) => hits[i]));
      shown += !row.hidden;
    });
    nothing.hidden = shown > 0;
    form.querySelector("output").textContent = `${shown} of ${rows.length}`;
    for (const chip of chips) {
      chip.href = address(chip.dataset.dataset);
      if (chip.dataset.dataset === dataset) chip.setAttribute("aria-current", "true");
      else chip.removeAttribute("aria-current");
    }
  };
  const changed = () => {
    filter();
    history.replaceState(null, "", address(dataset)); // what is seen can be linked to
  };
  form.addEventListener("input", changed);
  for (const chip of chips) {
    chip.addEventListener("click", (event) => {
      if (event.ctrlKey || event.metaKey || event.shiftKey) return;
      event.preventDefault();
      dataset = chip.dataset.dataset;
      changed();
    });
  }
  window.addEventListener("pageshow", filter);

  const ticks = [...document.querySelectorAll('input[name="m"]')];
  const compare = document.querySelector("#_compare button");
  const count = () => {
    if (!compare) return;
    const ticked = ticks.filter((tick) => tick.checked).length;
    compare.textContent = ticked ? `Compare ${ticked}` : "Compare";
    compare.disabled = ticked < 2 || ticked > 3;
  };
  for (const tick of ticks) tick.addEventListener("change", count);
  window.addEventListener("pageshow", count); // the browser puts back what was ticked before
}

// On a phone the card comes first.
if (matchMedia("(max-width: 60rem)").matches) document.querySelector("details.facts")?.removeAttribute("open");

async function copy(code) {
  if (navigator.clipboard) return navigator.clipboard.writeText(code.textContent);
  getSelection().selectAllChildren(code); // over plain HTTP from another machine there is no clipboard but this
  document.execCommand("copy");
  getSelection().removeAllRanges();
}

let snippets = 0;
for (const code of document.querySelectorAll("pre > code")) {
  const around = document.createElement("div");
  const button = document.createElement("button");
  around.className = "code";
  button.type = "button";
  button.textContent = "Copy";
  button.setAttribute("aria-label", `Copy snippet ${(snippets += 1)}: ${code.textContent.trim().split("\n")[0].slice(0, 60)}`);
  button.addEventListener("click", async () => {
    await copy(code);
    button.textContent = "Copied";
    setTimeout(() => (button.textContent = "Copy"), 1500);
  });
  code.parentElement.replaceWith(around);
  const pre = document.createElement("pre");
  pre.append(code);
  pre.tabIndex = 0; // to be scrolled with the keys
  around.append(pre, button);
}
