/** The page: what is shown, how it is chosen, and the address that leads back to it. */

const $$ = (id) => document.getElementById(id);
const summary = JSON.parse($$("summary").textContent);
const announce = (text) => ($$("status").textContent = text);
const VIEWS = ["grid", "slider", "single", "difference", "bands"];
const CACHED = 4;

/** One image of a scene. Its key tells a source from a method of the same name. */
class Picture {
  constructor({ kind, label, src }, pair) {
    Object.assign(this, { kind, label, src, pair });
    this.key = `${kind}.${label}`;
  }

  async element() {
    const alt = `${this.label}, pair ${this.pair}`;
    const image = element("img", { class: "picture", alt, src: this.src, draggable: "false" });
    await image.decode();
    return image;
  }

  /** The ImageData, decoded once. */
  pixels() {
    this.data ??= this.element().then((image) => {
      const { naturalWidth: width, naturalHeight: height } = image;
      const context = element("canvas", { width, height }).getContext("2d");
      context.drawImage(image, 0, 0);
      return context.getImageData(0, 0, width, height);
    });
    return this.data;
  }
}

/** Sources before results, and these as the table has them. */
function inOrder(one, two) {
  const place = ({ kind, label }) => (kind === "result" ? summary.methods.indexOf(label) : -1);
  return place(one) - place(two);
}

