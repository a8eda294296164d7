/** The stage: panes with pictures that share one camera, and the gestures that move it. */

const FARTHEST = 64;

/**
 * Shows tiles, `<figure>`s with a `.pane` each, whose `.picture`s zoom and pan as one.
 *
 * A camera is `{zoom, x, y}`: zoom 1 shows whole images, x and y are the middle of a pane in parts
 * of the image's width and height, so that it fits pictures of any size.
 */
class Stage {
  constructor(root, { onCamera, onSplit }) {
    this.root = root;
    this.camera = { zoom: 1, x: 0.5, y: 0.5 };
    this.split = 50;
    this.onCamera = onCamera;
    this.onSplit = onSplit;
    this.pointers = new Map();
    this.scrolled = -Infinity;
    new ResizeObserver(() => this.place()).observe(root);
    addEventListener("scroll", () => (this.scrolled = performance.now()), { passive: true });
    root.addEventListener("wheel", (event) => this.wheel(event), { passive: false });
    root.addEventListener("pointerdown", (event) => this.down(event));
    root.addEventListener("pointermove", (event) => this.move(event));
    for (const name of ["pointerup", "pointercancel"]) {
      root.addEventListener(name, (event) => this.pointers.delete(event.pointerId));
    }
    root.addEventListener("pointerleave", () => this.inspect(null));
  }

  show(layout, tiles) {
    this.root.className = layout;
    this.root.replaceChildren(...tiles);
    this.setSplit(this.split);
    this.look({});
  }

  get panes() {
    return [...this.root.querySelectorAll(".pane")];
  }

  /** Moves the camera, but not past the border of the images. */
  look({ zoom = this.camera.zoom, x = this.camera.x, y = this.camera.y }) {
    zoom = Math.min(Math.max(zoom, 1), FARTHEST);
    const pane = this.panes[0];
    if (pane) {
      const { paneWidth, paneHeight, width, height } = this.geometry(pane, zoom);
      const inside = (at, half) => (half >= 0.5 ? 0.5 : Math.min(Math.max(at, half), 1 - half));
      x = inside(x, paneWidth / width / 2);
      y = inside(y, paneHeight / height / 2);
    }
    this.camera = { zoom, x, y };
    this.place();
    this.onCamera(this.camera);
  }

  /** Zooms by a factor; the point of the image under (left, top) of a pane stays there. */
  zoomAt(factor, pane, left, top) {
    const { paneWidth, paneHeight, width, height, x, y } = this.geometry(pane);
    const zoom = Math.min(Math.max(this.camera.zoom * factor, 1), FARTHEST);
    const gain = zoom / this.camera.zoom;
    this.look({
      zoom,
      x: (left - x) / width + (paneWidth / 2 - left) / (width * gain),
      y: (top - y) / height + (paneHeight / 2 - top) / (height * gain),
    });
  }

  /** Zooms about the middle. */
  zoom(factor) {
    this.look({ zoom: this.camera.zoom * factor });
  }

  /** Pans by parts of a pane. */
  pan(right, down) {
    const pane = this.panes[0];
    if (!pane) return;
    const { paneWidth, paneHeight, width, height } = this.geometry(pane);
    this.look({
      x: this.camera.x + (right * paneWidth) / width,
      y: this.camera.y + (down * paneHeight) / height,
    });
  }

  /** Where a pane's picture lies in it: its size and upper left corner, in CSS pixels. */
  geometry(pane, zoom = this.camera.zoom) {
    const { clientWidth: paneWidth, clientHeight: paneHeight } = pane;
    const [columns, rows] = sizeOf(pane.querySelector(".picture"));
    const scale = Math.min(paneWidth / columns, paneHeight / rows) * zoom;
    const [width, height] = [columns * scale, rows * scale];
    const x = paneWidth / 2 - this.camera.x * width;
    const y = paneHeight / 2 - this.camera.y * height;
    return { paneWidth, paneHeight, width, height, x, y, scale };
  }

  place() {
    const { zoom } = this.camera;
    this.root.toggleAttribute("data-zoomed", zoom > 1);
    for (const pane of this.panes) {
      const { x, y, scale } = this.geometry(pane);
      for (const picture of pane.querySelectorAll(".picture")) {
        picture.style.transform = `translate(${x}px, ${y}px) scale(${scale})`;
        picture.classList.toggle("pixelated", scale * devicePixelRatio >= 3);
      }
    }
  }

