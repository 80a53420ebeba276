"use strict";
// Draws the charts of a report, lists its tables, and shows questions with their trees. All data come from the page itself.

const TABLES = {
  results: ["Results", ["alpha", "policy", "kind", "benchmark", "questions", "quality", "cost", "reward", "reward_low", "reward_high", "lead", "lead_low", "lead_high", "p_value", "gap"]],
  gains: ["Gains", ["alpha", "policy", "benchmark", "item", "gain", "quality", "rival_quality", "cost", "rival_cost"]],
  paths: ["Paths", ["alpha", "policy", "benchmark", "path", "share"]],
  hops: ["Hops of routers", ["alpha", "policy", "benchmark", "hop", "hops", "mended", "spoiled"]],
  pairs: ["Pairs of models", ["benchmark", "first", "second", "hops", "mended", "spoiled", "gain"]],
  pool: ["Models after one hop", ["benchmark", "model", "questions", "quality", "cost"]],
  overlap: ["Sets of models that solve a question", ["benchmark", "solvers", "questions"]],
  runs: ["Runs", ["run", "policy", "algorithm", "alpha", "seed", "seconds", "trained"]],
};
const LABELS = { alpha: "\u03b1, price of cost", benchmark: "Benchmark", policy: "Router", marked: "Compare with", curve: "Learning curve" };
const ALT = {
  frontier: "Quality against cost", leads: "Lead by benchmark", gains: "Gain on each question", paths: "Share of each path by benchmark",
  hops: "Hops that mend or spoil", pairs: "Change in quality by pair of models", curves: "Learning curves", pool: "Quality of models by benchmark",
  overlap: "Questions by the models that solve them",
};
const views = [];
const dark = window.matchMedia("(prefers-color-scheme: dark)");

