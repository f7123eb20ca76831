"use strict";

// Each part of the page that has data has a function here of the same name: (section, data) -> void.
// Text gets into the page as text alone, never as HTML.
const PARTS = { samples, runs };

function make(tag, attributes, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes || {}))
    if (value !== null && value !== undefined && value !== false) node.setAttribute(name, value);
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}

// What a model or data wrote: its direction is its own, and does not change what stands beside it.
function written(text, tag = "bdi") {
  return make(tag, { class: "written", dir: "auto" }, text === "" ? "(empty)" : text);
}

function plural(number, one, many) {
  return `${number.toLocaleString("en")} ${number === 1 ? one : many}`;
}

// Samples: one table at a time, ten prompts at a time.

function samples(section, data) {
  const size = 10;
  const form = section.querySelector("[data-controls]");
  const [list, status, about, cells] = ["list", "status", "about", "cells"].map((name) =>
    section.querySelector(`[data-${name}]`),
  );
  const buttons = [...section.querySelectorAll("[data-step]")];
  let start = 0;

  form.elements.group.append(
    ...data.groups.map((group, number) => make("option", { value: number }, group.title)),
  );

  function chosen() {
    return data.groups[Number(form.elements.group.value)];
  }

  function choose() {
    const group = chosen();
    const judged = group.scoring === "judge";
    const scored = group.prompts.some((row) => row.proxy !== null);
    section.querySelector("[data-odd]").textContent = judged
      ? "only where judge and proxy disagree"
      : `only what is not ${group.outcomes[0]}`;
    form.elements.odd.disabled = judged && !scored;
    if (form.elements.odd.disabled) form.elements.odd.checked = false;
    cells.replaceChildren(
      ...group.cells.map((words, number) =>
        make(
          "label",
          { class: "check" },
          make("input", { type: "checkbox", name: "cell", value: number, checked: "" }),
          words,
        ),
      ),
    );
    about.textContent = [...group.above, ...legend(group, judged, scored)].join(". ") + ".";
    start = 0;
    draw();
  }

  function legend(group, judged, scored) {
    if (!judged) return [];
    const told = ["Judge: its preference for the output over the reference, 0 to 100"];
    if (scored)
      return [
        ...told,
        "Proxy: the reward that training sees",
        "They disagree if one finds the output better and the other the reference",
      ];
    return [
      ...told,
      `The scores of the reward that training sees (${group.reward}) are not stored for evaluation outputs`,
    ];
  }

  function draw() {
    const group = chosen();
    const shown = [...form.querySelectorAll("[name=cell]:checked")].map((box) => Number(box.value));
    const odd = form.elements.odd.checked;
    const found = group.prompts
      .map((row) => [row, shown.filter((cell) => !odd || row.outputs[cell].odd)])
      .filter(([, kept]) => kept.length);
    start = Math.max(0, Math.min(start, size * Math.floor((found.length - 1) / size)));
    const page = found.slice(start, start + size);
    list.replaceChildren(...page.map(([row, kept]) => sample(group, row, kept)));
    status.textContent = found.length
      ? `Prompts ${start + 1} to ${start + page.length} of ${found.length}`
      : "No prompt has such an output";
    for (const button of buttons) {
      const next = start + size * Number(button.dataset.step);
      button.disabled = next < 0 || next >= found.length;
    }
  }

  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("change", (event) => {
    start = 0;
    if (event.target.name === "group") choose();
    else draw();
  });
  for (const button of buttons)
    button.addEventListener("click", () => {
      start += size * Number(button.dataset.step);
      draw();
      status.scrollIntoView({ block: "center" });
    });
  choose();
}

function sample(group, row, kept) {
  const judged = group.scoring === "judge";
  return make(
    "li",
    {},
    make("h3", {}, `Prompt ${row.number}: `, written(row.prompt)),
    row.wishes.length ? make("p", { class: "wishes" }, written(row.wishes.join("; "), "span")) : null,
    make(
      "ul",
      { class: "outputs" },
      make(
        "li",
        { class: "gold" },
        make("span", {}, judged ? "reference" : "answer"),
        written(row.gold),
        make("span", { class: "scores" }, row.proxy === null ? "" : `proxy ${row.proxy.toFixed(2)}`),
      ),
      ...kept.map((cell) => output(group, cell, row.outputs[cell])),
    ),
  );
}

function output(group, cell, own) {
  const name = make("a", { href: `#run-${group.runs[cell]}` }, group.cells[cell]);
  const told =
    group.scoring === "judge"
      ? [
          own.judge === null ? "no verdict" : `judge ${Math.round(100 * own.judge)}`,
          own.proxy === null ? null : `proxy ${own.proxy.toFixed(2)}`,
          own.odd ? "disagree" : null,
        ]
      : [own.outcome === null ? "not graded" : group.outcomes[own.outcome]];
  const kind = own.odd ? "scores odd" : group.scoring === "judge" ? "scores" : "scores good";
  const scores = make("span", { class: kind }, told.filter((text) => text !== null).join(", "));
  return make("li", {}, make("span", {}, name), written(own.text), scores);
}

// Runs: cells are drawn when they are shown, and the runs of a cell when it is opened.

