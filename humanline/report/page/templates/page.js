"use strict";

// A part of the page that has data has a function of the same name in a file of its own:
// (section, data) -> void. Text gets into the page as text alone, never as HTML.
const PARTS = { samples, runs };
// In Snakemake's report the page is in a frame, and the files that it links to are not beside it.
const ALONE = window.self === window.top;

document.addEventListener("DOMContentLoaded", () => {
  for (const script of document.querySelectorAll("script[data-part]"))
    PARTS[script.dataset.part](script.parentElement, JSON.parse(script.textContent));
  if (ALONE) return;
  for (const link of document.querySelectorAll('a:not([href^="#"], [href^="http"])'))
    link.replaceWith(link.textContent);
});

function make(tag, attributes, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes || {}))
    if (value !== null && value !== undefined && value !== false) node.setAttribute(name, value);
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}

// What a model or data wrote: its direction is its own, and does not change what stands beside it.
function written(text) {
  return make("bdi", { class: "written", dir: "auto" }, text === "" ? "(empty)" : text);
}

function plural(number, one, many) {
  return `${number.toLocaleString("en")} ${number === 1 ? one : many}`;
}
