// Drawing on the canvas: brush, eraser and polygon for the mask, and a polygon that measures; undo and redo.

import { get, put } from "./api.js";

export class Drawing {
  // `view` shows; `changed(told)` hears the mask's edits and share; `measured(points)` gets a polygon to measure, and
  // `picked(point)` a click on a suspect place.
  constructor(view, { changed, measured, picked }) {
    Object.assign(this, { view, changed, measured, picked, tool: "pan", radius: 6, history: [], at: -1, busy: Promise.resolve() });
    const on = (kind, act) => view.element.addEventListener(kind, act, { capture: true });
    on("pointerdown", event => this.#down(event));
    on("pointermove", event => this.#move(event));
    on("pointerup", event => this.#up(event));
    on("dblclick", () => this.#close());
  }

  async open(id) {
    this.id = id;
    const told = await get(`rasters/${id}/mask/edits`);
    this.history = [told.edits];
    this.at = 0;
    this.changed(told);
  }

  get edits() { return this.history[this.at]; }
  get canUndo() { return this.at > 0; }
  get canRedo() { return this.at < this.history.length - 1; }

  use(tool) {
    this.tool = tool;
    this.#drop();
    this.view.element.classList.toggle("drawing", tool !== "pan");
    const map = this.view.map;
    if (map) map.dragging[tool === "pan" ? "enable" : "disable"]();
  }

  // Take new edits, to be undone.
  apply(change) {
    this.history = [...this.history.slice(0, this.at + 1), { ...this.edits, ...change }];
    this.at = this.history.length - 1;
    return this.#save();
  }

  step(by) {
    const to = this.at + by;
    if (to < 0 || to >= this.history.length) return;
    this.at = to;
    this.#save();
  }

  #save() {
    const { id, edits } = this;
    this.busy = this.busy.then(() => put(`rasters/${id}/mask`, edits)).then(told => id === this.id && this.changed(told), error => this.changed({ error }));
    return this.busy;
  }

  #down(event) {
    if (this.tool === "pan" || event.button !== 0 || event.target.closest(".leaflet-control")) return;
    event.stopPropagation();
    const point = this.view.place(event);
    if (this.tool === "suspect") return this.picked(point);
    if (this.tool === "polygon" || this.tool === "measure") {
      this.points = [...(this.points ?? []), point];
    } else {
      this.view.element.setPointerCapture(event.pointerId);
      this.points = [point];
    }
    this.#show();
  }

  #move(event) {
    if (!this.points || this.tool === "polygon" || this.tool === "measure") return;
    event.stopPropagation();
    this.points.push(this.view.place(event));
    this.#show();
  }

  #up() {
    if (!this.points || this.tool === "polygon" || this.tool === "measure") return;
    const stroke = { points: this.points, radius: this.radius, erase: this.tool === "erase" };
    this.#finish({ strokes: [...this.edits.strokes, stroke] });
  }

  #close() {
    if (!this.points || this.points.length < 3) return;
    const points = this.points.filter((p, i) => i === 0 || p[0] !== this.points[i - 1][0] || p[1] !== this.points[i - 1][1]);
    if (points.length < 3) return;
    if (this.tool === "measure") {
      this.points = null;
      this.measured(points);
    } else if (this.tool === "polygon") this.#finish({ strokes: [...this.edits.strokes, { points, erase: false }] });
  }

  async #finish(change) {
    const drawn = this.shown;
    this.points = this.shown = null;
    await this.apply(change);
    drawn?.remove();
  }

  // Keys while drawing: Enter closes a polygon, Escape drops it.
  key(name) {
    if (name === "Enter") this.#close();
    if (name === "Escape") this.#drop();
  }

  #drop() {
    this.points = null;
    this.shown?.remove();
    this.shown = null;
  }

  #show() {
    this.shown?.remove();
    const area = this.tool === "polygon" || this.tool === "measure";
    const width = 2 * this.radius * 2 ** (this.view.map.getZoom() - this.view.info.levels);
    const points = this.points.length === 1 ? [this.points[0], this.points[0]] : this.points;
    const look = area ? { color: "#00e5ff", weight: 2, dashArray: "4 3" } : { color: this.tool === "erase" ? "#ffffff" : "#00e5ff", weight: width, opacity: 0.6 };
    this.shown = (area ? L.polygon : L.polyline)(points, { ...look, interactive: false, fillOpacity: 0.15 }).addTo(this.view.map);
  }
}
