// Places that look like cloud and are not in the mask: looked for by the server, accepted or refused one by one.

import { get, make, number, post, t, watch } from "./api.js";

const $ = id => document.getElementById(id);
const LISTED = 200;

export class Suspects {
  constructor({ view, drawing, say, tried, shown }) {
    Object.assign(this, { view, drawing, say, tried, shown, places: null, version: 0 });
    $("find-suspects").onclick = tried(() => this.search());
  }

  // What is known of a raster; `can` says whether cloud can be looked for in it.
  async open(id, can) {
    this.id = id;
    this.places = null;
    $("suspect-row").hidden = !can;
    if (can) this.places = (await get(`rasters/${id}/suspects`)).places;
    this.version += 1;
    this.show();
  }

  async search() {
    const { id } = this;
    await this.drawing.busy;
    this.say(t("suspects_searching"));
    const job = await post(`rasters/${id}/suspects`);
    await new Promise((done, fail) => watch(job.id, told => {
      if (told.total) this.say(`${t("suspects_searching")} ${Math.round(100 * told.done / told.total)} %`);
      if (told.state === "done") done();
      else if (!["queued", "running"].includes(told.state)) fail(new Error(told.error ?? told.state));
    }));
    this.say("");
    if (id !== this.id) return;
    await this.drawing.open(id); // the server forgot what was accepted or refused before
    if (id === this.id) await this.open(id, true); // last, so that no click in the new list is lost
    this.drawing.use(this.places.length ? "suspect" : "pan");
    this.shown();
  }

  // accepted, refused or open
  decided(place) {
    const { accepted, refused } = this.drawing.edits;
    return accepted.includes(place) ? "accepted" : refused.includes(place) ? "refused" : "open";
  }

  decide(places, to) {
    const edits = this.drawing.edits, others = key => edits[key].filter(one => !places.includes(one));
    const change = { accepted: others("accepted"), refused: others("refused") };
    if (to !== "open") change[to] = [...change[to], ...places].sort((a, b) => a - b);
    return this.drawing.apply(change);
  }

  // A click on the image: open, accepted, refused, open.
  pick([row, col]) {
    const place = this.view.values("suspect", Math.floor(row), Math.floor(col))?.suspect;
    if (place > 0) this.decide([place], { open: "accepted", accepted: "refused", refused: "open" }[this.decided(place)]);
  }

  show() {
    const places = this.places ?? [];
    for (const node of document.querySelectorAll("[data-tool=suspect]")) node.hidden = !places.length;
    this.view.set("suspect", places.length ? { id: this.id, bands: ["suspect"], info: this.view.info, paint: this.painter(), version: this.version } : null);
    this.list();
  }

  list() {
    const places = this.places ?? [], all = places.map(place => place.number);
    if (this.places === null) return $("suspects").replaceChildren();
    const button = (key, does, pressed) => {
      const made = make("button", { textContent: t(key), onclick: event => { event.stopPropagation(); does(); } });
      if (pressed !== undefined) made.setAttribute("aria-pressed", pressed);
      return made;
    };
    const rows = places.slice(0, LISTED).map(place => {
      const now = this.decided(place.number), toggle = to => this.decide([place.number], now === to ? "open" : to);
      const row = make("tr", { tabIndex: 0 }, ...[place.number, place.pixels, place.colder === null ? "" : number(place.colder, 1)].map(text => make("td", { textContent: text })),
        make("td", {}, button("accept", () => toggle("accepted"), now === "accepted"), " ", button("refuse", () => toggle("refused"), now === "refused")));
      const [top, left, bottom, right] = place.box;
      row.onclick = () => this.view.map.fitBounds([[top, left], [bottom, right]], { padding: [80, 80], maxZoom: this.view.info.levels + 2 });
      row.onkeydown = event => { if (event.key === "Enter" && event.target === row) row.onclick(); };
      return row;
    });
    const head = make("tr", {}, ...["№", t("pixels"), t("suspects_colder"), ""].map(text => make("th", { textContent: text })));
    const scrolled = $("suspects").querySelector(".table")?.scrollTop ?? 0;
    $("suspects").replaceChildren(make("p", { className: "quiet", textContent: t(places.length ? "suspects_told" : "suspects_none", places.length) }),
      ...(places.length ? [
        make("div", { className: "row" }, button("accept_all", () => this.decide(all, "accepted")), button("refuse_all", () => this.decide(all, "refused"))),
        make("div", { className: "table" }, make("table", {}, make("thead", {}, head), make("tbody", {}, ...rows)))] : []));
    const table = $("suspects").querySelector(".table");
    if (table) table.scrollTop = scrolled;
  }

  // Undecided places are magenta, refused ones a grey outline; accepted ones are in the mask and get a white outline.
  painter() {
    return (planes, pixels, count) => {
      const values = planes.suspect, side = Math.sqrt(count), accepted = new Set(this.drawing.edits?.accepted), refused = new Set(this.drawing.edits?.refused);
      for (let i = 0; i < count; i++) {
        const place = values[i];
        if (!(place > 0)) continue;
        const edge = values[i - 1] !== place || values[i + 1] !== place || values[i - side] !== place || values[i + side] !== place;
        if (refused.has(place)) { if (edge) pixels.set([150, 150, 150, 255], 4 * i); }
        else if (accepted.has(place)) { if (edge) pixels.set([255, 255, 255, 255], 4 * i); }
        else pixels.set(edge ? [255, 0, 200, 255] : [255, 0, 200, 110], 4 * i);
      }
    };
  }

  // The edits changed.
  repaint() {
    if (!this.places) return;
    this.view.layers.suspect?.shown?.repaint?.();
    this.list();
  }
}