  /** Moves the slider to a percentage of the pane's width. */
  setSplit(percent) {
    this.split = Math.round(10 * Math.min(Math.max(percent, 0), 100)) / 10;
    this.root.style.setProperty("--split", `${this.split}%`);
    const handle = this.root.querySelector(".handle");
    if (!handle) return;
    handle.setAttribute("aria-valuenow", Math.round(this.split));
    handle.setAttribute("aria-valuetext", `${Math.round(this.split)} percent`);
    this.onSplit(this.split);
  }

  wheel(event) {
    const pane = event.target.closest(".pane");
    if (!pane) return;
    // Who scrolls through the page, or past whole images, is not held up by them.
    const passing = performance.now() - this.scrolled < 250;
    if (!event.ctrlKey && (passing || (this.camera.zoom === 1 && event.deltaY > 0))) return;
    event.preventDefault();
    const { left, top } = pane.getBoundingClientRect();
    const lines = event.deltaMode === WheelEvent.DOM_DELTA_LINE ? 16 : 1;
    const factor = Math.exp(-event.deltaY * lines * (event.ctrlKey ? 0.01 : 0.002));
    this.zoomAt(factor, pane, event.clientX - left, event.clientY - top);
  }

  down(event) {
    const pane = event.target.closest(".pane");
    if (!pane || event.button !== 0) return;
    if (this.pointers.size && pane !== this.held) return;
    this.held = pane;
    const onHandle = event.target.closest(".handle");
    this.sliding = onHandle || (this.camera.zoom === 1 && pane.querySelector(".handle"));
    this.pointers.set(event.pointerId, [event.clientX, event.clientY]);
    pane.setPointerCapture(event.pointerId);
    if (this.sliding) this.slideTo(event);
  }

  move(event) {
    if (!this.pointers.has(event.pointerId)) {
      if (event.pointerType === "mouse") this.inspect(event);
      return;
    }
    const before = span([...this.pointers.values()]);
    this.pointers.set(event.pointerId, [event.clientX, event.clientY]);
    const after = span([...this.pointers.values()]);
    if (this.sliding && this.pointers.size === 1) {
      this.slideTo(event);
      return;
    }
    const { left, top } = this.held.getBoundingClientRect();
    const { width, height } = this.geometry(this.held);
    this.camera.x -= (after.x - before.x) / width;
    this.camera.y -= (after.y - before.y) / height;
    this.zoomAt(after.size / before.size, this.held, after.x - left, after.y - top);
  }

  slideTo(event) {
    const { left, width } = this.held.getBoundingClientRect();
    this.setSplit((100 * (event.clientX - left)) / width);
  }

  /** Tells the pixel under the mouse, in every pane the one at the same place. */
  inspect(event) {
    const pane = event?.target.closest(".pane");
    const { width, height, x, y } = pane ? this.geometry(pane) : {};
    const { left, top } = pane?.getBoundingClientRect() ?? {};
    const [u, v] = [(event?.clientX - left - x) / width, (event?.clientY - top - y) / height];
    const inside = u >= 0 && u < 1 && v >= 0 && v < 1;
    for (const output of this.root.querySelectorAll(".pixel")) {
      output.textContent = inside ? pixelText(output.closest("figure"), u, v) : "";
    }
  }
}

/** Width and height of an image or a canvas, in its own pixels. */
const sizeOf = (picture) => [
  picture.naturalWidth ?? picture.width,
  picture.naturalHeight ?? picture.height,
];

/** The middle of one or two pointers, and their distance. */
function span(points) {
  const [[x, y], [x2, y2] = [x, y]] = points;
  return { x: (x + x2) / 2, y: (y + y2) / 2, size: Math.hypot(x2 - x, y2 - y) || 1 };
}

const probe = document.createElement("canvas").getContext("2d", { willReadFrequently: true });

/** "x, y: values" of a figure's pictures at parts (u, v) of their sizes. */
function pixelText(figure, u, v) {
  const pictures = [...figure.querySelectorAll(".picture")];
  const [width, height] = sizeOf(pictures[0]);
  const [x, y] = [Math.floor(u * width), Math.floor(v * height)];
  const values = pictures.map((picture) => {
    probe.drawImage(picture, x, y, 1, 1, 0, 0, 1, 1);
    const [r, g, b] = probe.getImageData(0, 0, 1, 1).data;
    return r === g && g === b ? `${r}` : `${r} ${g} ${b}`;
  });
  return `${x}, ${y}: ${values.join(" | ")}`;
}
