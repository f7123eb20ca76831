// Samples: one table at a time, ten prompts at a time.

function samples(section, data) {
  const size = 10;
  const form = section.querySelector("[data-controls]");
  const [list, status, about, cells] = ["list", "status", "about", "cells"].map((name) =>
    section.querySelector(`[data-${name}]`),
  );
  const buttons = [...section.querySelectorAll("[data-step]")];
  const everything = section.querySelector("[data-everything]");
  let start = 0;

  form.elements.group.append(
    ...data.groups.map((group, number) => make("option", { value: number }, group.title)),
  );
  const chosen = () => data.groups[Number(form.elements.group.value)];
  const boxes = () => [...form.querySelectorAll("[name=cell]")];

  function choose() {
    const group = chosen();
    section.querySelector("[data-odd]").textContent = isJudged(group)
      ? "only where judge and proxy disagree"
      : `only what is not ${group.outcomes[0]}`;
    form.elements.odd.disabled = isJudged(group) && !hasProxy(group);
    if (form.elements.odd.disabled) form.elements.odd.checked = false;
    cells.replaceChildren(
      ...group.cells.map((words, number) => {
        const box = make("input", { type: "checkbox", name: "cell", value: number });
        box.checked = group.first.includes(number);
        return make("label", { class: "check" }, box, words);
      }),
    );
    about.replaceChildren(...legend(group).map((text) => make("li", {}, text)));
    start = 0;
    draw();
  }

  function draw() {
    const group = chosen();
    const shown = boxes().filter((box) => box.checked).map((box) => Number(box.value));
    const odd = form.elements.odd.checked;
    const found = group.prompts
      .map((row) => [row, shown.filter((cell) => !odd || row.outputs[cell].odd)])
      .filter(([, kept]) => kept.length);
    start = Math.max(0, Math.min(start, size * Math.floor((found.length - 1) / size)));
    const page = found.slice(start, start + size);
    list.replaceChildren(...page.map(([row, kept]) => sample(group, row, kept)));
    everything.disabled = shown.length === group.cells.length;
    status.textContent = found.length
      ? `${group.title}: prompts ${start + 1} to ${start + page.length} of ${found.length}`
      : `No prompt has such an output${shown.length ? "" : ": choose a cell"}`;
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
  everything.addEventListener("click", () => {
    for (const box of boxes()) box.checked = true;
    draw();
  });
  for (const button of buttons)
    button.addEventListener("click", () => {
      start += size * Number(button.dataset.step);
      draw();
      status.focus({ preventScroll: true }); // a button at the end of its way can have no focus
      status.scrollIntoView();
    });
  choose();
}

const isJudged = (group) => group.scoring === "judge";
const hasProxy = (group) => group.prompts.some((row) => row.proxy !== null);

// What a reader has to know about a table's samples, one sentence each.
function legend(group) {
  const told = group.above.length ? [`${group.above.join(". ")}.`] : [];
  if (group.prompts.some((row) => row.wishes.length))
    told.push("A prompt of this generated world is a short code; below it stands what the code asks for.");
  if (!isJudged(group)) {
    const outcomes = group.outcomes.join(", ");
    return [...told, `Answer: the right one. The grading of an output is one of: ${outcomes}.`];
  }
  told.push(
    "Reference: the text that the judge compares every output with.",
    "Judge: how much it prefers the output, from 0 to 100; above 50 it prefers the output, below 50 the reference.",
  );
  if (!hasProxy(group)) {
    const reason = `is not stored for the outputs of an evaluation (${group.reward})`;
    return [...told, `The score that training saw ${reason}, so nothing here says where it and the judge disagree.`];
  }
  return [
    ...told,
    "Proxy: the reward that training saw; more is better.",
    "Judge and proxy disagree if one finds the output better, and the other the reference.",
  ];
}

function sample(group, row, kept) {
  const proxy = row.proxy === null ? [] : [["number", `proxy ${row.proxy.toFixed(2)}`]];
  return make(
    "li",
    {},
    make("h3", {}, `Prompt ${row.number}: `, written(row.prompt)),
    row.wishes.length ? make("p", { class: "wishes" }, `It asks for: ${row.wishes.join("; ")}`) : null,
    make(
      "ul",
      { class: isJudged(group) ? "outputs judged" : "outputs" },
      line(isJudged(group) ? "reference" : "answer", row.gold, proxy, "gold"),
      ...kept.map((cell) => output(group, cell, row.outputs[cell])),
    ),
  );
}

function output(group, cell, own) {
  const name = make("a", { href: `#run-${group.runs[cell]}` }, group.cells[cell]);
  if (!isJudged(group)) {
    const told = own.outcome === null ? "not graded" : group.outcomes[own.outcome];
    return line(name, own.text, [[own.odd ? "odd" : "good", told]]);
  }
  return line(name, own.text, [
    ["number", own.judge === null ? "no verdict" : `judge ${Math.round(100 * own.judge)}`],
    own.proxy === null ? null : ["number", `proxy ${own.proxy.toFixed(2)}`],
    own.odd ? ["odd", "disagree"] : null,
  ]);
}

function line(name, text, scores, kind) {
  const told = scores.filter(Boolean).map(([kind, words]) => make("span", { class: kind }, words));
  return make(
    "li",
    { class: kind },
    make("span", { class: "name" }, name),
    written(text),
    make("span", { class: "scores" }, ...told.flatMap((node) => [" ", node])),
  );
}
