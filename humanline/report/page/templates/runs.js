// Runs: cells are drawn when they are shown, and the runs of a cell when it is opened.

function runs(section, data) {
  const size = 50;
  const form = section.querySelector("[data-controls]");
  const list = section.querySelector("[data-list]");
  const status = section.querySelector("[data-status]");
  const more = section.querySelector("[data-more]");
  const texts = data.cells.map((cell) =>
    [cell.label, cell.task, cell.words, cell.variant, ...cell.runs.map((run) => `${nameOf(cell, run)} ${run.hash}`)]
      .join(" ")
      .toLowerCase(),
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

  // Open what the address names: one run, or a cell with its first run. The address is that of a
  // summary, which can have the focus: a browser moves it there once more when the page is loaded.
  function go() {
    const name = decoded(location.hash.slice(1));
    const cell = data.cells.find(
      (own) => name === idOf(own) || own.runs.some((run) => name === idOf(own, run)),
    );
    if (!cell) return;
    if (!document.getElementById(idOf(cell))) {
      form.elements.words.value = "";
      list.replaceChildren(cellOf(data, cell));
      status.textContent = "The cell of the number that you followed";
      more.textContent = "Show other cells";
      more.hidden = false;
    }
    const node = unfold(document.getElementById(idOf(cell)));
    const target = document.getElementById(name);
    unfold(target === node.firstChild ? node.querySelector(":scope details summary") : target);
    target.focus({ preventScroll: true });
    target.scrollIntoView();
  }

  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("input", () => {
    limit = size;
    draw();
  });
  more.addEventListener("click", () => {
    if (list.childElementCount > 1) limit += size;
    more.textContent = "Show more cells";
    draw();
  });
  window.addEventListener("hashchange", go);
  document.addEventListener("click", (event) => {
    const link = event.target.closest("a");
    if (link && link.hash && link.hash === location.hash) go(); // pressed again, which changes no address
  });
  draw();
  go();
}

// A text of an address; one that is damaged names nothing.
function decoded(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return "";
  }
}

const nameOf = (cell, run) => `${cell.variant}-s${run.seed}`;
const idOf = (cell, run) => `run-${cell.task}/${run ? nameOf(cell, run) : cell.variant}`;

// An element that shows its contents when it is opened, and makes them then.
function folded(id, title, told, contents) {
  const summary = make("summary", { id }, title, make("span", { class: "quiet" }, told));
  const node = make("details", {}, summary);
  node.addEventListener("toggle", () => node.open && unfold(summary));
  node.fill = contents;
  return node;
}

function unfold(summary) {
  const node = summary.parentElement;
  node.open = true;
  if (node.fill) node.append(...node.fill());
  node.fill = null;
  return node;
}

function cellOf(data, cell) {
  const rates = [...new Set(cell.runs.map((run) => run.rate).filter((own) => own !== undefined))];
  const count = plural(cell.runs.length, "run", "runs");
  return folded(idOf(cell), `${cell.label}: ${cell.words}`, count, () => [
    facts([
      ["name", cell.variant],
      ["learning rate", rates.length ? `${rates.join(", ")} (${cell.rate_from})` : "not trained further"],
    ]),
    ...cell.runs.map((run) => runOf(data, cell, run)),
  ]);
}

function runOf(data, cell, run) {
  const score = run.score === undefined ? "no score" : `${data.scores[cell.task]} ${run.score}`;
  const told = run.rate === undefined ? score : `${score}, ${run.seconds} s of training`;
  return folded(idOf(cell, run), `seed ${run.seed}`, told, () => [facts(runFacts(data, cell, run))]);
}

function runFacts(data, cell, run) {
  const name = nameOf(cell, run);
  const trained = run.rate !== undefined;
  const stages = [trained ? "train" : "base_model", "generate", "score"];
  const commands = stages.map((stage) => `humanline ${stage} ${cell.task} ${name} \\\n  ${data.options}`);
  const logs = stages.map(
    (stage) => `logs/${stage}/${cell.task}${stage === "base_model" ? "-" : "/"}${name}.log`,
  );
  const folder = `runs/${cell.task}/${name}/`;
  const files = trained ? ["train.json", "metrics.csv", "samples.jsonl"] : ["samples.jsonl"];
  const error = run.error === undefined ? "" : `, standard error ${run.error}`;
  const score = run.score === undefined ? "none" : `${run.score}${error}, step ${run.step}`;
  const values = run.metrics || [];
  return [
    ["commands", make("pre", {}, commands.join("\n"))],
    ["seed", String(run.seed)],
    ["config hash", run.now ? `${run.hash}; its options have changed since, to ${run.now}` : run.hash],
    [data.scores[cell.task], score],
    trained ? ["learning rate", `${run.rate} (${cell.rate_from})`] : null,
    trained ? ["training", `${run.seconds} s; ${data.made[run.made]}`] : null,
    ["logs", links(data, "", logs)],
    ["files", links(data, folder, ["", ...files])],
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

// Links to files of a folder, by their names; the folder itself has an empty name.
function links(data, folder, names) {
  const address = (path) => `${data.results}/${path.split("/").map(encodeURIComponent).join("/")}`;
  const nodes = names.map((name) =>
    ALONE ? make("a", { href: address(folder + name) }, name || folder) : name || folder,
  );
  return make("span", {}, ...nodes.flatMap((node, number) => (number ? [", ", node] : [node])));
}