/** The scenes lie behind this script as inert text; one is parsed when its turn comes. */
const store = {
  cache: new Map(),

  blocks() {
    return [...document.querySelectorAll("script[data-scene]")];
  },

  /** All pairs: those with scores, then those that have images alone. */
  names() {
    return [...new Set([...summary.pairs, ...this.blocks().map((block) => block.dataset.scene)])];
  },

  /** Pairs to walk through: those with images, or all while the page is being read. */
  withImages() {
    if (document.readyState === "loading") return this.names();
    const there = new Set(this.blocks().map((block) => block.dataset.scene));
    return this.names().filter((name) => there.has(name));
  },

  /** Pictures by key and the size of a pair, as soon as it is read; null if there are none. */
  async scene(name) {
    if (this.cache.has(name)) return this.cache.get(name);
    for (;;) {
      const block = this.blocks().find((each) => each.dataset.scene === name);
      // The text is whole once something follows it.
      if (block && (block.nextSibling || document.readyState !== "loading")) {
        const { width, height, images } = JSON.parse(block.textContent);
        const pictures = images.map((image) => new Picture(image, name)).sort(inOrder);
        const scene = { width, height, pictures: new Map(pictures.map((p) => [p.key, p])) };
        this.cache.set(name, scene);
        if (this.cache.size > CACHED) this.cache.delete(this.cache.keys().next().value);
        return scene;
      }
      if (document.readyState !== "loading") return null;
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  },
};

const state = { pair: "", view: "grid", first: "", second: "", gain: 4 };

const stage = new Stage($$("stage"), {
  onCamera({ zoom }) {
    $$("zoom").textContent = `${zoom >= 9.95 ? Math.round(zoom) : Math.round(10 * zoom) / 10}×`;
    saveHash();
  },
  onSplit: () => saveHash(),
});

// Views. Each gives the tiles of a scene; `first` and `second` are pictures, or undefined where the
// pair has none.

const views = {
  async grid({ pictures }) {
    const tiles = [...pictures.values()].map(async (picture) => {
      const open = () => change({ view: "single", first: picture.key });
      const name = element("button", { type: "button", onclick: open }, picture.label);
      name.append(hidden(", show alone"));
      return tile(picture.kind, [await picture.element()], name);
    });
    return Promise.all(tiles);
  },

  async slider(_, first, second) {
    if (!first || !second) return missing(first ? state.second : state.first);
    const pictures = await Promise.all([first.element(), second.element()]);
    const name = element("span", {}, first.label);
    const figure = tile("slide", pictures, name, element("span", {}, second.label));
    figure.querySelector(".pane").append(handle(first, second));
    return [figure];
  },

  async single(_, first) {
    if (!first) return missing(state.first);
    return [tile("one", [await first.element()], first.label)];
  },

  async difference(_, first, second) {
    if (!first || !second) return missing(first ? state.second : state.first);
    const [one, two] = await Promise.all([first.pixels(), second.pixels()]);
    const { mean, largest } = distance(one, two);
    const gain = state.gain > 1 ? ` × ${state.gain}` : "";
    const name = `|${first.label} − ${second.label}|${gain}`;
    const note = element("span", { class: "muted" }, `mean ${mean.toFixed(2)}, largest ${largest}`);
    return [tile("one", [canvas(difference(one, two, state.gain), name)], name, note)];
  },

  async bands(_, first) {
    if (!first) return missing(state.first);
    const { width, height, ...bands } = haar(await first.pixels());
    const names = { LL: "mean", LH: "vertical edges", HL: "horizontal edges", HH: "diagonal" };
    return Object.entries(bands).map(([band, values]) => {
      const low = band === "LL";
      const levels = gray(values, width, height, low ? 0 : 128, low ? 1 : state.gain / 2);
      const note = element("span", { class: "muted" }, names[band]);
      return tile("band", [canvas(levels, `${band} of ${first.label}`)], band, note);
    });
  },
};

function tile(kind, pictures, ...caption) {
  const layers = pictures.map((picture) => element("div", { class: "layer" }, picture));
  const pixel = element("span", { class: "pixel", "aria-hidden": "true" });
  return element(
    "figure",
    { class: kind },
    element("div", { class: "pane" }, ...layers),
    element("figcaption", {}, caption[0], pixel, ...caption.slice(1)),
  );
}

function canvas(data, label) {
  const attributes = { class: "picture", role: "img", "aria-label": label };
  const node = element("canvas", { ...attributes, width: data.width, height: data.height });
  node.getContext("2d").putImageData(data, 0, 0);
  return node;
}

function missing(key) {
  const text = `${labelOf(key)} has no image of this pair.`;
  return [element("p", { class: "missing" }, text)];
}

/** The divider of the slider view. */
function handle(first, second) {
  const arrows = { ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1 };
  const steps = { ...arrows, PageDown: -10, PageUp: 10 };
  const ends = { Home: 0, End: 100 };
  const onkeydown = (event) => {
    const { key, shiftKey, ctrlKey, altKey, metaKey } = event;
    if (shiftKey || ctrlKey || altKey || metaKey || !(key in steps || key in ends)) return;
    event.preventDefault();
    stage.setSplit(ends[key] ?? stage.split + steps[key]);
  };
  return element("div", {
    class: "handle",
    role: "slider",
    tabindex: "0",
    "aria-label": `Divider between ${first.label} on the left and ${second.label} on the right`,
    "aria-orientation": "horizontal",
    "aria-valuemin": "0",
    "aria-valuemax": "100",
    onkeydown,
  });
}

// Choosing.

const labelOf = (key) => key.slice(key.indexOf(".") + 1);

/** What the two fields of a view are called; null where it has none. */
const FIELDS = {
  grid: [null, null],
  slider: ["Left", "Right"],
  single: ["Image", "swaps with"],
  difference: ["Image", "minus"],
  bands: ["Image", null],
};

let renders = 0;

/** Sets parts of the state and shows it. */
async function change(parts) {
  const pairBefore = state.pair;
  Object.assign(state, parts);
  const turn = ++renders;
  $$("stage").setAttribute("aria-busy", "true");
  showControls();
  if (state.pair !== pairBefore) showScores();
  saveHash();

  const scene = await store.scene(state.pair);
  if (turn !== renders) return;
  fillSelects(scene);
  const [first, second] = [state.first, state.second].map((key) => scene?.pictures.get(key));
  const none = [element("p", { class: "missing" }, "The page holds no images of this pair.")];
  const tiles = scene ? await views[state.view](scene, first, second) : none;
  if (turn !== renders) return;
  $$("stage").style.setProperty("--ratio", scene ? scene.width / scene.height : 1);
  stage.show(state.view, tiles);
  $$("stage").removeAttribute("aria-busy");
  announce(description(first, second));
}

function description(first, second) {
  const names = FIELDS[state.view].map((field, i) => field && [first, second][i]?.label);
  const images = names.filter(Boolean).join(" and ");
  return `Pair ${state.pair}, ${state.view}${images ? `: ${images}` : ""}`;
}

function showControls() {
  const names = store.names();
  $$("pair-name").textContent = state.pair;
  $$("pair-count").textContent = `${names.indexOf(state.pair) + 1} of ${names.length}`;
  $$("pair-title").textContent = `Scores of ${state.pair}`;
  document.querySelector(`[name=view][value=${state.view}]`).checked = true;
  const [first, second] = FIELDS[state.view];
  for (const [id, text] of Object.entries({ first, second })) {
    $$(`${id}-field`).hidden = text === null;
    $$(`${id}-field`).firstElementChild.textContent = text ?? "";
  }
  $$("swap").hidden = second === null;
  $$("gain-field").hidden = !["difference", "bands"].includes(state.view);
  $$("options").hidden = first === null;
  $$("gain").value = state.gain;
  $$("gain-text").textContent = `${state.gain}×`;
}

/** Offers all sources and methods; those which this pair lacks cannot be chosen. */
function fillSelects(scene) {
  const there = [...(scene?.pictures.values() ?? [])];
  const sources = there.filter(({ kind }) => kind !== "result").map(({ key }) => key);
  const results = summary.methods.map((method) => `result.${method}`);
  state.first ||= results.find((key) => scene?.pictures.has(key)) ?? there.at(-1)?.key ?? "";
  state.second ||= sources[0] ?? there[0]?.key ?? "";
  for (const id of ["first", "second"]) {
    const option = (key) => {
      if (scene?.pictures.has(key)) return element("option", { value: key }, labelOf(key));
      return element("option", { value: key, disabled: "" }, `${labelOf(key)} (none)`);
    };
    const group = (label, keys) => element("optgroup", { label }, ...keys.map(option));
    $$(id).replaceChildren(group("Results", results), group("Sources", sources));
    // An address may ask for what no pair has.
    const offered = !state[id] || [...results, ...sources].includes(state[id]);
    if (!offered) $$(id).append(option(state[id]));
    $$(id).value = state[id];
  }
}

function showScores() {
  const pair = summary.pairs.indexOf(state.pair);
  const scores = summary.scores.map((rows) => rows[pair] ?? null);
  const onMethod = (method) => {
    change({ first: `result.${method}`, view: state.view === "grid" ? "single" : state.view });
    $$("viewer").scrollIntoView({ block: "start" });
  };
  fillPairTable($$("pair-scores"), summary, scores, { onMethod, announce });
}

/** The pair some steps away among those with images, round the ends. */
function stepPair(step) {
  const names = store.withImages();
  if (names.length) change({ pair: names.at((names.indexOf(state.pair) + step) % names.length) });
}

async function stepImage(step) {
  const keys = [...((await store.scene(state.pair))?.pictures.keys() ?? [])];
  if (!keys.length || FIELDS[state.view][0] === null) return;
  change({ first: keys.at((keys.indexOf(state.first) + step) % keys.length) });
}

const swap = () =>
  FIELDS[state.view][1] !== null && change({ first: state.second, second: state.first });

// The address keeps the place: #pair=…&view=…&first=…&second=…&gain=…&split=…&zoom=…&x=…&y=…

let saving;

function saveHash() {
  clearTimeout(saving);
  saving = setTimeout(() => {
    const { zoom, x, y } = stage.camera;
    const hash = new URLSearchParams({ pair: state.pair, view: state.view });
    const [first, second] = FIELDS[state.view];
    if (first !== null) hash.set("first", state.first);
    if (second !== null) hash.set("second", state.second);
    if (!$$("gain-field").hidden) hash.set("gain", state.gain);
    if (state.view === "slider") hash.set("split", stage.split);
    if (zoom > 1) {
      for (const [name, value] of Object.entries({ zoom, x, y })) hash.set(name, value.toFixed(4));
    }
    history.replaceState(null, "", `#${hash}`);
  }, 200);
}

/** What of the state the address tells, if it makes sense. */
function loadHash() {
  const hash = new URLSearchParams(location.hash.slice(1));
  const parts = {};
  for (const name of ["pair", "first", "second"]) {
    if (hash.get(name)) parts[name] = hash.get(name);
  }
  if (VIEWS.includes(hash.get("view"))) parts.view = hash.get("view");
  const gain = Number(hash.get("gain"));
  if (Number.isInteger(gain) && gain >= 1 && gain <= 8) parts.gain = gain;
  const split = parseFloat(hash.get("split"));
  if (split >= 0 && split <= 100) stage.split = split;
  const [zoom, x, y] = ["zoom", "x", "y"].map((name) => parseFloat(hash.get(name)));
  if (zoom >= 1 && x >= 0 && y >= 0) stage.camera = { zoom, x, y };
  return parts;
}

// Keys of one character can be turned off in the help, for those who dictate.

const chooser = new Chooser(summary, {
  pairs: () => store.names(),
  current: () => state.pair,
  onChoose: (pair) => change({ pair }),
});

const KEYS = {
  j: () => stepPair(1),
  k: () => stepPair(-1),
  "/": () => chooser.open(),
  ".": () => stepImage(1),
  ",": () => stepImage(-1),
  x: swap,
  "+": () => stage.zoom(1.5),
  "=": () => stage.zoom(1.5),
  "-": () => stage.zoom(1 / 1.5),
  0: () => stage.look({ zoom: 1 }),
  f: toggleFull,
  "?": () => $$("help").showModal(),
  ...Object.fromEntries(VIEWS.map((view, i) => [i + 1, () => change({ view })])),
};

const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

function onKey(event) {
  const { key, target } = event;
  if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey) return;
  if (document.querySelector("dialog[open]")) return;
  if (target.closest("input:not([type=radio], [type=checkbox]), select, textarea")) return;
  const arrow = ARROWS[key];
  if (arrow && event.shiftKey) stage.pan(arrow[0] / 5, arrow[1] / 5);
  else if (arrow?.[0] && !target.closest("input, .scroll")) stepPair(arrow[0]);
  else if (!arrow && Object.hasOwn(KEYS, key) && $$("shortcuts").checked) KEYS[key]();
  else return;
  event.preventDefault();
}

