// What a job gave: downloads, sigma and threshold sliders, areas, lakes, samples.

import { address, get, make, number, post, t } from "./api.js";
import { CHANGES } from "./colours.js";

const $ = id => document.getElementById(id);
let page; // what main.js shares

export const results = {
  wire(shared) { page = shared; },

  show(job) {
    $("result").hidden = false;
    const kinds = { fill: filled, water, picture, face: picture };
    $("result-body").replaceChildren(...kinds[job.kind](job));
    const size = bytes => bytes < 1e6 ? `${number(bytes / 1e3, 0)} kB` : `${number(bytes / 1e6, 1)} MB`;
    const names = job.window ? [] : job.results.filter(one => !one.name.startsWith("mask."));
    $("downloads").replaceChildren(...names.map(one => make("li", {},
      make("a", { href: address(`jobs/${job.id}/results/${one.name}`), download: one.name, textContent: one.name }), ` ${size(one.bytes)}`)));
  },

  // The picture that is shown.
  sample: () => address(`jobs/${page.state.result.id}/results/${page.state.sampleName}`),

  async measure(points) {
    const { state } = page;
    try {
      const told = await post(`rasters/${state.result.id}/zonal`, { polygon: points });
      const kelvin = told.units === "K";
      const unit = kelvin ? "°C" : told.units;
      $("zone").textContent = t("zone", number(kelvin ? told.mean - 273.15 : told.mean), number(told.sigma), unit, number(100 * told.filled_share, 1), told.pixels);
    } catch (error) { page.say(error.message, true); }
    page.useTool("pan");
  },
};

const slider = (key, properties, text, moved) => {
  const output = make("output", { textContent: text() }), input = make("input", { type: "range", ...properties, id: key });
  input.oninput = () => { moved(Number(input.value)); output.textContent = text(); };
  return make("label", { className: "row" }, make("span", { textContent: t(key) }), input, output);
};

function filled(job) {
  const { state } = page, body = [], pixels = job.record.pixels;
  if (pixels) body.push(make("p", { className: "quiet", textContent: t("filled_told", pixels.filled, number(100 * job.record.gap_share, 1), number(job.record.seconds, 0)) }));
  for (const note of [...(job.record.product?.notes ?? []), ...(job.record.notes ?? [])]) body.push(make("p", { className: "quiet", textContent: note }));
  if (pixels?.filled) {
    const most = Math.max(0.1, (job.view.range.sigma?.[1] ?? 1) * 1.5);
    state.most_sigma = Infinity;
    body.push(slider("hide_sigma", { min: 0, max: 100, value: 100 },
      () => state.most_sigma === Infinity ? t("none") : `${number(state.most_sigma)} ${job.view.units.value}`,
      value => { state.most_sigma = value === 100 ? Infinity : most * value / 100; page.repaint(); }));
  }
  if (job.results.some(one => one.name === "filled_realisations.tif")) {
    body.push(make("div", { className: "row" },
      make("button", { id: "measure", textContent: t("measure"), onclick: () => { page.useTool("measure"); $("zone").textContent = t("measure_help"); } })),
    make("p", { id: "zone", className: "quiet" }));
  }
  return body;
}

// Water on several dates: a row for each, and the colours of what changed.
function changed(job) {
  const metres = "water_m2" in job.record.dates[0], unit = metres ? "m2" : "pixels";
  const area = value => value === null ? "" : metres ? number(value / 1e6, 4) : number(value, 0);
  const cells = (tag, texts) => make("tr", {}, ...texts.map(text => make(tag, { textContent: text })));
  const head = cells("th", [t("date"), `${t("water")}, ${metres ? "km²" : "px"}`, t("change_gained"), t("change_lost")]);
  const rows = job.record.dates.map(one => cells("td", [one.date ?? one.image, area(one[`water_${unit}`]), area(one[`gained_${unit}`]), area(one[`lost_${unit}`])]));
  const keys = [[2, "change_gained"], [3, "change_lost"], [1, "change_both"]].map(([kind, key]) => {
    const swatch = make("i", { className: "swatch" });
    swatch.style.background = `rgb(${CHANGES[kind].slice(0, 3).join()})`;
    return make("span", {}, swatch, ` ${t(key)}`);
  });
  return [make("div", { className: "row" }, ...keys), make("div", { className: "table" }, make("table", { id: "dates" }, make("thead", {}, head), make("tbody", {}, ...rows))),
    ...job.record.notes.map(note => make("p", { className: "quiet", textContent: note }))];
}