function runs(section, data) {
  const size = 50;
  const form = section.querySelector("[data-controls]");
  const list = section.querySelector("[data-list]");
  const status = section.querySelector("[data-status]");
  const more = section.querySelector("[data-more]");
  const texts = data.cells.map((cell) =>
    `${cell.label} ${cell.task} ${cell.words} ${cell.variant}`.toLowerCase(),
  );
  let limit = size;

  function draw() {
    const words = form.elements.words.value.toLowerCase().split(/\s+/).filter(Boolean);
    const found = data.cells.filter((_, number) => words.every((word) => texts[number].includes(word)));
    list.replaceChildren(...found.slice(0, limit).map((cell) => cellOf(data, cell)));
    const shown = Math.min(limit, found.length);
    status.textContent = `${shown} of ${plural(found.length, "cell", "cells")}`;
    more.hidden = found.length <= limit;
  }

  // Open what the address names: one run, or a cell with its first run.
  function go() {
    const name = location.hash.slice(1);
    if (!name.startsWith("run-")) return;
    const path = name.slice("run-".length);
    const cell = data.cells.find((own) => {
      const whole = `${own.task}/${own.variant}`;
      return path === whole || own.runs.some((run) => path === `${whole}-s${run.seed}`);
    });
    if (!cell) return;
    if (!document.getElementById(`run-${cell.task}/${cell.variant}`)) {
      form.elements.words.value = "";
      list.replaceChildren(cellOf(data, cell));
      status.textContent = "The cell of the number that you followed; search to see others";
      more.hidden = false;
    }
    const node = document.getElementById(`run-${cell.task}/${cell.variant}`);
    node.open = true;
    fill(node);
    const target = document.getElementById(name);
    const run = target === node ? node.querySelector("details") : target;
    run.open = true;
    fill(run);
    target.querySelector("summary").focus({ preventScroll: true });
    target.scrollIntoView();
  }

  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("input", () => {
    limit = size;
    draw();
  });
  more.addEventListener("click", () => {
    if (list.childElementCount > 1) limit += size;
    draw();
  });
  window.addEventListener("hashchange", go);
  draw();
  go();
}

function fill(node) {
  if (node.fill) node.append(...node.fill());
  node.fill = null;
}

function cellOf(data, cell) {
  const rate = [...new Set(cell.runs.map((run) => run.rate).filter((own) => own !== undefined))];
  const node = make(
    "details",
    { id: `run-${cell.task}/${cell.variant}` },
    make(
      "summary",
      {},
      `${cell.label}: ${cell.words}`,
      make("span", { class: "quiet" }, plural(cell.runs.length, "run", "runs")),
    ),
  );
  node.fill = () => [
    facts([
      ["name", cell.variant],
      ["learning rate", rate.length ? `${rate.join(", ")} (${cell.rate_from})` : "not trained further"],
    ]),
    ...cell.runs.map((run) => runOf(data, cell, run)),
  ];
  node.addEventListener("toggle", () => node.open && fill(node));
  return node;
}

function runOf(data, cell, run) {
  const name = `${cell.variant}-s${run.seed}`;
  const trained = run.rate !== undefined;
  const told = [
    run.score === undefined ? "no score" : `${data.scores[cell.task]} ${run.score}`,
    trained ? `${run.seconds} s of training` : null,
  ];
  const node = make(
    "details",
    { id: `run-${cell.task}/${name}` },
    make("summary", {}, `seed ${run.seed}`, make("span", { class: "quiet" }, told.filter(Boolean).join(", "))),
  );
  node.fill = () => [facts(runFacts(data, cell, run, name, trained))];
  node.addEventListener("toggle", () => node.open && fill(node));
  return node;
}

function runFacts(data, cell, run, name, trained) {
  const command = (stage) => `humanline ${stage} ${cell.task} ${name} ${data.options}`;
  const stages = [trained ? "train" : "base_model", "generate", "score"];
  const logs = trained
    ? stages.map((stage) => `logs/${stage}/${cell.task}/${name}.log`)
    : [
        `logs/base_model/${cell.task}-${name}.log`,
        ...stages.slice(1).map((stage) => `logs/${stage}/${cell.task}/${name}.log`),
      ];
  const folder = `runs/${cell.task}/${name}`;
  const files = trained ? ["train.json", "metrics.csv", "samples.jsonl"] : ["samples.jsonl"];
  const error = run.error === undefined ? "" : `, standard error ${run.error}`;
  const score = run.score === undefined ? "none" : `${run.score}${error}, step ${run.step}`;
  const values = run.metrics || [];
  return [
    ["commands", make("pre", {}, stages.map(command).join("\n"))],
    ["seed", String(run.seed)],
    ["config hash", run.hash],
    [data.scores[cell.task], score],
    trained ? ["learning rate", `${run.rate} (${cell.rate_from})`] : null,
    trained ? ["training", `${run.seconds} s; ${data.made[run.made]}`] : null,
    ["logs", links(data, logs)],
    ["files", links(data, [...files.map((file) => `${folder}/${file}`), `${folder}/`])],
    values.length
      ? [
          "metrics, last logged",
          make(
            "ul",
            { class: "metrics" },
            ...values.map((value, number) => make("li", {}, `${data.metrics[run.names][number]}: ${value}`)),
          ),
        ]
      : null,
  ].filter(Boolean);
}

function facts(rows) {
  return make("dl", {}, ...rows.flatMap(([name, value]) => [make("dt", {}, name), make("dd", {}, value)]));
}

function links(data, paths) {
  const nodes = paths.map((path) =>
    make("a", { href: `${data.results}/${path.split("/").map(encodeURIComponent).join("/")}` }, path),
  );
  return make("span", {}, ...nodes.flatMap((node, number) => (number ? [", ", node] : [node])));
}

for (const script of document.querySelectorAll("script[data-part]"))
  PARTS[script.dataset.part](script.parentElement, JSON.parse(script.textContent));
