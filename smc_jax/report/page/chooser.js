/** The dialog that lists the pairs: a search, and an order by any method's score. */

class Chooser {
  /** `pairs()` gives the names, `current()` the one that is shown; `onChoose` gets a name. */
  constructor(summary, { pairs, current, onChoose }) {
    Object.assign(this, { summary, pairs, current, onChoose });
    this.dialog = document.getElementById("chooser");
    this.search = document.getElementById("search");
    this.list = document.getElementById("list");
    [this.metric, this.method, this.order] = ["metric", "method", "order"].map((part) =>
      document.getElementById(`list-${part}`),
    );
    const options = (names) => names.map((name, i) => element("option", { value: i }, name));
    this.metric.append(...options(summary.metrics.map(({ name }) => name)));
    this.method.append(...options(summary.methods));
    for (const control of [this.search, this.metric, this.method, this.order]) {
      control.addEventListener("input", () => this.fill());
    }
    this.dialog.addEventListener("keydown", (event) => this.key(event));
  }

  open() {
    this.fill();
    this.dialog.showModal();
    this.search.select();
    this.list.querySelector("[aria-current]")?.scrollIntoView({ block: "center" });
  }

  fill() {
    const wanted = this.search.value.trim().toLowerCase();
    const rows = this.pairs()
      .filter((name) => name.toLowerCase().includes(wanted))
      .map((name) => ({ name, ...this.scoreOf(name) }));
    if (this.order.value !== "name") {
      const { higher } = this.summary.metrics[this.metric.value];
      const sign = higher === (this.order.value === "best") ? -1 : 1;
      const rank = ({ value }) => (Number.isNaN(value) ? Infinity : sign * value);
      rows.sort((one, two) => (rank(one) < rank(two) ? -1 : rank(one) > rank(two) ? 1 : 0));
    }
    const count = `${rows.length} ${rows.length === 1 ? "pair" : "pairs"}`;
    document.getElementById("list-count").textContent = wanted ? `${count} found` : count;
    this.list.replaceChildren(...rows.map((row) => this.row(row)));
  }

  /** The chosen method's score of a pair, and which method is the best there. */
  scoreOf(name) {
    const { pairs, methods, metrics, scores } = this.summary;
    const pair = pairs.indexOf(name);
    const metric = metrics[this.metric.value];
    if (!metric) return { value: NaN, text: "", best: "" };
    const values = scores.map((rows) => rows[pair]?.[this.metric.value]);
    const ranked = marks(values, metric);
    const best = methods.filter((_, i) => ranked[i] === 1).join(", ");
    const value = values[this.method.value];
    const print = (score) => scoreText(score, metric.digits) ?? "–";
    return {
      value: Number(value ?? NaN),
      text: print(value),
      best: best && `best: ${best} ${print(values[ranked.indexOf(1)])}`,
    };
  }

  row({ name, text, best }) {
    const current = name === this.current() && "true";
    const choose = () => {
      this.dialog.close();
      this.onChoose(name);
    };
    const score = element("span", { class: "score" }, text);
    const winner = element("span", { class: "muted" }, best);
    const attributes = { type: "button", "aria-current": current, onclick: choose };
    const label = element("span", { class: "name" }, name);
    return element("li", {}, element("button", attributes, label, " ", winner, " ", score));
  }

  /** Arrows walk from the search through the list; Enter in the search takes the first. */
  key(event) {
    const buttons = [...this.list.querySelectorAll("button")];
    const at = buttons.indexOf(document.activeElement);
    if (at < 0 && document.activeElement !== this.search) return;
    if (event.key === "Enter" && at < 0) {
      event.preventDefault();
      buttons[0]?.click();
    }
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (!step) return;
    event.preventDefault();
    (at + step < 0 ? this.search : (buttons[at + step] ?? buttons[at]))?.focus();
  }
}