function water(job) {
  if (job.references.length) return changed(job);
  const { state } = page, lakes = make("div", { id: "lakes" });
  let timer;
  const list = () => {
    clearTimeout(timer);
    timer = setTimeout(page.tried(async () => {
      const told = await get(`rasters/${job.id}/lakes?threshold=${state.threshold}`);
      const metres = told.unit === "m2", area = value => metres ? number(value / 1e6, 4) : number(value, 0);
      const rows = told.lakes.map(lake => {
        const row = make("tr", { tabIndex: 0 }, ...[lake.id, area(lake.area), number(lake.probability)].map(text => make("td", { textContent: text })));
        const [top, left, bottom, right] = lake.box, [r, c] = job.view.origin ?? [0, 0];
        row.onclick = () => page.view.map.fitBounds([[top + r, left + c], [bottom + r, right + c]], { padding: [40, 40] });
        row.onkeydown = event => { if (event.key === "Enter") row.onclick(); };
        return row;
      });
      const head = make("tr", {}, ...["№", metres ? "km²" : "px", t("layer_probability")].map(text => make("th", { textContent: text })));
      lakes.replaceChildren(make("p", { className: "quiet", textContent: t("lakes_told", told.count, area(told.total), metres ? "km²" : "px") }),
        make("div", { className: "table" }, make("table", {}, make("thead", {}, head), make("tbody", {}, ...rows))));
    }), 250);
  };
  list();
  return [
    slider("threshold", { min: 2, max: 98, value: Math.round(100 * state.threshold) }, () => number(state.threshold),
      value => { state.threshold = value / 100; page.repaint(); list(); page.askCommand(); }),
    lakes,
    ...(job.window ? [] : [make("p", { className: "quiet", textContent: t("files_threshold", number(job.options.threshold)) })]),
  ];
}

function picture(job) {
  const { state } = page, names = job.results.map(one => one.name).filter(name => /^filled(_\d+)?\.png$/.test(name));
  names.sort((a, b) => parseInt(a.slice(7)) - parseInt(b.slice(7)));
  state.sampleName = names[0];
  const strip = make("div", { className: "strip" }, ...names.map((name, i) => make("button", {
    onclick: () => { state.sampleName = name; page.showLayer("sample"); },
  }, make("img", { src: address(`jobs/${job.id}/results/${name}`), alt: `${t("sample")} ${i + 1}` }), String(i + 1))));
  if (names.length > 1) meanAndSpread([...strip.querySelectorAll("img")]).then(made => strip.append(...made));
  return [make("p", { className: "quiet", textContent: t("picture_told", job.record.pixels_filled, number(job.record.seconds, 0)) }), strip];
}

// Thumbnails of the mean of the samples and of their spread, brighter where they differ more.
async function meanAndSpread(images) {
  await Promise.all(images.map(image => image.decode()));
  const width = Math.min(400, images[0].naturalWidth), height = Math.round(width * images[0].naturalHeight / images[0].naturalWidth);
  const canvas = () => make("canvas", { width, height });
  const stacks = images.map(image => {
    const context = canvas().getContext("2d", { willReadFrequently: true });
    context.drawImage(image, 0, 0, width, height);
    return context.getImageData(0, 0, width, height).data;
  });
  const mean = new ImageData(width, height), spread = new ImageData(width, height);
  for (let i = 0; i < mean.data.length; i++) {
    const values = stacks.map(stack => stack[i]), middle = values.reduce((a, b) => a + b) / values.length;
    const alpha = i % 4 === 3;
    mean.data[i] = middle;
    spread.data[i] = alpha ? 255 : Math.min(255, 4 * Math.sqrt(values.reduce((a, b) => a + (b - middle) ** 2, 0) / (values.length - 1)));
  }
  return [[mean, "mean"], [spread, "spread"]].map(([data, key]) => {
    const drawn = canvas();
    drawn.getContext("2d").putImageData(data, 0, 0);
    return make("figure", {}, drawn, t(key));
  });
}
