"use strict";
// Tables that can be sorted by any column and filtered by any text. Knows nothing of routing.

const ROWS_AT_FIRST = 100;

/** Turn columns into rows: {a: [1, 2]} into [{a: 1}, {a: 2}]. */
function rowsOf(columns) {
  const names = Object.keys(columns);
  return names.length ? columns[names[0]].map((_, n) => Object.fromEntries(names.map((name) => [name, columns[name][n]]))) : [];
}

/** Make an element with attributes and children; text is always set as text. */
function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (value === true) made.setAttribute(name, "");
    else if (value !== false && value != null) made.setAttribute(name, value);
  }
  made.append(...children.filter((child) => child != null));
  return made;
}

/** Make a menu; `change` receives the place of the chosen value. */
function menu(label, values, chosen, change) {
  const select = element("select", { onchange: () => change(values[select.selectedIndex]) });
  for (const value of values) select.append(element("option", { selected: value === chosen }, String(value)));
  return element("label", {}, label, select);
}

function shown(value) {
  if (value == null) return "";
  return typeof value === "number" && !Number.isInteger(value) ? value.toFixed(3).replace(/^-(0\.0+)$/, "$1") : String(value);
}

/** Compare two cells: numbers by size, texts by the alphabet, and what is missing last. */
function compared(left, right) {
  if (left == null || right == null) return (left == null) - (right == null);
  if (typeof left === "number" && typeof right === "number") return left - right;
  return String(left).localeCompare(String(right), undefined, { numeric: true });
}

/** Show rows as a table below its controls. */
function showTable(place, title, columns, rows) {
  let order = null, descending = false, all = false;
  const isNumber = Object.fromEntries(columns.map((name) => [name, rows.some((row) => typeof row[name] === "number")]));
  const text = new Map(rows.map((row) => [row, columns.map((name) => shown(row[name])).join("\n").toLowerCase()]));
  const body = element("tbody");
  const status = element("span", { class: "status", role: "status" });
  const filter = element("input", { type: "search", oninput: draw, autocomplete: "off" });
  const more = element("button", { type: "button", hidden: true, onclick: () => { all = true; draw(); } }, "Show all rows");
  const heads = columns.map((name) => element("th", { scope: "col", class: isNumber[name] ? "number" : "" },
    element("button", { type: "button", onclick: () => sortBy(name) }, name.replaceAll("_", " "))));

  function sortBy(name) {
    descending = order === name ? !descending : isNumber[name];
    order = name;
    heads.forEach((head, n) => {
      if (columns[n] === name) head.setAttribute("aria-sort", descending ? "descending" : "ascending");
      else head.removeAttribute("aria-sort");
    });
    draw();
  }

  function draw() {
    const words = filter.value.toLowerCase().split(/\s+/).filter(Boolean);
    let listed = rows.filter((row) => words.every((word) => text.get(row).includes(word)));
    if (order) {
      listed = listed.slice().sort((left, right) => {
        const missing = left[order] == null || right[order] == null;
        return compared(left[order], right[order]) * (descending && !missing ? -1 : 1);
      });
    }
    const visible = all ? listed : listed.slice(0, ROWS_AT_FIRST);
    body.replaceChildren(...visible.map((row) => element("tr", {}, ...columns.map((name) =>
      element("td", { class: isNumber[name] ? "number" : "" }, shown(row[name]))))));
    more.hidden = visible.length === listed.length;
    status.textContent = `${visible.length} of ${listed.length} rows` + (listed.length < rows.length ? ` (${rows.length} in all)` : "");
  }

  place.replaceChildren(
    element("div", { class: "bar" }, element("label", {}, `Filter: ${title}`, filter), status, more),
    element("div", { class: "scroll", role: "region", "aria-label": title, tabindex: "0" },
      element("table", {}, element("caption", {}, title), element("thead", {}, element("tr", {}, ...heads)), body)));
  draw();
}
