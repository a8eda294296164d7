/** Tables of scores: sorting, and the one of a single pair. */

/** An element with attributes and children; text is only ever text, never markup. */
function element(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (value !== undefined && value !== false) node.setAttribute(name, value);
  }
  node.append(...children);
  return node;
}

const hidden = (text) => element("span", { class: "vh" }, text);

/** Puts a button into each header of a column, which sorts the rows by it. */
function makeSortable(table, announce) {
  for (const header of table.tHead.rows[0].cells) {
    const name = header.firstChild.textContent.trim();
    const button = element("button", { type: "button" }, ...header.childNodes);
    header.append(button);
    button.addEventListener("click", () => {
      announce(`Sorted by ${name}, ${sortBy(table, header)}`);
    });
  }
}

/** Sorts by a column, the best first; again, the other way round. What is undefined stays last. */
function sortBy(table, header, order = nextOrder(header)) {
  for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
  header.setAttribute("aria-sort", order);

  const sign = order === "ascending" ? 1 : -1;
  const key = (row) => row.cells[header.cellIndex];
  const compare = (one, two) => {
    if (header.cellIndex === 0) {
      const [x, y] = [one, two].map((row) => key(row).textContent);
      return sign * x.localeCompare(y, "en", { numeric: true });
    }
    const [x, y] = [one, two].map((row) => key(row).dataset.value);
    if (x === undefined || y === undefined) return (x === undefined) - (y === undefined);
    return Number(x) === Number(y) ? 0 : sign * (Number(x) < Number(y) ? -1 : 1);
  };
  const body = table.tBodies[0];
  body.append(...[...body.rows].sort(compare));
  return order;
}

function nextOrder(header) {
  const natural = header.dataset.better === "higher" ? "descending" : "ascending";
  const reverse = { ascending: "descending", descending: "ascending" };
  return reverse[header.getAttribute("aria-sort")] ?? natural;
}

/** A score as the tables print it; undefined for none. */
function scoreText(value, digits) {
  if (value === null || value === undefined) return undefined;
  const number = Number(value);
  const text = Number.isFinite(number) ? Math.abs(number).toFixed(digits) : "∞";
  return number < 0 ? `−${text}` : text;
}

/** Which of the values are best (1) and second best (2), told apart as they are printed. */
function marks(values, { higher, digits }) {
  const printed = values.map((value) => Number(Number(value ?? NaN).toFixed(digits)));
  const order = (x, y) => (x === y ? 0 : x < y === higher ? 1 : -1);
  const distinct = [...new Set(printed.filter((value) => !Number.isNaN(value)))].sort(order);
  return printed.map((value) => [1, 2][distinct.indexOf(value)] ?? 0);
}

/**
 * Fills the table of one pair, in the order and with the focus that it has.
 *
 * Args: `scores` holds an array of scores a method, or null where it failed; `onMethod` is called
 * when a method's name is pressed.
 */
function fillPairTable(table, { methods, metrics }, scores, { onMethod, announce }) {
  const sorted = table.tHead?.querySelector("[aria-sort]");
  const focus = table.contains(document.activeElement) && document.activeElement.closest("th");

  const head = element("tr", {}, element("th", { scope: "col" }, "Method"));
  for (const { name, higher } of metrics) {
    const better = higher ? "higher" : "lower";
    const arrow = element("span", { "aria-hidden": "true" }, higher ? "↑" : "↓");
    const attributes = { scope: "col", "data-better": better };
    head.append(element("th", attributes, `${name} `, arrow, hidden(`${better} is better`)));
  }
  const columns = metrics.map((metric, m) => marks(scores.map((row) => row?.[m]), metric));
  const body = element("tbody");
  methods.forEach((method, i) => {
    const show = element("button", { type: "button", onclick: () => onMethod(method) }, method);
    const row = element("tr", {}, element("th", { scope: "row" }, show));
    metrics.forEach(({ digits }, m) => row.append(cell(scores[i]?.[m], digits, columns[m][i])));
    body.append(row);
  });
  const place = focus && [focus.parentNode.rowIndex, focus.cellIndex];
  table.replaceChildren(element("thead", {}, head), body);
  makeSortable(table, announce);
  if (sorted) sortBy(table, head.cells[sorted.cellIndex], sorted.getAttribute("aria-sort"));
  if (place) table.rows[place[0]].cells[place[1]].querySelector("button").focus();
}

function cell(value, digits, mark) {
  const text = scoreText(value, digits);
  if (text === undefined) {
    const dash = element("span", { "aria-hidden": "true" }, "–");
    return element("td", {}, dash, hidden("undefined"));
  }
  const content = [text];
  if (mark === 1) content.splice(0, 1, element("b", {}, text), hidden(" best"));
  if (mark === 2) content.splice(0, 1, element("u", {}, text), hidden(" second best"));
  return element("td", { "data-value": value }, ...content);
}
