// Tables sort by the head of a column, and folded parts open for a link into them and for print. Without it all is there.
const value = (row, column) => (row.cells[column]?.textContent ?? "–").trim().replace("−", "-");
const isNumber = (text) => !Number.isNaN(parseFloat(text));
const compare = (a, b) => (isNumber(a) && isNumber(b) ? parseFloat(a) - parseFloat(b) : a.localeCompare(b));

function sort(table, heads, column) {
  const body = table.tBodies[0];
  const lines = [...body.rows].filter((row) => !row.classList.contains("mean"));
  const known = lines.filter((row) => value(row, column) !== "–");
  const before = heads[column].getAttribute("aria-sort");
  const up = before ? before === "descending" : !known.every((row) => isNumber(value(row, column)));
  for (const head of heads) head.removeAttribute("aria-sort");
  heads[column].setAttribute("aria-sort", up ? "ascending" : "descending");
  known.sort((a, b) => compare(value(a, column), value(b, column)) * (up ? 1 : -1));
  body.prepend(...known, ...lines.filter((row) => !known.includes(row)));
}

for (const table of document.querySelectorAll("table.sorts")) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    button.addEventListener("click", () => sort(table, heads, column));
    head.append(button);
  });
}

function unfold() {
  const part = location.hash && document.getElementById(location.hash.slice(1))?.closest("details");
  if (part) part.open = true;
}
addEventListener("hashchange", unfold);
addEventListener("beforeprint", () => document.querySelectorAll("details").forEach((part) => (part.open = true)));
unfold();
