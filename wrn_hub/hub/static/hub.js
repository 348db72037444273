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

const form = document.querySelector("form.filter");
if (form) {
  const [text, weights] = [form.querySelector("#filter"), form.querySelector("#with-weights")];
  const rows = [...document.querySelector("table.models").tBodies[0].rows];
  const filter = () => {
    const words = text.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    for (const row of rows) {
      const said = `${row.cells[0].textContent} ${row.cells[1].textContent}`.toLowerCase(); // model and dataset
      row.hidden = (weights.checked && row.classList.contains("without")) || !words.every((word) => said.includes(word));
      shown += !row.hidden;
    }
    form.querySelector("output").textContent = `${shown} of ${rows.length}`;
  };
  form.hidden = false;
  form.addEventListener("input", filter);
  form.addEventListener("submit", (event) => event.preventDefault());
  window.addEventListener("pageshow", filter); // the browser puts back what was typed before
}

// On a phone the card comes first.
if (matchMedia("(max-width: 60rem)").matches) document.querySelector("details.facts")?.removeAttribute("open");

async function copy(code) {
  if (navigator.clipboard) return navigator.clipboard.writeText(code.textContent);
  getSelection().selectAllChildren(code); // over plain HTTP from another machine there is no clipboard but this
  document.execCommand("copy");
  getSelection().removeAllRanges();
}

for (const code of document.querySelectorAll("pre > code")) {
  const around = document.createElement("div");
  const button = document.createElement("button");
  around.className = "code";
  button.type = "button";
  button.textContent = "Copy";
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
