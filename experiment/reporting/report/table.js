// The table of results: sorted, filtered, and saved as it is shown.

const TABLE = DATA.table;
const ORDER = { column: null, isRising: true };

function cellText(column, value) {
  if (value === null) return "";
  if (!column.is_number || Number.isInteger(value)) return String(value);
  return String(Number(value.toPrecision(4)));
}

function shownColumns() {
  const isAll = byId("all-columns").checked;
  return TABLE.columns.map((column, index) => ({ ...column, index })).filter((c) => isAll || c.is_main);
}

/** The rows that hold all the words of the filter in the columns that are shown, in order. */
function shownRows(columns) {
  const words = byId("filter").value.toLowerCase().split(/\s+/).filter(Boolean);
  const rows = TABLE.rows.filter((row) => {
    const text = columns.map((c) => cellText(c, row[c.index])).join("\n").toLowerCase();
    return words.every((word) => text.includes(word));
  });
  if (ORDER.column === null) return rows;
  const sign = ORDER.isRising ? 1 : -1;
  return rows.sort((a, b) => compared(a[ORDER.column], b[ORDER.column], sign));
}

/** Missing values come last in either order. */
function compared(a, b, sign) {
  if (a === null || b === null) return (a === null) - (b === null);
  if (typeof a === "string") return sign * a.localeCompare(b, "en", { numeric: true });
  return sign * (a - b);
}

function drawRows() {
  const columns = shownColumns();
  const rows = shownRows(columns);
  const body = html("tbody");
  for (const row of rows) body.append(html("tr", {}, ...columns.map((c) => cellOf(c, row[c.index]))));
  byId("rows").tBodies[0].replaceWith(body);
  byId("count").textContent = `${rows.length} of ${TABLE.rows.length} rows`;
}

function cellOf(column, value) {
  const kind = column.is_number ? "number" : column.name === "note" ? "remark" : null;
  return html("td", { class: kind }, cellText(column, value));
}

function drawHead() {
  const headings = shownColumns().map((column) => {
    const button = html("button", { type: "button", class: "sort" }, column.name.replaceAll("_", " "));
    const heading = html(
      "th",
      { scope: "col", class: column.is_number ? "number" : null, title: column.meaning },
      button,
    );
    button.addEventListener("click", () => sortBy(column.index));
    heading.dataset.column = column.index;
    return heading;
  });
  byId("rows").replaceChildren(html("thead", {}, html("tr", {}, ...headings)), html("tbody"));
  tellOrder();
}

function sortBy(column) {
  ORDER.isRising = ORDER.column === column ? !ORDER.isRising : true;
  ORDER.column = column;
  tellOrder();
  drawRows();
}

function tellOrder() {
  for (const heading of byId("rows").tHead.rows[0].cells) {
    const isSorted = Number(heading.dataset.column) === ORDER.column;
    if (isSorted) heading.setAttribute("aria-sort", ORDER.isRising ? "ascending" : "descending");
    else heading.removeAttribute("aria-sort");
  }
}

/** A value of a CSV file, with all digits; truth values as in results.csv. */
function csvValue(value) {
  if (value === null) return "";
  const text = value === true ? "True" : value === false ? "False" : String(value);
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

function csv() {
  const columns = shownColumns();
  const lines = shownRows(columns).map((row) => columns.map((c) => csvValue(row[c.index])));
  return [columns.map((c) => csvValue(c.name)), ...lines].map((line) => `${line.join(",")}\n`).join("");
}

function saveRows() {
  const address = URL.createObjectURL(new Blob([csv()], { type: "text/csv" }));
  const link = html("a", { href: address, download: "results.csv" });
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(address), 10000);
}

function startTable() {
  if (!TABLE.rows.length) return;
  byId("results").hidden = false;
  drawHead();
  drawRows();
  byId("filter").addEventListener("input", drawRows);
  byId("all-columns").addEventListener("change", () => {
    drawHead();
    drawRows();
  });
  byId("save").addEventListener("click", saveRows);
}