async function unpack(text) {
  const bytes = Uint8Array.from(atob(text.trim()), (letter) => letter.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return JSON.parse(await new Response(stream).text());
}

function theme() {
  const style = getComputedStyle(document.documentElement);
  const [ink, faint, line] = ["--ink", "--faint", "--line"].map((name) => style.getPropertyValue(name).trim());
  return {
    background: "transparent", font: "system-ui, Liberation Sans, sans-serif", view: { stroke: null },
    axis: { labelColor: ink, titleColor: ink, domainColor: faint, tickColor: faint, gridColor: line, gridOpacity: 0.5, titleFontWeight: "normal", labelFontSize: 12, titleFontSize: 12 },
    legend: { labelColor: ink, titleColor: ink, labelFontSize: 12, orient: "bottom", columns: innerWidth < 640 ? 1 : 3, symbolSize: 120 },
    text: { color: ink }, point: { color: ink },
  };
}

async function drawCharts(report) {
  views.splice(0).forEach((view) => view.finalize());
  for (const place of document.querySelectorAll("[data-chart]")) {
    const name = place.dataset.chart;
    const spec = structuredClone(report.charts[name]);
    const used = JSON.stringify(spec);
    spec.datasets = Object.fromEntries(Object.entries(report.rows).filter(([table]) => used.includes(`"name":"${table}"`)));
    if (spec.datasets.curves && !spec.datasets.curves.length) continue;
    spec.autosize = { type: "fit-x", contains: "padding" };
    const { view } = await vegaEmbed(place, spec, { actions: false, renderer: "svg", logLevel: 1 /* errors */, config: theme() });
    view.report = name;
    views.push(view);
    const svg = place.querySelector("svg");
    if (svg) {
      svg.setAttribute("role", "img");
      svg.setAttribute("aria-label", `${ALT[name]}; a table below it has the numbers, if it can be opened`);
    }
  }
  for (const name of Object.keys(report.chosen)) await signal(report, name);
}

async function signal(report, name) {
  for (const view of views) {
    try { view.signal(name, report.chosen[name]); } catch { continue; } // a chart without this menu
    await view.runAsync();
  }
}

function rivalOf(report) {
  const here = report.rows.results.filter((row) => row.alpha === report.chosen.alpha && row.benchmark === "overall");
  return here.filter((row) => report.menus.rivals[String(row.alpha)] === row.policy).map((row) => row.policy)[0] || "";
}

function showMenus(report) {
  const form = document.getElementById("menus");
  const names = ["alpha", "benchmark", "policy", "marked"];
  const curve = document.querySelector('[data-chart="curves"]');
  for (const name of [...names, "curve"]) {
    const made = menu(LABELS[name], report.menus[name], report.chosen[name], (value) => {
      report.chosen[name] = value;
      signal(report, name);
      if (name === "alpha") document.querySelector("[data-rival]").textContent = rivalOf(report);
    });
    made.querySelector("select").id = `menu-${name}`;
    if (name === "curve") curve.before(made); else form.append(made);
    made.hidden = report.menus[name].length < 2;
  }
  form.addEventListener("submit", (event) => event.preventDefault());
  document.querySelector("[data-rival]").textContent = rivalOf(report);
  if (!report.rows.curves.length) {
    document.querySelector('[data-empty="curves"]').hidden = false;
    curve.previousElementSibling.hidden = true;
    curve.hidden = true;
  }
}

function showTables(report) {
  for (const place of document.querySelectorAll("[data-table]")) {
    const [title, columns] = TABLES[place.dataset.table];
    const fill = () => showTable(place, title, columns, report.rows[place.dataset.table]);
    const details = place.closest("details");
    if (!details) fill();
    else details.addEventListener("toggle", fill, { once: true });
  }
}

// Questions and their trees -------------------------------------------------------------------------------------------------

function pathOf(node, models) {
  const path = [];
  for (let at = node; at > 0; at = Math.floor((at - 1) / models)) path.unshift(at);
  return path;
}

class Browser {
  constructor(report) {
    this.report = report;
    this.browser = report.browser;
    this.runs = report.rows.runs.length ? report.rows.runs : [null];
    this.run = this.runs[0];
    this.words = "";
    this.benchmark = "all";
    this.outcome = "all";
    this.at = 0;
    this.build();
  }

  build() {
    const benchmarks = ["all", ...Object.keys(this.report.order).filter((name) => !name.startsWith("overall"))];
    const outcomes = ["all", "router right", "router wrong", "wrong, but a path is right", "no path is right"];
    const names = this.runs.map((run) => (run ? `${run.policy}, alpha ${run.alpha}${run.seed == null ? "" : `, seed ${run.seed}`}` : "none"));
    const search = element("input", { type: "search", autocomplete: "off", oninput: () => { this.words = search.value.toLowerCase(); this.list(); } });
    this.listing = element("select", { id: "question-list", size: 8, onchange: () => { this.at = this.listing.selectedIndex; this.show(); } });
    this.status = element("span", { class: "status", role: "status" });
    this.place = element("article", { "aria-live": "polite", "aria-label": "The question and its tree" });
    const step = (by) => () => { this.at = Math.max(0, Math.min(this.listed.length - 1, this.at + by)); this.listing.selectedIndex = this.at; this.show(); };
    const total = this.browser.evaluated, own = this.browser.questions.length;
    document.getElementById("browser").append(
      element("p", {}, (own < total ? `${own} of the ${total} evaluated questions, evenly spread. ` : "") +
        "The path that the router takes, and the one with the highest reward (hindsight), are marked. Arrow keys move through the list."),
      element("div", { class: "bar" },
        menu("Benchmark of the question", benchmarks, "all", (value) => { this.benchmark = value; this.list(); }),
        menu("Outcome", outcomes, "all", (value) => { this.outcome = value; this.list(); }),
        menu("Router of the marked path", names, names[0], (value) => { this.run = this.runs[names.indexOf(value)]; this.list(); }),
        element("label", {}, "Search in questions", search)),
      element("label", { class: "wide" }, "Questions", this.listing),
      element("div", { class: "bar" },
        element("button", { type: "button", onclick: step(-1) }, "Previous"),
        element("button", { type: "button", onclick: step(1) }, "Next"), this.status),
      this.place);
    this.list();
  }

  alpha() { return this.run ? this.run.alpha : this.report.chosen.alpha; }
  best(n) { return this.browser.oracle[String(this.alpha())]?.[n]; }
  end(n) { return this.run ? this.browser.ends[this.run.run]?.[n] : null; }

  /** Return the quality of a node, 0 at the root. */
  quality(question, node) {
    const row = question.nodes.find((entry) => entry[0] === node);
    return row ? row[2] : 0;
  }

  matches(question, n) {
    if (this.benchmark !== "all" && question.benchmark !== this.benchmark) return false;
    if (this.words && !`${question.benchmark}/${question.item} ${question.prompt}`.toLowerCase().includes(this.words)) return false;
    if (this.outcome === "all") return true;
    const router = this.end(n) == null ? 0 : this.quality(question, this.end(n));
    const highest = Math.max(0, ...question.nodes.map((row) => row[2] ?? 0));
    if (this.outcome === "router right") return router >= 0.5;
    if (this.outcome === "router wrong") return router < 0.5;
    return router < 0.5 && (this.outcome === "no path is right") === (highest < 0.5);
  }

  list() {
    const questions = this.browser.questions;
    this.listed = questions.map((_, n) => n).filter((n) => this.matches(questions[n], n));
    this.listing.replaceChildren(...this.listed.map((n) => element("option", {},
      `${questions[n].benchmark}/${questions[n].item}: ${questions[n].prompt.replace(/\s+/g, " ").slice(0, 80)}`)));
    this.at = 0;
    this.listing.selectedIndex = 0;
    this.show();
  }

  show() {
    this.status.textContent = this.listed.length ? `${this.at + 1} of ${this.listed.length} questions` : "No question matches.";
    if (!this.listed.length) { this.place.replaceChildren(); return; }
    const n = this.listed[this.at], question = this.browser.questions[n];
    const models = this.report.models.length;
    const chosen = this.end(n) == null ? [] : pathOf(this.end(n), models), best = this.best(n) == null ? [] : pathOf(this.best(n), models);
    const nodes = new Map(question.nodes.map((row) => [row[0], row]));
    this.place.replaceChildren(
      element("h3", {}, `${question.benchmark}/${question.item}`),
      element("div", { class: "prompt", tabindex: "0" }, question.prompt),
      question.reference == null ? null : element("p", {}, "Reference answer: ", element("b", { class: "response" }, question.reference)),
      ...(this.end(n) === 0 ? [element("p", {}, "The router abstains.")] : []),
      ...(this.best(n) === 0 ? [element("p", {}, "The best path is to abstain.")] : []),
      element("ul", { class: "tree" }, ...this.branches(0, nodes, chosen, best)));
  }

  branches(parent, nodes, chosen, best) {
    const models = this.report.models;
    return models.map((model, action) => [parent * models.length + 1 + action, model])
      .filter(([number]) => nodes.has(number))
      .map(([number, model]) => this.branch(number, model, nodes, chosen, best));
  }

  branch(number, model, nodes, chosen, best) {
    const [, text, quality, cost, prompt, completion, failed] = nodes.get(number);
    const onPath = chosen.includes(number), onBest = best.includes(number);
    const figures = [quality == null ? "not scored" : `Q ${quality.toFixed(2)}`, cost == null ? null : `C ${cost.toFixed(2)}`,
      prompt == null ? null : `${prompt}+${completion} tokens`].filter(Boolean).join(", ");
    const head = [
      element("span", { class: "model" }, model), " ", element("span", { class: "figures" }, failed ? "failed" : figures), " ",
      onPath ? element("span", { class: "mark chosen" }, "chosen") : null, " ",
      onBest ? element("span", { class: "mark best" }, "best") : null, " ",
      element("span", { class: "response" }, this.browser.texts[text]),
    ];
    const children = this.branches(number, nodes, chosen, best);
    const item = children.length
      ? element("details", { open: onPath || onBest }, element("summary", {}, ...head), element("ul", {}, ...children))
      : element("div", { class: "leaf" }, ...head);
    return element("li", { class: onPath || onBest ? "on" : "" }, item);
  }
}

async function main() {
  const report = await unpack(document.getElementById("data").textContent);
  report.rows = Object.fromEntries(Object.entries(report.tables).map(([name, columns]) => [name, rowsOf(columns)]));
  for (const rows of Object.values(report.rows)) for (const row of rows) if (row.benchmark != null) row.order = report.order[row.benchmark];
  const names = new Map(report.browser.questions.map((question) => [question.question, question]));
  for (const row of report.rows.gains) {
    const question = names.get(row.question);
    Object.assign(row, { benchmark: question.benchmark, item: question.item });
  }
  report.chosen = { ...report.start };
  showMenus(report);
  await drawCharts(report);
  showTables(report);
  new Browser(report);
  dark.addEventListener("change", () => drawCharts(report));
  document.body.dataset.ready = "true";
}

main();