function toggleFull() {
  if (document.fullscreenElement) document.exitFullscreen();
  else $$("viewer").requestFullscreen?.();
}

function setScheme(scheme) {
  document.documentElement.dataset.scheme = scheme;
  document.querySelector(`[name=scheme][value=${scheme}]`).checked = true;
}

/** A setting that outlives the page, where the browser stores any for files. */
const setting = {
  get(name) {
    try {
      return localStorage.getItem(name);
    } catch {
      return null;
    }
  },
  set(name, value) {
    try {
      localStorage.setItem(name, value);
    } catch {
      // It holds until the page is closed.
    }
  },
};

function connect() {
  const onClick = {
    previous: () => stepPair(-1),
    next: () => stepPair(1),
    choose: () => chooser.open(),
    swap,
    full: toggleFull,
    "zoom-in": KEYS["+"],
    "zoom-out": KEYS["-"],
    "zoom-fit": KEYS[0],
    "help-open": KEYS["?"],
  };
  for (const [id, action] of Object.entries(onClick)) $$(id).addEventListener("click", action);
  for (const id of ["first", "second"]) {
    $$(id).addEventListener("input", (event) => change({ [id]: event.target.value }));
  }
  $$("gain").addEventListener("input", (event) => change({ gain: Number(event.target.value) }));
  $$("views").addEventListener("input", (event) => change({ view: event.target.value }));
  $$("scheme").addEventListener("input", (event) => {
    setScheme(event.target.value);
    setting.set("scheme", event.target.value);
  });
  $$("shortcuts").addEventListener("input", (event) => {
    setting.set("shortcuts", event.target.checked);
  });
  for (const dialog of document.querySelectorAll("dialog")) {
    dialog.addEventListener("click", (event) => {
      if (event.target === dialog || event.target.closest("[data-close]")) dialog.close();
    });
  }
  document.addEventListener("keydown", onKey);
  addEventListener("hashchange", () => location.hash.includes("=") && change(loadHash()));
}

async function start() {
  for (const part of document.querySelectorAll("[data-scripted]")) part.hidden = false;
  const scheme = setting.get("scheme");
  setScheme(["auto", "light", "dark"].includes(scheme) ? scheme : "auto");
  $$("shortcuts").checked = setting.get("shortcuts") !== "false";
  makeSortable($$("scores"), announce);
  connect();
  // Pairs that have no scores are known when all of the page is.
  addEventListener("DOMContentLoaded", showControls);
  const parts = loadHash();
  await change({ pair: summary.pairs[0] ?? "", ...parts });
  // Only now it is known whether the first pair has images.
  if (!parts.pair && !store.cache.size && store.withImages().length) stepPair(1);
}

start();
