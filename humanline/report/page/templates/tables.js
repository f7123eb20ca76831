// Tables: a button in each header sorts the rows; a third press brings back the table's own order. A
// figure leads where its row's name does. The browser lays out the first rows of a long table alone;
// the others wait in its <template>.

const NEXT = { none: "ascending", ascending: "descending", descending: "none" };

for (const table of document.querySelectorAll("table.sortable")) sortable(table);

function sortable(table) {
  const body = table.tBodies[0];
  const headers = [...table.tHead.rows[0].cells];
  body.addEventListener("click", (event) => {
    const isChosen = event.target.closest("td") && getSelection().isCollapsed; // not to copy it
    if (isChosen) event.target.closest("tr").querySelector("a").click();
  });
  const waiting = table.querySelector("template");
  const rows = [...body.rows, ...(waiting ? waiting.content.querySelectorAll("tr") : [])];
  let [order, limit] = [rows, body.rows.length];
  const draw = () => body.replaceChildren(...order.slice(0, limit));
  headers.forEach((header, column) => {
    const button = make("button", { type: "button" }, ...header.childNodes);
    header.append(button);
    button.addEventListener("click", () => {
      const direction = NEXT[header.getAttribute("aria-sort") || "none"];
      for (const other of headers) other.removeAttribute("aria-sort");
      if (direction !== "none") header.setAttribute("aria-sort", direction);
      order = sorted(rows, column, "figure" in header.dataset, direction);
      draw();
    });
  });
  if (!waiting) return;
  const note = table.closest("article").querySelector("[data-rest]");
  const button = make("button", { type: "button" }, `Show all ${rows.length.toLocaleString("en")} rows`);
  button.addEventListener("click", () => {
    limit = rows.length;
    draw();
    note.remove();
  });
  note.append(" ", button);
}

// Equal rows stay in the table's own order, and rows without a figure come last.
function sorted(rows, column, isFigure, direction) {
  if (direction === "none") return rows;
  const sign = direction === "ascending" ? 1 : -1;
  const keyOf = (cell) => (isFigure ? parseFloat(cell.dataset.value) : cell.textContent);
  const keyed = rows.map((row) => [keyOf(row.cells[column]), row]);
  const isKnown = ([key]) => !Number.isNaN(key);
  const compare = isFigure
    ? ([one], [other]) => sign * (one - other)
    : ([one], [other]) => sign * one.localeCompare(other, "en", { numeric: true });
  return [
    ...keyed.filter(isKnown).sort(compare),
    ...keyed.filter((own) => !isKnown(own)),
  ].map(([, row]) => row);
}
